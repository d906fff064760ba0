r"""Whether a validation part stands for the test part it was made to choose for.

The items a user was asked for were drawn, or chosen, among all her items. Where they were drawn at
random, the number of users who are asked for an item varies as coins do; where it varies more,
something else decided (time, or popularity at the time), and a part drawn at random ranks models by
another question.
"""

from dataclasses import asdict, dataclass
from typing import final

import numpy as np
from jaxtyping import Int64
from scipy.sparse import csr_array

from recae.data.interactions import Interactions
from recae.data.split import HeldOut
from recae.evaluation.segments import POPULARITY_GROUPS, popularity_groups

_NOT_KEPT = 1e-3  # a chance that biases no figure here
_Z = 4.0  # standard errors that chance passes once in 15,000 splits
_MATTERS = 0.1  # a smaller difference is nothing to warn about
_QUANTILES = (0.1, 0.5, 0.9)


@final
@dataclass(frozen=True, slots=True)
class Dispersion:
    """How much held-out counts of items vary, in units of what a random draw would give.

    Attributes
    ----------
    value
        Chi-square over degrees of freedom: 1 on average for a draw at random inside each user.
    se
        Standard error of `value` were it such a draw.
    items
        Degrees of freedom: items that could have been drawn and could have been left, and are in
        the vocabulary either way.
    """

    value: float
    se: float
    items: int


def dispersion(
    pool: csr_array,
    target: csr_array,
    *,
    lost: Int64[np.ndarray, " users"] | None = None,
    kept: Int64[np.ndarray, " users"] | None = None,
) -> Dispersion:
    r"""Chi-square over degrees of freedom of each item's held-out count.

    A user with :math:`n_u` items, :math:`m_u` of them targets, is asked for each with probability
    :math:`p_u = m_u / n_u`, if they were drawn at random. Item :math:`j` is then a target of
    :math:`e_j = \sum_u p_u` users on average, over those who have it, with variance
    :math:`v_j = \sum_u p_u (1 - p_u)`; the value is the mean of :math:`(c_j - e_j)^2 / v_j` over
    items with :math:`v_j > 0`. Every term has mean 1 under the draw, whatever the counts.

    Where the same users are trained on, an item of which nobody's interaction was kept for that has
    left the vocabulary, and a rare item is here because it was drawn too seldom. Items that had a
    chance of one in a thousand to be lost so are not judged (nor are those that were).

    Parameters
    ----------
    pool
        What targets were drawn from, themselves included, shape ``(users, items)``.
    target
        What was drawn, same shape, inside `pool`.
    lost
        For each user, what was drawn and has left the vocabulary; it counts in :math:`m_u` and
        :math:`n_u`. None: nothing.
    kept
        For each user, interactions of the training part. None: these users are not trained on, and
        the vocabulary does not depend on what is drawn from them.

    Notes
    -----
    The standard error takes items as independent. Without such an item value and error are NaN.

    Examples
    --------
    Two people with the same two items are asked for the same one.

    >>> both = csr_array(np.ones((2, 2), dtype=np.float32))
    >>> dispersion(both, csr_array(np.float32([[1, 0], [1, 0]]))).value
    2.0
    """
    sizes = np.diff(pool.indptr)
    drawn = np.diff(target.indptr)
    gone = np.zeros_like(drawn) if lost is None else lost
    whole = np.maximum(sizes + gone, 1)
    p = (drawn + gone) / whole
    n_items = int(pool.shape[1])

    def over_users(values: np.ndarray) -> np.ndarray:
        spread = np.repeat(values, sizes)
        return np.bincount(pool.indices, weights=spread, minlength=n_items)

    pq = p * (1 - p)
    expected, variance, fourth = (over_users(v) for v in (p, pq, pq * (1 - 6 * pq)))
    found = np.bincount(target.indices, minlength=n_items)
    free = variance > 0
    if kept is not None:
        with np.errstate(divide="ignore"):  # the logarithm of a user of whom nothing is held out
            free &= over_users(np.log(np.maximum(1 - kept / whole, 0))) <= np.log(_NOT_KEPT)
    n = int(free.sum())
    if not n:
        return Dispersion(float("nan"), float("nan"), 0)
    terms = (found[free] - expected[free]) ** 2 / variance[free]
    # variance of a term: 2 for a normal count, and the fourth cumulant of a sum of coins
    se = np.sqrt((2 + fourth[free] / variance[free] ** 2).sum()) / n
    return Dispersion(float(terms.mean()), float(se), n)


@final
@dataclass(frozen=True, slots=True)
class Part:
    """What a held-out part asks, in a few numbers.

    Attributes
    ----------
    users, targets
        Users with a target, and targets of all.
    dispersion
        See `dispersion`; the pool is what a user is shown, asked and kept from listing.
    history
        Quantiles (.1, .5, .9) over these users of the number of items they are shown.
    targets_each
        The same of the number of targets.
    popularity
        Share of the targets in each of `POPULARITY_GROUPS`, thirds of the training interactions.
    """

    users: int
    targets: int
    dispersion: Dispersion
    history: tuple[float, ...]
    targets_each: tuple[float, ...]
    popularity: tuple[float, ...]


@final
@dataclass(frozen=True, slots=True)
class PartsCompared:
    """The validation part beside the test part; None where there is none.

    Attributes
    ----------
    validation, test
        The parts.
    """

    validation: Part | None
    test: Part | None

    def __str__(self) -> str:
        return sentence(self)

    def to_json(self) -> dict[str, object]:
        """As JSON values, with what they mean in words."""
        out: dict[str, object] = {"meaning": sentence(self)}
        for name in ("validation", "test"):
            part: Part | None = getattr(self, name)
            out[name] = None if part is None else asdict(part) | _named(part)
            if part is not None and not part.dispersion.items:  # no number, which JSON cannot say
                out[name] = {**asdict(part), **_named(part), "dispersion": None}
        return out


def compare_parts(
    train: Interactions, validation: HeldOut | None, test: HeldOut | None
) -> PartsCompared:
    """Compare two held-out parts of one split; no model is asked.

    Parameters
    ----------
    train
        Training part; its counts say which items are popular.
    validation, test
        The parts, over the same items.
    """
    counts = np.bincount(train.matrix.indices, minlength=train.n_items).astype(np.int64)
    groups = popularity_groups(counts)
    parts = [None if held is None else _part(train, held, groups) for held in (validation, test)]
    return PartsCompared(*parts)


def _part(train: Interactions, held_out: HeldOut, groups: np.ndarray) -> Part:
    target = held_out.target
    kept = lost = None
    ids = held_out.users.ids_at(range(len(held_out)))
    rows = np.array([user in train.users for user in ids], dtype=bool)
    if rows.any():  # the vocabulary is what the draw left of these users' items
        lost = held_out.unreachable
        kept = np.zeros(len(held_out), dtype=np.int64)
        in_train = train.users.indices_of(id_ for id_, row in zip(ids, rows, strict=True) if row)
        kept[rows] = np.diff(train.matrix.indptr)[in_train]
    pool: csr_array = (held_out.fold_in.matrix + target).tocsr()
    if held_out.exclude is not None:
        pool = (pool + held_out.exclude.matrix).tocsr()
    each = np.diff(target.indptr)
    asked = each > 0
    shown = np.diff(held_out.fold_in.matrix.indptr)[asked]
    in_group = np.bincount(groups[target.indices], minlength=len(POPULARITY_GROUPS))
    return Part(
        users=int(asked.sum()),
        targets=int(target.nnz),
        dispersion=dispersion(pool, target, lost=lost, kept=kept),
        history=_quantiles(shown),
        targets_each=_quantiles(each[asked]),
        popularity=tuple((in_group / max(1, target.nnz)).tolist()),
    )


def _quantiles(values: np.ndarray) -> tuple[float, ...]:
    return tuple(np.quantile(values, _QUANTILES).tolist()) if len(values) else ()


def _named(part: Part) -> dict[str, object]:
    return {"popularity": dict(zip(POPULARITY_GROUPS, part.popularity, strict=True))}


def sentence(parts: PartsCompared) -> str:
    """Say in plain words whether the validation part stands for the test part."""
    validation, test = parts.validation, parts.test
    if test is None:
        return "There is no test part that could be compared with a validation part."
    if not test.dispersion.items:
        return "Of the test users every item is asked for, or none: nothing was drawn at random."
    if validation is None or not validation.dispersion.items:
        found = f"a dispersion of {test.dispersion.value:.2f}, where a draw at random gives 1"
        if _alike(test.dispersion, Dispersion(1.0, 0.0, 1)):
            return (
                f"The test items look drawn at random among each user's ({found}), as a validation"
                " part cut at random would be."
            )
        return (
            f"The test items were not drawn at random among each user's ({found}): a validation"
            " part cut at random would not stand for them, and what does best on it need not do"
            " best on the test part."
        )
    found = (
        f"dispersion {validation.dispersion.value:.2f} and {test.dispersion.value:.2f}, where a"
        " draw at random gives 1"
    )
    differ = []
    if not _alike(validation.dispersion, test.dispersion):
        differ.append(f"their items were drawn in different ways ({found})")
    heads = [part.popularity[0] for part in (validation, test)]
    if abs(heads[0] - heads[1]) > _MATTERS:
        differ.append(
            f"{heads[0]:.0%} and {heads[1]:.0%} of their items are among the most popular"
        )
    medians = [part.history[1] for part in (validation, test)]
    if min(medians) < (1 - 2 * _MATTERS) * max(medians):
        differ.append(f"their users have {medians[0]:g} and {medians[1]:g} items, as a median")
    if not differ:
        return (
            f"The validation part looks like the test part ({found}): nothing here speaks against"
            " choosing by it."
        )
    return (
        f"The validation part does not stand for the test part: {'; '.join(differ)}. What does best"
        " on the one need not do best on the other."
    )


def _alike(one: Dispersion, other: Dispersion) -> bool:
    chance = _Z * float(np.hypot(one.se, other.se))
    return abs(one.value - other.value) <= max(_MATTERS, chance)
