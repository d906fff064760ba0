"""What the figures of train_peers.json should be, by whether the processor has AMX."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """Bounds of a figure, each without and with AMX.

    Attributes
    ----------
    what
        In words.
    least, aim
        What it must reach, and what would be good; None where nothing more is aimed at.
    at_most
        The figure should be small.
    """

    what: str
    least: tuple[float, float]
    aim: tuple[float, float] | None
    at_most: bool = False


GOALS = {
    "ratio_recbole_b500": Goal(
        "training, users/s, against RecBole MultiVAE, batch 500", (5, 6), (6.3, 9)
    ),
    "ratio_recbole_b2048": Goal("the same, batch 2,048", (5.5, 8), (6.8, 13)),
    "ratio_cornac_b500": Goal("against Cornac VAECF, batch 500", (5.5, 7), (7, 11)),
    "ratio_plain_bf16_b500": Goal(
        "against the plain path, bf16 autocast, batch 500", (3.6, 4), (4.6, 6)
    ),
    "ratio_plain_bf16_b2048": Goal("the same, batch 2,048", (4.2, 4.5), (5.1, 7)),
    "ratio_plain_fp32": Goal(
        "fast path in float32 against plain in float32, batch 500", (2.8, 2.8), (3.5, 3.5)
    ),
    "plain_of_textbook": Goal(
        "plain path against the textbook script, float32, batch 500", (0.95, 0.95), None
    ),
    "extra_memory": Goal(
        "memory of a fast bf16 step over that of a plain float32 step, batch 500",
        (0.25, 0.25),
        (0.2, 0.2),
        at_most=True,
    ),
    "over_floor_b500": Goal(
        "step over its counted floor, bf16, batch 500", (1.4, 1.6), (1.15, 1.25), at_most=True
    ),
    "over_floor_b2048": Goal("the same, batch 2,048", (1.35, 1.8), (1.12, 1.35), at_most=True),
    "ratio_eval": Goal("evaluation, users/s, against RecBole", (4, 6), (6, 10)),
    "ratio_batch": Goal(
        "batch top-10, users/s, against implicit ALS with 128 factors", (0.8, 1), (1.3, 2)
    ),
    "ratio_read": Goal(
        "rows of text ids read, rows/s, against pandas and factorize", (3.5, 3.5), (6, 6)
    ),
    "read_peak_gb": Goal("peak memory of that reading, GB", (0.9, 0.9), (0.7, 0.7), at_most=True),
}


def judged(key: str, value: float, *, amx: bool) -> dict[str, object]:
    """Bounds that fit the processor, and whether `value` meets them."""
    goal = GOALS[key]
    column = 1 if amx else 0
    least = goal.least[column]
    aim = None if goal.aim is None else goal.aim[column]

    def met(bound: float) -> bool:
        return value <= bound if goal.at_most else value >= bound

    return {
        "what": goal.what,
        "value": value,
        "sense": "at most" if goal.at_most else "at least",
        "least": least,
        "met": met(least),
        "aim": aim,
        "aim_met": None if aim is None else met(aim),
    }
