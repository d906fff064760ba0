"""`Autoencoder`: what trained networks have in common as recommenders."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar, final

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import nn

from recae.data.histories import Histories
from recae.data.interactions import Interactions
from recae.data.split import HeldOut
from recae.errors import BundleError, ConfigError, DataError
from recae.evaluation.evaluator import evaluate, fingerprint
from recae.evaluation.names import parse_metric
from recae.models.tower import ExactTower
from recae.networks.batch import SparseBatch
from recae.networks.losses import multinomial_nll
from recae.ranking.recommender import Arrays, Recommender, fitted
from recae.ranking.scorer import Scorer
from recae.training.config import TrainingConfig
from recae.training.device import resolve_device
from recae.training.rows import WEIGHTS, stream
from recae.training.trainer import EpochRecord, Trainer

_ROWS = 512
A = TypeVar("A", bound="Autoencoder")


class Autoencoder(Recommender):
    """A network that encodes a history and decodes it to scores of all items.

    Attributes
    ----------
    config
        Hyper-parameters; once fitted, with the widths that `"auto"` stood for.
    training_log
        A record an epoch of the last `fit`; empty for a loaded model.

    Raises
    ------
    ConfigError
        If the validation metric is unknown, or more of it is not better.
    """

    users_per_pass: ClassVar[int] = 256
    trained_in_steps: ClassVar[bool] = True
    config: TrainingConfig
    training_log: tuple[EpochRecord, ...]

    def __init__(self, config: Any) -> None:
        if parse_metric(config.validation_metric).about != "targets":
            raise ConfigError(
                f"validation_metric is {config.validation_metric!r}; one about what was held out,"
                " such as ndcg@100, is accepted: more of it is better"
            )
        self.config = self._asked = config
        self._network: nn.Module | None = None
        self._tower: ExactTower | None = None
        self.training_log = ()

    @abstractmethod
    def _build(self, n_items: int, n_users: int, rng: torch.Generator | None) -> nn.Module:
        """Network for `n_users` training users (which decide schedules), its weights from `rng`.

        Without one they have shapes and no numbers.
        """

    @property
    def n_items(self) -> int:
        """Number of items the model knows."""
        return self._fitted_tower().n_items

    @property
    def accelerated(self) -> bool:
        """Whether the fitted network lies on another device than the CPU."""
        return self._fitted_tower().device.type != "cpu"

    @property
    def network(self) -> nn.Module:
        """The trained network, its wide tables rounded to the grids of `weights_on_grid`.

        Lists are made of these very tables, which must not change: train a copy on, not this one.
        """
        network: nn.Module = fitted(self._network, self.name)
        return network

    def _fitted_tower(self) -> ExactTower:
        tower: ExactTower = fitted(self._tower, self.name)
        return tower

    @final
    def fit(
        self: A,
        train: Interactions,
        *,
        validation: HeldOut | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
        on_epoch: Callable[[EpochRecord], None] | None = None,
        steps_per_epoch: int | None = None,
    ) -> A:
        """Train on the rows of `train`; see `Recommender.fit`.

        `on_epoch` is told the record of every epoch; what it raises ends the training. An epoch
        ends after `steps_per_epoch` steps, or where it is None when all users were seen.

        Raises
        ------
        DataError
            If no training user has an interaction, or no validation user a target.
        DivergedError
            If a loss is not finite.
        """
        if validation is not None and not validation.target.nnz:
            raise DataError("no validation user has a target to be judged on")
        self.config = config = _with_widths(self._asked, train.n_items)
        device = resolve_device(config.device)
        seeded = torch.Generator().manual_seed(stream(config.rng, WEIGHTS, 0))
        self._tower = None
        network = self._build(train.n_items, train.n_users, seeded).to(device)
        self._network = network
        validate = None
        if validation is not None:

            def validate() -> float:
                self._tower = ExactTower(network.tower())  # type: ignore[operator]  # networks have it
                report = evaluate(self, validation, metrics=(config.validation_metric,))
                self._tower = None  # its memory is for the training, and for the next one
                return report[config.validation_metric].mean

        identity: dict[str, object] = {
            "model": self.name,
            "config": config.to_json(),
            "data": train.fingerprint(),
            "validation": None if validation is None else fingerprint(validation),
            "torch": torch.__version__,
        }
        trainer = Trainer(config, directory=checkpoint, identity=identity)
        self.training_log = trainer.fit(
            network,
            train.matrix,
            validate=validate,
            on_epoch=on_epoch,
            resume=resume,
            steps_per_epoch=steps_per_epoch,
        )
        network.eval()
        self._tower = _sharing_tables(network)
        return self

    @final
    def n_parameters(self, n_items: int) -> int:
        """Weights and biases of the network for `n_items` items."""
        network = self._build(n_items, 1, None)
        return sum(parameter.numel() for parameter in network.parameters())

    @final
    def scorer(self, histories: Histories) -> Scorer:
        """Scores of `histories`."""
        return self._fitted_tower().scorer(histories)

    @final
    def item_vectors(self) -> Float32[np.ndarray, "items width"]:
        """Row of the output layer of each item, shape ``(n_items, width)``; biases left out."""
        return self._fitted_tower().output.weight.cpu().numpy()

    @final
    def encode(self, histories: Histories) -> Float32[np.ndarray, "users latent"]:
        """Code of each history: the mean where the code is a distribution.

        Returns
        -------
        Shape ``(len(histories), latent_dim)``; a row depends on its history alone.
        """
        tower = self._fitted_tower()
        parts = [
            tower.encode(SparseBatch.from_csr(h.matrix, device=tower.device)).float().cpu().numpy()
            for h in _batches(self._accepted(histories))
        ]
        return np.concatenate(parts)

    @final
    def decode(
        self, codes: Float32[np.ndarray, "users latent"]
    ) -> Float32[np.ndarray, "users items"]:
        """Scores of all items for each code, dense, shape ``(users, n_items)``."""
        tower = self._fitted_tower()
        hidden = tower.hidden(torch.from_numpy(codes).to(tower.device, torch.float64))
        output = tower.output
        scores = torch.addmm(output.bias, hidden.float(), output.weight.T)
        return scores.cpu().numpy()

    @final
    @torch.no_grad()
    def reconstruction_error(self, histories: Histories) -> Float64[np.ndarray, " users"]:
        """Negative multinomial log-likelihood of each history given itself, in nats.

        Divided by the number of items of the history; NaN for an empty one. Nothing is dropped or
        sampled. High values mark histories that the training users do not resemble.
        """
        out = []
        for batch in _batches(self._accepted(histories)):
            x = SparseBatch.from_csr(batch.matrix, device=self._fitted_tower().device)
            scores = torch.from_numpy(self.score(batch)).to(x.items.device, torch.float64)
            nll = multinomial_nll(scores, x) / x.lengths  # 0 / 0 is NaN
            out.append(nll.cpu().numpy())
        return np.concatenate(out)

    @final
    def arrays(self) -> Arrays:
        """Weights of the network, by parameter name, float32; see `network`."""
        return {
            name: value.detach().cpu().numpy() for name, value in self.network.named_parameters()
        }

    @classmethod
    def from_arrays(cls: type[A], config: Any, arrays: Mapping[str, np.ndarray]) -> A:
        """Fitted model with given weights; see `Recommender.from_arrays`.

        Arrays in the order of C that may be written are not copied: the model keeps them, tables
        only where they are on their grids, as those of `arrays` are.
        """
        model = cls(config)
        if "output.bias" not in arrays:
            raise BundleError("the weights have no array output.bias")
        n_items = len(arrays["output.bias"])
        model.config = _with_widths(config, n_items)
        network = model._build(n_items, 1, None)
        expected = {name: tuple(p.shape) for name, p in network.named_parameters()}
        given = {name: a.shape for name, a in arrays.items()}
        if expected != given:
            wrong = sorted(n for n in {*expected, *given} if expected.get(n) != given.get(n))
            raise BundleError(
                f"weights do not fit the config: {wrong[0]} has shape {given.get(wrong[0])},"
                f" expected {expected.get(wrong[0])}"
            )
        for name, value in arrays.items():
            if value.dtype != np.float32 or not np.isfinite(value).all():
                raise BundleError(f"array {name} is not finite float32")
        weights = {name: torch.from_numpy(_writable(value)) for name, value in arrays.items()}
        network.load_state_dict(weights, assign=True)
        device = resolve_device("auto")  # where it is loaded need not be where it was trained
        model._network = network.to(device).eval()
        model._tower = _sharing_tables(network)
        return model


def _sharing_tables(network: Any) -> ExactTower:
    """Tower of `network`, which takes over its wide tables, so that they are held once."""
    tower = ExactTower(network.tower())
    for layer, table in ((network.table, tower.table), (network.output, tower.output.weight)):
        if layer.weight.shape == table.shape:  # a code may be a part of the first
            layer.weight = nn.Parameter(table)
    return tower


def _batches(histories: Histories) -> list[Histories]:
    starts = range(0, max(1, len(histories)), _ROWS)  # nobody is a batch, too: it has a width
    return [histories.take(slice(start, start + _ROWS)) for start in starts]


def _writable(array: np.ndarray) -> np.ndarray:
    """`array` itself where a tensor can share its memory, which may be much; else a copy."""
    shared = array.flags.c_contiguous and array.flags.writeable
    return array if shared else np.array(array, order="C")


def _with_widths(config: Any, n_items: int) -> Any:
    hidden, latent_dim = config.widths(n_items)
    return replace(config, hidden=hidden, latent_dim=latent_dim)
