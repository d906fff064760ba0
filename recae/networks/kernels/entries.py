"""`Entries`: the histories of a step in arrays of a fixed size; and the numbers drawn for them."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

_WORD = 0xFFFFFFFF


@final
@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """Entries of a batch, user after user, then unused places up to a fixed capacity.

    Attributes
    ----------
    items, rows
        Item and row number in the batch of each entry; 0 in unused places.
    values
        Value of the normalised history after dropout; 0 where dropped or unused.
    keys
        The item where `values` is not 0, else the number of items: what entries are sorted by.
    offsets
        Where each row starts, and where the last one ends, shape ``(batch + 1,)``.
    """

    items: Int32[Tensor, " capacity"]
    rows: Int32[Tensor, " capacity"]
    values: Float[Tensor, " capacity"]
    keys: Int32[Tensor, " capacity"]
    offsets: Int64[Tensor, " ends"]


def philox(
    seed: Int64[Tensor, " one"],
    position: Int64[Tensor, " n"],
    step: Int64[Tensor, " one"],
    purpose: int,
) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    """Two random words of 32 bits for each position; Philox 4x32-10, keyed by `seed`.

    References
    ----------
    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    c0, c1 = position & _WORD, (step & _WORD).expand_as(position)
    c2, c3 = torch.full_like(position, purpose), torch.zeros_like(position)
    k0, k1 = seed & _WORD, (seed >> 32) & _WORD
    for _ in range(10):
        # Products of 64 bits wrap in int64, which leaves all their bits in place.
        low, high = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1 = ((high >> 32) & _WORD) ^ c1 ^ k0, high & _WORD
        c2, c3 = ((low >> 32) & _WORD) ^ c3 ^ k1, low & _WORD
        k0, k1 = (k0 + 0x9E3779B9) & _WORD, (k1 + 0xBB67AE85) & _WORD
    return c0, c1


def uniform(bits: Int64[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Float32 in [0, 1) from 32 random bits: their upper 24."""
    return (bits >> 8).to(torch.float32) / 16777216.0
