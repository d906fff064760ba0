"""Ways to split interactions into what is learned from and what is asked."""

from recae.data.protocols.registry import PROTOCOLS, split

__all__ = ["PROTOCOLS", "split"]
