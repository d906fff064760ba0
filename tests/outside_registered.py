"""What ``recae --import tests.outside_registered`` runs."""

import recae
from tests.outside import Together

recae.register(Together)
