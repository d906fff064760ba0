"""`SparseBatch`: the histories of one step, as lists of item indices on the device."""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from scipy.sparse import csr_array
from torch import Tensor


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
    weights
        Share of each row in a mean over the batch, where rows of padding have none; None is equal
        shares.
    drawn
        Values of the entries after dropout, where they were drawn with the batch.
    """

    items: Int[Tensor, " nnz"]
    offsets: Int64[Tensor, " batch"]
    lengths: Int64[Tensor, " batch"]
    n_items: int
    weights: Float[Tensor, " batch"] | None = None
    drawn: Float[Tensor, " nnz"] | None = None

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

    def dense(self, values: Float[Tensor, " nnz"]) -> Float[Tensor, "batch items"]:
        """Rows with all their zeros, `values` at the entries."""
        rows = values.new_zeros(len(self), self.n_items)
        rows[self.rows(), self.items] = values
        return rows

    def mean(self, values: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Mean of a number of each row."""
        return values.mean() if self.weights is None else (values * self.weights).sum()
