"""The vector of a history under BPR: the minimum of its own part of the loss."""

import numpy as np
from jaxtyping import Float32, Float64, Int64
from scipy.sparse import csr_array
from scipy.special import expit, log_expit

from recae.models.implicit_fit import one_blas_thread

N_DRAWS = 256  # four times as many find vectors that are no better
ENOUGH = 1e-8  # fall of the loss below which a step is the last one
MAX_STEPS = 100


def even_draws(weights: Float64[np.ndarray, " items"], n: int) -> Int64[np.ndarray, " n"]:
    """`n` items that occur as often as `weights` ask for, at even steps of their running sum."""
    ends = np.cumsum(weights)
    drawn: np.ndarray = np.searchsorted(ends, (np.arange(n) + 0.5) / n * ends[-1], side="right")
    return drawn


def pairwise_users(
    x: csr_array,
    items: Float32[np.ndarray, "items factors"],
    bias: Float32[np.ndarray, " items"],
    disliked: Int64[np.ndarray, " draws"],
    *,
    ridge: float,
) -> Float64[np.ndarray, "users factors"]:
    """Find the ``w`` of each row of `x` that minimises BPR's loss, the items' part of it given.

    ``mean_ij -log sigmoid(w . (y_i - y_j) + b_i - b_j) + ridge / 2 |w|**2``, the mean over the
    items ``i`` of the row and those ``j`` of `disliked` that are not in it. One user at a time, in
    float64, on one thread: the bits of a row's vector depend on that row alone.

    Parameters
    ----------
    x
        Histories; values are ignored.
    items, bias
        Vector and bias of each item.
    disliked
        Items that stand for all draws; one may be there more than once.
    ridge
        Above 0.

    Returns
    -------
    Shape ``(users, factors)``; 0 for a history that is empty or leaves no item to dislike.

    References
    ----------
    Rendle et al., UAI 2009, sec. 4.1, for one user; sec. 4.2 draws the pairs that are added here.
    """
    out = np.zeros((x.shape[0], items.shape[1]))
    offsets = bias.astype(np.float64)
    with one_blas_thread():
        for row in range(len(out)):
            liked = x.indices[x.indptr[row] : x.indptr[row + 1]]
            others = disliked[np.isin(disliked, liked, invert=True)]
            if len(liked) and len(others):
                y, z = items[liked].astype(np.float64), items[others].astype(np.float64)
                margins = np.subtract.outer(offsets[liked], offsets[others])
                out[row] = _minimum(y, z, margins, ridge)
    return out


def _minimum(
    liked: Float64[np.ndarray, "liked factors"],
    disliked: Float64[np.ndarray, "disliked factors"],
    margins: Float64[np.ndarray, "liked disliked"],
    ridge: float,
) -> Float64[np.ndarray, " factors"]:
    """Newton's method; a step is halved until the loss falls (Boyd 2004, alg. 9.5)."""
    w = np.zeros(liked.shape[1])
    differences = margins
    loss = -log_expit(differences).mean()
    for _ in range(MAX_STEPS):
        lost = expit(-differences)
        slope = ridge * w
        slope -= (lost.sum(axis=1) @ liked - lost.sum(axis=0) @ disliked) / lost.size
        curved = lost * (1 - lost) / lost.size
        mixed = liked.T @ (curved @ disliked)
        hessian = (liked.T * curved.sum(axis=1)) @ liked - mixed - mixed.T
        hessian += (disliked.T * curved.sum(axis=0)) @ disliked
        hessian[np.diag_indices(len(w))] += ridge
        step = np.linalg.solve(hessian, slope)
        gain = float(slope @ step)
        if gain < ENOUGH:  # it converges quadratically: after this step the slope is next to 0
            return w - step
        found = np.inf
        while found > loss - 0.1 * gain and gain >= ENOUGH:
            tried = w - step
            differences = np.subtract.outer(liked @ tried, disliked @ tried) + margins
            found = -log_expit(differences).mean() + ridge / 2 * (tried @ tried)
            step, gain = step / 2, gain / 2
        w, loss = tried, found
    return w
