"""Which items can be among the best `k`: all whose score reaches a floor, found by group maxima.

Items are dealt into groups, and only the largest score of each group is looked at first. The k-th
largest of these maxima is at most the k-th largest score of all, and a score that reaches the floor
makes the maximum of its group reach it. So both steps are exact, whatever the groups are, and most
scores are read once, by a maximum that runs at the speed of memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from recae.errors import RecaeError

_LARGEST = 16  # items of a group: more are slow to look at again, fewer have many maxima to sort
_FEW = 65_536  # scores that are looked at one by one
_EXPANDED = 2_097_152  # scores of groups looked at again at once


@final
@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Scores of a block of items and the maxima of their groups.

    Attributes
    ----------
    scores
        Shape ``(users, items)``.
    maxima
        Largest score of each group, float32, shape ``(users, groups)``.
    size
        Neighbouring items of a group; the last may have fewer.
    """

    scores: Float[Tensor, "users items"]
    maxima: Float[Tensor, "users groups"]
    size: int

    @classmethod
    def of(cls, scores: Float[Tensor, "users items"], k: int) -> "Groups":
        """Deal `scores` into groups of a size that suits lists of `k`.

        Raises
        ------
        RecaeError
            If a score is NaN or positive infinity; minus infinity marks items left out.
        """
        n_users, n_items = scores.shape
        if scores.numel() <= _FEW and scores.dtype == torch.float32:  # as they are: groups of one
            return cls(scores, _finite(scores), 1)
        size = max(1, min(_LARGEST, 1 << max(1, n_items // (4 * k)).bit_length() - 1))
        n_whole = n_items // size * size
        whole, rest = scores[:, :n_whole], scores[:, n_whole:]
        if scores.stride(0) == 1:  # users side by side: the maximum is fast in the memory's order
            maxima = whole.T.reshape(-1, size, n_users).amax(dim=1).T
        else:
            maxima = whole.reshape(n_users, -1, size).amax(dim=2)
        if n_whole < n_items:
            maxima = torch.cat([maxima, rest.amax(dim=1, keepdim=True)], dim=1)
        return cls(scores, _finite(maxima.to(torch.float32).contiguous()), size)

    def kth(self, k: int) -> Float64[np.ndarray, " users"]:
        """A number that at least `k` scores reach, near the largest such; ``-inf`` if none."""
        if self.maxima.shape[1] < k:
            return np.full(len(self.maxima), -np.inf)
        lowest = torch.topk(self.maxima, k, dim=1, sorted=False).values.amin(dim=1)
        found: np.ndarray = lowest.cpu().numpy().astype(np.float64)
        return found

    def reaching(
        self, floor: Float64[np.ndarray, " users"]
    ) -> Iterator[tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]]:
        """Users and items of the finite scores that are at least `floor`, ordered by user.

        A part at a time: all pairs of a user come in one part.
        """
        size = self.size
        least = _below(floor).to(self.maxima.device)
        hits = (self.maxima >= least[:, None]) & (self.maxima > -torch.inf)
        if size == 1:
            user, item = torch.nonzero(hits, as_tuple=True)
            if len(user):
                yield user.cpu().numpy(), item.cpu().numpy()
            return
        n_users, n_items = self.scores.shape
        across = self.scores.stride(0) == 1
        flat = (self.scores.T if across else self.scores).reshape(-1)
        by_user, by_item = (1, n_users) if across else (n_items, 1)
        ends = (hits.sum(dim=1) * size).cumsum(0).cpu().numpy()
        start = 0
        steps = torch.arange(size, device=hits.device) * by_item
        while start < n_users:
            done = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + _EXPANDED, side="right")))
            user, group = torch.nonzero(hits[start:stop], as_tuple=True)
            user += start
            places = (user * by_user + group * (size * by_item))[:, None] + steps
            if n_items % size:  # the last group ends early; what is read instead is dropped below
                places.clamp_(max=len(flat) - 1)
            found = flat.index_select(0, places.view(-1)).view(-1, size).to(torch.float32)
            there = (found >= least[user][:, None]) & (found > -torch.inf)
            pair, step = torch.nonzero(there, as_tuple=True)
            user, item = user[pair], group[pair] * size + step
            if n_items % size:
                user, item = user[item < n_items], item[item < n_items]
            if len(user):
                yield user.cpu().numpy(), item.cpu().numpy()
            start = stop


def _below(values: Float64[np.ndarray, " n"]) -> Float[Tensor, " n"]:
    """Largest float32 numbers that are at most `values`."""
    near = values.astype(np.float32)
    lower = np.nextafter(near, np.float32(-np.inf))
    return torch.from_numpy(np.where(near > values, lower, near))


def _finite(maxima: Float[Tensor, "users groups"]) -> Float[Tensor, "users groups"]:
    """`maxima`, refused where one is NaN or positive infinity."""
    if not bool((maxima < torch.inf).all()):
        raise RecaeError("a model gave scores that are not finite")
    return maxima
