"""`Batch`: the histories of one step, as lists of item indices on the device."""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int64, Shaped
from torch import Tensor

from recae.data.histories import Histories


@final
@dataclass(frozen=True, slots=True)
class Slice:
    """Where a slice of a batch lies in it.

    Attributes
    ----------
    rows, entries
        First row and first entry of the slice.
    n_rows, n_entries
        Rows and entries of the whole batch.
    """

    rows: int
    entries: int
    n_rows: int
    n_entries: int


@final
@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows, stored as the items of each.

    Attributes
    ----------
    items
        Item indices, row after row, shape ``(nnz,)``; inside a row in time order for models whose
        results depend on it (ties by input row), else ascending.
    offsets
        Where each row starts in `items`, shape ``(batch,)``.
    lengths
        Number of items of each row, shape ``(batch,)``; 0 is legal.
    n_items
        Number of columns.
    values
        Value of each entry, shape ``(nnz,)``; None where all are 1.
    within
        The place of these rows in the batch they are a slice of; None is the whole batch.
    """

    items: Int[Tensor, " nnz"]
    offsets: Int64[Tensor, " batch"]
    lengths: Int64[Tensor, " batch"]
    n_items: int
    values: Float32[Tensor, " nnz"] | None = None
    within: Slice | None = None

    @classmethod
    def of(
        cls, histories: Histories, *, ordered: bool = False, device: torch.device | str = "cpu"
    ) -> "Batch":
        """All rows of `histories`, in time order if `ordered`; stored values count as 1."""
        indptr = histories.matrix.indptr.astype(np.int64)
        listed = histories.in_time() if ordered else histories.matrix.indices
        items, offsets, lengths = (
            torch.from_numpy(part).to(device)
            for part in (listed.astype(np.int64), indptr[:-1].copy(), np.diff(indptr))
        )
        return cls(items, offsets, lengths, histories.n_items)

    def __len__(self) -> int:
        return len(self.offsets)

    def rows(self) -> Int64[Tensor, " nnz"]:
        """Row number of each entry of `items`."""
        numbers = torch.arange(len(self), device=self.items.device)
        return torch.repeat_interleave(numbers, self.lengths, output_size=len(self.items))

    def inverse_norms(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, " batch"]:
        """What divides each binary row by its L2 norm: ``1 / sqrt(length)``; 1 for empty rows."""
        return torch.rsqrt(self.lengths.clamp(min=1).to(dtype))

    def each_entry(self, numbers: Shaped[Tensor, " batch"]) -> Shaped[Tensor, " nnz"]:
        """Number of its row for each entry."""
        return numbers.repeat_interleave(self.lengths, output_size=len(self.items))

    def newest(self) -> "Batch":
        """Last item of each row, the newest where rows are in time order; empty rows stay empty."""
        entries = torch.arange(len(self.items), device=self.items.device)
        return self.only(entries == self.each_entry(self.offsets + self.lengths - 1))

    def only(self, keep: Bool[Tensor, " nnz"]) -> "Batch":
        """Rows with those entries where `keep` is true."""
        lengths = torch.zeros_like(self.lengths).index_add_(0, self.rows(), keep.long())
        values = None if self.values is None else self.values[keep]
        offsets = lengths.cumsum(0) - lengths
        return Batch(self.items[keep], offsets, lengths, self.n_items, values)

    def uniform(self, rng: torch.Generator) -> Float32[Tensor, " nnz"]:
        """Draw a number of ``[0, 1)`` for each entry.

        Slices of a batch draw the numbers of the whole batch and keep their own, so that a step
        draws the same numbers into however many slices it is cut.
        """
        here = self.within or Slice(0, 0, len(self), len(self.items))
        drawn = torch.rand(here.n_entries, generator=rng, device=self.items.device)
        return drawn[here.entries : here.entries + len(self.items)]

    def normal(
        self, width: int, rng: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "batch width"]:
        """Draw `width` standard normal numbers for each row; slices as for `uniform`."""
        here = self.within or Slice(0, 0, len(self), len(self.items))
        drawn = torch.randn(
            here.n_rows, width, generator=rng, device=self.items.device, dtype=dtype
        )
        return drawn[here.rows : here.rows + len(self)]
