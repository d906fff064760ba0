"""What ``recae --import tests.toy_registered`` runs."""

from recae.models.registry import register
from tests.toy import Toy

register(Toy)
