"""`TrainingConfig`: how long, how fast and where a network is trained."""

from dataclasses import dataclass
from typing import Literal

from recae.errors import ConfigError
from recae.training.device import named_device

Auto = Literal["auto"]
StepPath = Literal["plain", "gathered", "fast"]
# Items from which blocks gain more than their handling costs.
WIDE_ITEMS = 10_000


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
    path
        ``"plain"``: textbook PyTorch, dense histories and all, to compare with. ``"gathered"``:
        the same equations over the items that histories hold. ``"fast"``: the same numbers with
        the wide layers and their updates by blocks. ``"auto"``: fast on the CPU from 10,000
        items, and on a CUDA device unless `ema_decay` is set; else gathered.
    rng
        Seed of everything that is drawn.
    """

    epochs: int | Auto = "auto"
    batch_size: int | Auto = "auto"
    learning_rate: float = 1e-3
    patience: int | None = 20
    ema_decay: float | None = None
    validation_metric: str = "ndcg@100"
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    path: StepPath | Auto = "auto"
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


def planned_path(path: StepPath | Auto, *, n_items: int, device: str, recordable: bool) -> StepPath:
    """Path of the steps of a network with two wide tables, `"auto"` resolved.

    ``"auto"`` is the one that is known to be the fastest: on the CPU the fast one from 10,000
    items; on a CUDA device the fast one at any size where its steps can be recorded, as those of
    the others wait for the host.

    Parameters
    ----------
    path
        As in `TrainingConfig`.
    n_items
        Rows of the tables.
    device
        Type of the device, such as ``"cuda"``.
    recordable
        Whether `DeviceSteps` knows the network and nothing reads its weights between steps.
    """
    if path != "auto":
        return path
    fast = recordable if device == "cuda" else device == "cpu" and n_items >= WIDE_ITEMS
    return "fast" if fast else "gathered"


def recorded(path: StepPath, device: str, *, averaged: bool) -> bool:
    """Whether steps are those of `DeviceSteps`, which keep no average of the weights."""
    return path == "fast" and device == "cuda" and not averaged
