"""`Autoencoder`: what trained networks have in common as recommenders."""

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, TypeVar, final

import numpy as np
import torch
from jaxtyping import Float32, Float64

from recae.data.histories import Histories
from recae.data.interactions import Interactions
from recae.data.split import HeldOut
from recae.errors import BundleError, ConfigError, DataError
from recae.evaluation.evaluator import evaluate, fingerprint
from recae.evaluation.names import parse_metric
from recae.machine import multiplies_int8
from recae.models.progress import About, Shown, is_wanted
from recae.networks.batch import Batch
from recae.networks.exact import exact, share_tables
from recae.networks.network import Network
from recae.ranking.fixed_point import rows_on_grid
from recae.ranking.recommender import Arrays, Recommender, TrainingShape, fitted
from recae.ranking.rounded import MAX_WIDTH, RoundedTable
from recae.ranking.scorer import Scorer
from recae.ranking.scorers import WIDE_BYTES, LinearScorer, LinearTable
from recae.training.config import TrainingConfig, planned_epochs
from recae.training.device import resolve_device
from recae.training.rows import WEIGHTS, stream
from recae.training.trainer import EpochRecord, Trainer

logger = logging.getLogger("recae.training")
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

    def __init__(self, config: Any = None, **options: Any) -> None:
        super().__init__(config, **options)
        metric = self.config.validation_metric
        if parse_metric(metric).about != "targets":
            raise ConfigError(
                f"validation_metric is {metric!r}; one about what was held out,"
                " such as ndcg@100, is accepted: more of it is better"
            )
        self._asked = self.config
        self._network: Network | None = None
        self._ranking: Ranking | None = None
        self.training_log = ()

    @abstractmethod
    def build(self, n_items: int, n_users: int, rng: torch.Generator | None) -> Network:
        """Network for `n_users` training users (which decide schedules), its weights from `rng`.

        Without one they have shapes and no numbers.
        """

    @property
    def n_items(self) -> int:
        """Number of items the model knows."""
        return int(self.ranking.weight.shape[0])

    @property
    def accelerated(self) -> bool:
        """Whether the fitted network lies on another device than the CPU."""
        return self.ranking.weight.device.type != "cpu"

    @property
    def network(self) -> Network:
        """The trained network, its wide tables rounded to the grids of `weights_on_grid`.

        Lists are made of these very tables, which must not change: train a copy on, not this one.
        """
        network: Network = fitted(self._network, self.name)
        return network

    @property
    def ranking(self) -> "Ranking":
        """The network as it ranks."""
        ranking: Ranking = fitted(self._ranking, self.name)
        return ranking

    @final
    def fit(
        self: A,
        train: Interactions,
        *,
        validation: HeldOut | None = None,
        checkpoint: Path | None = None,
        keep_checkpoint: bool = False,
        resume: bool = False,
        progress: bool | None = None,
        on_epoch: Callable[[EpochRecord], None] | None = None,
        steps_per_epoch: int | None = None,
    ) -> A:
        """Train on the rows of `train`; see `Recommender.fit`.

        `progress` shows on stderr a line that moves with the epochs: the deciding metric, the best
        so far, the time that is left and when the training would stop early; at the end, how it
        went. None does so on a terminal and in a notebook. `on_epoch` is told the record of every
        epoch; what it raises ends the training. A training that was stopped leaves a checkpoint to
        go on from, a finished one none unless `keep_checkpoint`. An epoch ends after
        `steps_per_epoch` steps, or where it is None when all users were seen.

        Raises
        ------
        DataError
            If no training user has an interaction, or no validation user a target.
        DivergedError
            If a loss is not finite.
        """
        if validation is not None and not validation.target.nnz:
            raise DataError("no validation user has a target to be judged on")
        self.config = config = self._asked.for_items(train.n_items)
        device = resolve_device(config.device)
        seeded = torch.Generator().manual_seed(stream(config.rng, WEIGHTS, 0))
        self._ranking = None
        network = self.build(train.n_items, train.n_users, seeded).to(device)
        self._network = network
        validate = None
        if validation is not None:

            def validate() -> float:
                self._ranking = Ranking(network)
                report = evaluate(self, validation, metrics=(config.validation_metric,))
                self._ranking = None  # its memory is for the training, and for the next one
                return report[config.validation_metric].mean

        identity: dict[str, object] = {
            "model": self.name,
            "config": config.to_json(),
            "data": train.fingerprint(),
            "validation": None if validation is None else fingerprint(validation),
            "torch": torch.__version__,
        }
        trainer = Trainer(config, directory=checkpoint, identity=identity)
        about = About(
            self.name, config.validation_metric, None if validation is None else config.patience
        )
        logger.info("training", extra={"about": about})
        with ExitStack() as showing:
            if is_wanted(progress):
                n_epochs = planned_epochs(config, TrainingShape.of(train.matrix).n_users)
                on_epoch = _both(showing.enter_context(Shown(about, n_epochs)).epoch, on_epoch)
            self.training_log = trainer.fit(
                network,
                train.histories() if self.ordered else Histories(train.matrix),
                ordered=self.ordered,
                validate=validate,
                on_epoch=on_epoch,
                resume=resume,
                keep=keep_checkpoint,
                steps_per_epoch=steps_per_epoch,
            )
        network.eval()
        self._ranking = Ranking(network, share=True)
        return self

    @final
    def n_parameters(self, n_items: int) -> int:
        """Weights and biases of the network for `n_items` items."""
        network = self.build(n_items, 1, None)
        return sum(parameter.numel() for parameter in network.parameters())

    @final
    def scorer(self, histories: Histories) -> Scorer:
        """Scores of `histories`."""
        ranking = self.ranking
        return ranking.scorer(ranking.encoded(histories, ordered=self.ordered))

    @final
    def item_vectors(self) -> Float32[np.ndarray, "items width"]:
        """Row of the output layer of each item, shape ``(n_items, width)``; biases left out."""
        return self.ranking.weight.cpu().numpy()

    @final
    def encode(self, histories: Histories) -> Float32[np.ndarray, "users latent"]:
        """Code of each history: the mean where the code is a distribution.

        Returns
        -------
        Shape ``(len(histories), latent_dim)``; a row depends on its history alone.
        """
        ranking = self.ranking
        parts = [
            ranking.encoded(h, ordered=self.ordered).float().cpu().numpy()
            for h in _batches(self._accepted(histories))
        ]
        return np.concatenate(parts)

    @final
    def decode(
        self, codes: Float32[np.ndarray, "users latent"]
    ) -> Float32[np.ndarray, "users items"]:
        """Scores of all items for each code, dense, shape ``(users, n_items)``."""
        ranking = self.ranking
        hidden = ranking.hidden(torch.from_numpy(codes).to(ranking.weight.device, torch.float64))
        scores = torch.addmm(ranking.bias, hidden.float(), ranking.weight.T)
        return scores.cpu().numpy()

    @final
    @torch.no_grad()
    def reconstruction_error(self, histories: Histories) -> Float64[np.ndarray, " users"]:
        """What the reconstruction of each history loses, divided by the number of its items.

        In the terms of the model's own loss (`Network.reconstruction`): nats for a multinomial
        likelihood. NaN for an empty history. Nothing is dropped or sampled. High values mark
        histories that the training users do not resemble.
        """
        out = []
        for batch in _batches(self._accepted(histories)):
            x = Batch.of(batch, device=self.ranking.weight.device)
            scores = torch.from_numpy(self.score(batch)).to(x.items.device, torch.float64)
            lost = self.network.reconstruction(scores, x) / x.lengths  # 0 / 0 is NaN
            out.append(lost.cpu().numpy())
        return np.concatenate(out)

    @final
    def arrays(self) -> Arrays:
        """State of the network by name, without what only training needs; see `network`."""
        return {n: v.detach().cpu().numpy() for n, v in _stored(self.network).items()}

    @classmethod
    def from_arrays(cls: type[A], config: Any, arrays: Mapping[str, np.ndarray]) -> A:
        """Fitted model with given weights; see `Recommender.from_arrays`.

        Arrays in the order of C that may be written are not copied: the model keeps them, tables
        only where they are on their grids, as those of `arrays` are.
        """
        model = cls(config)
        n_items = cls._n_items_of(config, arrays)
        model.config = config.for_items(n_items)
        network = model.build(n_items, 1, None)
        expected = {name: tuple(p.shape) for name, p in _stored(network).items()}
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
        network.load_state_dict(weights, assign=True, strict=False)
        device = resolve_device("auto")  # where it is loaded need not be where it was trained
        model._network = network.to(device).eval()
        model._ranking = Ranking(network, share=True)
        return model

    @classmethod
    def _n_items_of(cls, config: Any, arrays: Mapping[str, np.ndarray]) -> int:
        """Items of stored weights: the size of the first axis that grows with their number."""
        one, two = (_stored(cls(config).build(n, 1, None)) for n in (1, 2))
        name, axis = next(
            (name, axis)
            for name in one
            for axis, (a, b) in enumerate(zip(one[name].shape, two[name].shape, strict=True))
            if a != b
        )
        if name not in arrays or arrays[name].ndim <= axis:
            raise BundleError(f"the weights have no array {name} with {axis + 1} axes")
        return int(arrays[name].shape[axis])


@final
class Ranking:
    """A network as it ranks: exact, with its output layer in the forms that proposals need.

    Parameters
    ----------
    network
        Trained; it stays as it is, but for its tables if `share`.
    share
        Let the network take over the gridded tables, so that they are held once.
    """

    def __init__(self, network: Network, *, share: bool = False) -> None:
        self._exact = exact(network)
        if share:
            share_tables(network, self._exact)
        output = self._exact.output
        self.weight: Float32[torch.Tensor, "items width"] = output.weight.detach()
        self.bias: Float32[torch.Tensor, " items"] = output.bias.detach().float()
        on_cpu = self.weight.device.type == "cpu"
        rounded = wide = None
        if on_cpu and self.weight.shape[1] <= MAX_WIDTH and multiplies_int8():
            rounded = RoundedTable(self.weight, self.bias)
        if on_cpu and 8 * self.weight.numel() <= WIDE_BYTES:
            wide = self.weight.to(torch.float64)
        self.table = LinearTable(self.weight, self.bias, rounded=rounded, wide=wide)

    @torch.no_grad()
    def encoded(
        self, histories: Histories, *, ordered: bool
    ) -> Float64[torch.Tensor, "batch latent"]:
        """Code of each history."""
        x = Batch.of(histories, ordered=ordered, device=self.weight.device)
        code: torch.Tensor = self._exact.encode(x)
        return code

    @torch.no_grad()
    def hidden(
        self, code: Float64[torch.Tensor, "batch latent"]
    ) -> Float64[torch.Tensor, "batch width"]:
        """What the output layer reads, on the grid on which its products add exactly."""
        h = self._exact.hidden(code)
        return rows_on_grid(h, n_terms=h.shape[1])

    def scorer(self, code: Float64[torch.Tensor, "batch latent"]) -> LinearScorer:
        """Scores of codes."""
        return LinearScorer(self.hidden(code), self.table)


def _both(
    show: Callable[[EpochRecord], None], tell: Callable[[EpochRecord], None] | None
) -> Callable[[EpochRecord], None]:
    def on_epoch(record: EpochRecord) -> None:
        show(record)
        if tell is not None:
            tell(record)

    return on_epoch


def _stored(network: Network) -> dict[str, torch.Tensor]:
    """State of `network` that prediction needs."""
    left_out = network.training_only
    state = network.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if not name.startswith(left_out)}


def _batches(histories: Histories) -> list[Histories]:
    starts = range(0, max(1, len(histories)), _ROWS)  # nobody is a batch, too: it has a width
    return [histories.take(slice(start, start + _ROWS)) for start in starts]


def _writable(array: np.ndarray) -> np.ndarray:
    """`array` itself where a tensor can share its memory, which may be much; else a copy."""
    shared = array.flags.c_contiguous and array.flags.writeable
    return array if shared else np.array(array, order="C")
