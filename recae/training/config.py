"""`TrainingConfig`: how long, how fast and where a network is trained."""

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

from recae.errors import ConfigError
from recae.training.device import named_device

Auto = Literal["auto"]
C = TypeVar("C", bound="TrainingConfig")
_SLICE_BYTES = 1 << 28  # of scores; a step holds about three arrays of that size


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Hyper-parameters of training; the config of a model that trains in steps extends it.

    Attributes
    ----------
    epochs
        Passes over the training users. ``"auto"``: 50 below 50,000 users, 200 below 300,000, else
        100 (the paper's values for ML-20M, and for Netflix and MSD).
    batch_size
        Users a step. ``"auto"``: a fortieth of the training users, within 25 and 500.
    learning_rate
        Of Adam (beta 0.9 and 0.999, epsilon 1e-8).
    patience
        Epochs without a better validation score before training stops; None never stops early.
    ema_decay
        Decay a step of an exponential moving average of the weights, used instead of them for
        validation and at the end; None uses the weights themselves, as the papers do.
    validation_metric
        What decides on the best epoch: a metric about what was held out.
    device
        ``"auto"`` is the first CUDA device when there is one, else the CPU.
    precision
        ``"float32"``, or ``"bfloat16"`` products with float32 weights and sums. ``"auto"``:
        bfloat16 where the device, or the processor (AVX512-BF16 or AMX), has products of it.
    compile
        Let ``torch.compile`` translate the loss, which takes a minute at the first step; it needs
        a C++ compiler on the CPU and Triton on a CUDA device.
    rng
        Seed of everything that is drawn.
    removed
        Names of options that there once were: a stored config may hold them, and they say nothing.
    """

    removed: ClassVar[frozenset[str]] = frozenset({"path"})

    epochs: int | Auto = "auto"
    batch_size: int | Auto = "auto"
    learning_rate: float = 1e-3
    patience: int | None = 20
    ema_decay: float | None = None
    validation_metric: str = "ndcg@100"
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    rng: int = 42

    def __post_init__(self) -> None:
        positive = {"epochs": self.epochs, "batch_size": self.batch_size, "patience": self.patience}
        for name, value in positive.items():
            if isinstance(value, int) and value < 1:
                raise ConfigError(f"{name} is {value}; at least 1 is accepted")
        if not 0 < self.learning_rate < float("inf"):
            raise ConfigError(f"learning_rate is {self.learning_rate}; above 0 is accepted")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ConfigError(f"ema_decay is {self.ema_decay}; between 0 and 1 is accepted")
        named_device(self.device)
        if self.rng < 0:
            raise ConfigError(f"rng is {self.rng}; a seed is 0 or above")

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
