"""`TrainingConfig`: how long, how fast and where a network is trained."""

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

from recae.options import Choice, Options, Range, option
from recae.training.device import named_device

Auto = Literal["auto"]
C = TypeVar("C", bound="TrainingConfig")
_SLICE_BYTES = 1 << 28  # of scores; a step holds about three arrays of that size


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig(Options):
    """Hyper-parameters of training; the config of a model that trains in steps extends it."""

    removed: ClassVar[frozenset[str]] = frozenset({"path"})

    epochs: int | Auto = option(
        "auto",
        low=1,
        help="Passes over the training users; auto: 50 below 50,000 users, 200 below 300,000, else"
        " 100 (the paper's values for ML-20M, and for Netflix and MSD).",
    )
    batch_size: int | Auto = option(
        "auto",
        low=1,
        help="Users a step; auto: a fortieth of the training users, within 25 and 500.",
    )
    learning_rate: float = option(
        1e-3,
        above=0,
        search=Range(2e-4, 5e-3, log=True),
        help="Of Adam (beta 0.9 and 0.999, epsilon 1e-8).",
    )
    patience: int | None = option(
        20,
        low=1,
        help="Epochs without a better validation score before training stops; None never stops"
        " early.",
    )
    ema_decay: float | None = option(
        None,
        above=0,
        below=1,
        search=Choice((None, 0.99, 0.995, 0.999)),
        help="Decay a step of an exponential moving average of the weights, used instead of them"
        " for validation and at the end; None uses the weights themselves, as the papers do.",
    )
    validation_metric: str = option(
        "ndcg@100",
        help="What decides on the best epoch: a metric about what was held out.",
    )
    device: str = option(
        "auto",
        help="cpu, cuda, cuda:1, ...; auto: the first CUDA device when there is one, else the CPU.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto",
        help="float32, or bfloat16 products with float32 weights and sums; auto: bfloat16 where"
        " the device, or the processor (AVX512-BF16 or AMX), has products of it.",
    )
    compile: bool = option(
        False,
        help="Let torch.compile translate the loss, which takes a minute at the first step; it"
        " needs a C++ compiler on the CPU and Triton on a CUDA device.",
    )
    rng: int = option(42, low=0, help="Seed of everything that is drawn.")

    def check(self) -> None:
        """Refuse a device of a name that there is not."""
        named_device(self.device)

    def schedule(self, n_users: int) -> dict[str, object]:
        """Options that keep the schedules planned for `n_users` if `epochs` becomes another."""
        return {}

    def for_items(self: C, n_items: int) -> C:
        """Config with what ``"auto"`` stands for in a network over `n_items` items."""
        return self


def planned_epochs(config: TrainingConfig, n_users: int) -> int:
    """Epochs of a run over `n_users` training users, `"auto"` resolved."""
    if config.epochs != "auto":
        return config.epochs
    if n_users < 50_000:
        return 50
    return 200 if n_users < 300_000 else 100


def planned_batch_size(config: TrainingConfig, n_users: int) -> int:
    """Users a step of a run over `n_users` training users, `"auto"` resolved."""
    if config.batch_size != "auto":
        return min(config.batch_size, max(1, n_users))
    return min(500, max(25, n_users // 40))


def steps_per_epoch(config: TrainingConfig, n_users: int) -> int:
    """Steps of an epoch; the last one may be short."""
    return -(-n_users // planned_batch_size(config, n_users))


def planned_slices(batch_size: int, n_items: int) -> int:
    """Slices in which a step goes through its batch, one after the other.

    As few as keep the scores of a slice, ``users x items`` in float32, within 256 MiB; never more
    than there are users. The gradients of the slices are added up, so the loss that is minimised
    does not depend on their number but for rounding.

    Examples
    --------
    >>> planned_slices(500, 20_000), planned_slices(500, 1_000_000)
    (1, 8)
    """
    return min(batch_size, -(-4 * batch_size * n_items // _SLICE_BYTES))
