"""Bootstrap and sign flips of column means, a resample at a time, so memory stays small."""

import numpy as np
from jaxtyping import Float64

from recae.errors import ConfigError


def bootstrap_means(
    values: Float64[np.ndarray, "users columns"],
    *,
    resamples: int,
    rng: int | np.random.Generator,
) -> Float64[np.ndarray, "resamples columns"]:
    """Means of `resamples` draws of as many users with replacement.

    All columns see the same draws, so differences of columns are bootstrapped in pairs.

    Raises
    ------
    ConfigError
        If `resamples` is below 1.
    """
    generator = _generator(rng, resamples)
    n = len(values)
    out = np.empty((resamples, values.shape[1]))
    for i in range(resamples):
        times_drawn = np.bincount(generator.integers(n, size=n), minlength=n)
        out[i] = times_drawn.astype(np.float64) @ values / n
    return out


def flipped_means(
    values: Float64[np.ndarray, "users columns"],
    *,
    resamples: int,
    rng: int | np.random.Generator,
) -> tuple[Float64[np.ndarray, "drawn columns"], bool]:
    """Means after random sign flips, the same for all columns; and whether these are all flips.

    With no more than `resamples` ways to flip, every way is taken once.

    Raises
    ------
    ConfigError
        If `resamples` is below 1.
    """
    generator = _generator(rng, resamples)
    n = len(values)
    complete = n < 63 and 2**n <= resamples
    unflipped = values.sum(axis=0)
    out = np.empty((2**n if complete else resamples, values.shape[1]))
    for i in range(len(out)):
        if complete:
            flips = ((i >> np.arange(n)) & 1).astype(np.float64)
        else:
            noise = generator.integers(256, size=(n + 7) // 8, dtype=np.uint8)
            flips = np.unpackbits(noise, count=n).astype(np.float64)
        out[i] = (unflipped - 2 * (flips @ values)) / n
    return out, complete


def _generator(rng: int | np.random.Generator, resamples: int) -> np.random.Generator:
    if resamples < 1:
        raise ConfigError(f"resamples is {resamples}; at least 1 is accepted")
    return np.random.default_rng(rng)
