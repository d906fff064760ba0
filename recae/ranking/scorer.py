"""`Scorer`: what a model says of a batch of histories, fast for all items and exact for some."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

MAX_CELLS = 8_388_608  # scores held at once by the caller's chunk of rows: 32 MiB of float32


def rows_at_once(n_items: int, least: int = 1, *, chunks: int = 1) -> int:
    """Users of each of `chunks` whose scores of all items may be held at once; at least `least`."""
    rows = max(least, min(1024, MAX_CELLS // (chunks * max(1, n_items))))
    return rows if rows < 128 else rows // 64 * 64  # whole vectors where users lie side by side


def item_blocks(n_items: int, n_users: int) -> Iterator[slice]:
    """Blocks of items in ascending order: at most `MAX_CELLS` scores each, or 256 items."""
    at_once = max(256, MAX_CELLS // max(1, n_users))
    for start in range(0, n_items, at_once):
        yield slice(start, min(n_items, start + at_once))


@runtime_checkable
class Scorer(Protocol):
    """Scores of one batch of histories: a fast way to all items, an exact way to some."""

    def blocks(self) -> Iterator[tuple[slice, Float32[Tensor, "users block"]]]:
        """Fast scores of all items, a block of items at a time, on the model's device.

        The blocks cover all items once, in ascending order, as those of `item_blocks` do. The
        caller may overwrite them.
        """
        ...

    def exact(
        self, rows: Int64[np.ndarray, " pairs"], items: Int64[np.ndarray, " pairs"]
    ) -> Float32[np.ndarray, " pairs"]:
        """Scores that rank: of ``items[i]`` for the history ``rows[i]``, rows in ascending order.

        A score depends on its own history and item alone: not on the other rows, the batch, the
        number of threads or the device.
        """
        ...

    def error_bound(self) -> Float64[np.ndarray, " users"]:
        """Upper bound of ``|fast - exact|`` for each history."""
        ...


@final
@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """Fast scores of all items, and how far the exact ones are from them at most.

    Attributes
    ----------
    blocks
        As `Scorer.blocks`; any floating type, any memory layout.
    error
        A number for each history.
    """

    blocks: Iterator[tuple[slice, Float[Tensor, "users block"]]]
    error: Float64[np.ndarray, " users"]

    def certain(self, kth: Float64[np.ndarray, " users"]) -> Float64[np.ndarray, " users"]:
        """What the exact score is at least, where the fast one is at least `kth`."""
        return _rounded_down(kth - self.error)

    def needed(self, exact: Float64[np.ndarray, " users"]) -> Float64[np.ndarray, " users"]:
        """What the fast score is at least, where the exact one is at least `exact`."""
        return _rounded_down(exact - self.error)


@runtime_checkable
class Proposer(Protocol):
    """A `Scorer` that has scores cheaper than those of its `blocks`."""

    def proposals(self) -> Proposals:
        """Scores from which to choose what is scored exactly."""
        ...


@runtime_checkable
class Evident(Protocol):
    """A `Scorer` that tells the items that nothing in a history speaks for or against."""

    def lacking(self) -> Bool[Tensor, "users block"] | None:
        """Where no weight joins the history and an item of the block that came last; None: nowhere.

        Such items are in no list: a score of 0 that nothing was added to is no recommendation.
        """
        ...


def lacking_of(scorer: Scorer) -> Bool[Tensor, "users block"] | None:
    """What `scorer` lacks evidence for; None where it needs none."""
    return scorer.lacking() if hasattr(scorer, "lacking") else None


def proposals_of(scorer: Scorer) -> Proposals:
    """Cheapest scores that `scorer` has of all items."""
    if hasattr(scorer, "proposals"):  # as `Proposer`, whose check takes ten times as long
        found: Proposals = scorer.proposals()
        return found
    return Proposals(scorer.blocks(), scorer.error_bound())


def _rounded_down(values: Float64[np.ndarray, " users"]) -> Float64[np.ndarray, " users"]:
    """The next smaller number: one subtraction in float64 errs by less than the step to it."""
    lower: np.ndarray = np.nextafter(values, -np.inf)
    return lower
