"""Training rows on the device: an epoch's order, and the batch of any step."""

from collections.abc import Iterator
from typing import final

import numpy as np
import torch
from jaxtyping import Int64

from recae.data.histories import Histories
from recae.networks.batch import Batch, Slice

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
    """Histories, resident on a device, handed out in batches.

    Parameters
    ----------
    histories
        Stored values count as 1.
    device
        Where the rows live.
    ordered
        Whether the items of a history come in time order; ascending otherwise.
    """

    def __init__(
        self, histories: Histories, device: torch.device, *, ordered: bool = False
    ) -> None:
        matrix = histories.matrix
        self.n_users, self.n_items = (int(n) for n in matrix.shape)
        items = histories.in_time() if ordered else matrix.indices
        self._items = torch.from_numpy(items.astype(np.int64)).to(device)
        # Starts and lengths stay with the host, which never has to ask the device for a size.
        self._starts = matrix.indptr[:-1].astype(np.int64)
        self._lengths = np.diff(matrix.indptr).astype(np.int64)

    def batch(self, users: Int64[np.ndarray, " batch"], n_slices: int = 1) -> list[Batch]:
        """Rows of `users`, in that order, in `n_slices` slices of nearly as many users each."""
        lengths = self._lengths[users]
        offsets = np.cumsum(lengths) - lengths
        slices = []
        for part in np.array_split(np.arange(len(users)), n_slices):
            rows = slice(int(part[0]), int(part[-1]) + 1)
            first, n_entries = int(offsets[rows.start]), int(lengths[rows].sum())
            within = Slice(rows.start, first, len(users), int(lengths.sum()))
            slices.append(
                self._gathered(
                    self._starts[users[rows]],
                    lengths[rows],
                    n_entries,
                    within if n_slices > 1 else None,
                )
            )
        return slices

    def _gathered(
        self, starts: np.ndarray, lengths: np.ndarray, n_entries: int, within: Slice | None
    ) -> Batch:
        device = self._items.device
        on_device = torch.from_numpy(np.stack([starts, lengths])).to(device, non_blocking=True)
        first, count = on_device  # (batch,)
        offsets = count.cumsum(0) - count
        shift = torch.repeat_interleave(first - offsets, count, output_size=n_entries)
        entries = torch.arange(n_entries, device=device) + shift
        return Batch(self._items[entries], offsets, count, self.n_items, within=within)

    def epoch(
        self, seed: int, epoch: int, batch_size: int, n_slices: int = 1, *, after: int = 0
    ) -> Iterator[list[Batch]]:
        """All rows once, in the order of `epoch`; the last batch may be short.

        The first `after` batches are left out.

        A batch has at most `n_slices` slices, and never more slices than users.
        """
        users = epoch_order(seed, epoch, self.n_users)
        for start in range(after * batch_size, self.n_users, batch_size):
            batch = users[start : start + batch_size]
            yield self.batch(batch, min(n_slices, len(batch)))
