"""Training rows on the device: an epoch's order, and the batch of any step."""

from collections.abc import Iterator
from typing import final

import numpy as np
import torch
from jaxtyping import Int64
from scipy.sparse import csr_array
from torch import Tensor

from recae.networks.batch import SparseBatch

# Purposes of the generators; see `stream`.
WEIGHTS, ORDER, STEP = 0, 1, 2


def stream(seed: int, purpose: int, count: int) -> int:
    """Seed of the generator of one purpose at one epoch or step.

    Every draw is named by (seed, purpose, count), so a run that resumes draws what an
    uninterrupted one would have drawn, and no generator state is stored.
    """
    return int(np.random.SeedSequence([seed, purpose, count]).generate_state(1, np.uint64)[0] >> 1)


def epoch_order(seed: int, epoch: int, n_users: int) -> Int64[np.ndarray, " users"]:
    """Order of the users in `epoch`."""
    return np.random.default_rng(stream(seed, ORDER, epoch)).permutation(n_users)


@final
class DeviceRows:
    """Rows of a CSR matrix, resident on a device, handed out in batches.

    Parameters
    ----------
    matrix
        Canonical CSR, ``(users, items)``; stored values count as 1.
    device
        Where the rows live.
    """

    def __init__(self, matrix: csr_array, device: torch.device) -> None:
        self.n_users, self.n_items = (int(n) for n in matrix.shape)
        self._items = torch.from_numpy(matrix.indices.astype(np.int64)).to(device)
        self._starts = torch.from_numpy(matrix.indptr[:-1].astype(np.int64)).to(device)
        self._lengths = torch.from_numpy(np.diff(matrix.indptr).astype(np.int64)).to(device)
        self._device = device

    def batch(self, users: Int64[Tensor, " batch"]) -> SparseBatch:
        """Rows of `users`, in that order."""
        lengths = self._lengths[users]
        offsets = lengths.cumsum(0) - lengths
        shift = torch.repeat_interleave(self._starts[users] - offsets, lengths)
        entries = torch.arange(len(shift), device=self._device) + shift
        return SparseBatch(self._items[entries], offsets, lengths, self.n_items)

    def epoch(self, seed: int, epoch: int, batch_size: int) -> Iterator[SparseBatch]:
        """All rows once, in the order of `epoch`; the last batch may be short."""
        users = torch.from_numpy(epoch_order(seed, epoch, self.n_users)).to(self._device)
        for start in range(0, self.n_users, batch_size):
            yield self.batch(users[start : start + batch_size])
