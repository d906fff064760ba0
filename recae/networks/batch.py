"""`SparseBatch`: the histories of one step, as lists of item indices on the device."""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64
from scipy.sparse import csr_array
from torch import Tensor


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
class SparseBatch:
    """Binary rows, stored as the items of each.

    Attributes
    ----------
    items
        Item indices, row after row, shape ``(nnz,)``.
    offsets
        Where each row starts in `items`, shape ``(batch,)``.
    lengths
        Number of items of each row, shape ``(batch,)``; 0 is legal.
    n_items
        Number of columns.
    within
        The place of these rows in the batch they are a slice of; None is the whole batch.
    """

    items: Int[Tensor, " nnz"]
    offsets: Int64[Tensor, " batch"]
    lengths: Int64[Tensor, " batch"]
    n_items: int
    within: Slice | None = None

    @classmethod
    def from_csr(cls, matrix: csr_array, *, device: torch.device | str = "cpu") -> "SparseBatch":
        """Rows of a canonical CSR matrix; stored values count as 1."""
        indptr = torch.from_numpy(matrix.indptr.astype(np.int64))
        items = torch.from_numpy(matrix.indices.astype(np.int64))
        return cls(
            items.to(device),
            indptr[:-1].clone().to(device),
            indptr.diff().to(device),
            int(matrix.shape[1]),
        )

    def __len__(self) -> int:
        return len(self.offsets)

    def rows(self) -> Int64[Tensor, " nnz"]:
        """Row number of each entry of `items`."""
        numbers = torch.arange(len(self), device=self.items.device)
        return torch.repeat_interleave(numbers, self.lengths, output_size=len(self.items))

    def normalised(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, " nnz"]:
        """Value of each entry after dividing its row by its L2 norm: ``1 / sqrt(length)``."""
        return torch.rsqrt(self.lengths.to(dtype)).repeat_interleave(
            self.lengths, output_size=len(self.items)
        )

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
