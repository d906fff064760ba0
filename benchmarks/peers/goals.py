"""What the figures of train_peers.json should be, by what the processor multiplies."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """Least values of a figure, by what the processor multiplies; None is only reported.

    Attributes
    ----------
    what
        In words.
    without, avx512, amx
        On a processor without products of bfloat16, with AVX512-BF16, with AMX.
    """

    what: str
    without: float | None
    avx512: float
    amx: float


GOALS = {
    "ratio_recbole_b500": Goal("training, users/s, against RecBole MultiVAE, batch 500", 2.8, 5, 6),
    "ratio_recbole_b2048": Goal("the same, batch 2,048", None, 5.5, 8),
    "ratio_cornac_b500": Goal("against Cornac VAECF, batch 500", None, 5.5, 7),
    "ratio_eval": Goal("evaluation, users/s, against RecBole", None, 4, 6),
    "ratio_batch": Goal(
        "batch top-10, users/s, against implicit ALS with 128 factors", None, 0.85, 1
    ),
}
COLUMNS = ("no bfloat16 products", "AVX512-BF16", "AMX")


def column(instruction_sets: Sequence[str]) -> int:
    """Place in `COLUMNS` of a processor."""
    if "amx_bf16" in instruction_sets:
        return 2
    return int("avx512_bf16" in instruction_sets)


def judged(key: str, value: float, place: int) -> dict[str, object]:
    """What is asked of a processor of the column `place`, and whether `value` is."""
    goal = GOALS[key]
    least = (goal.without, goal.avx512, goal.amx)[place]
    met = None if least is None else value >= least
    return {"what": goal.what, "value": value, "least": least, "met": met}
