"""What a training needs in memory and on the disk, term by term, from shapes alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, final

from recae.models.autoencoder import Autoencoder
from recae.models.ease import FLOAT64_UP_TO, EASEConfig
from recae.models.mult_vae import MultDAEConfig, MultVAEConfig
from recae.models.spd import BLOCK
from recae.models.tower import GATHERED, WIDE_BYTES
from recae.networks import device_path, fused_softmax
from recae.ranking.on_device import DEVICE_CELLS
from recae.ranking.propose import MAX_CELLS, rows_at_once
from recae.ranking.side_by_side import batches_at_once
from recae.training.config import TrainingConfig, planned_batch_size, planned_path, recorded
from recae.training.device import resolve_device, resolve_precision

Phase = Literal["always", "step", "validation", "evaluation"]
_PHASES: tuple[Phase, ...] = ("step", "validation", "evaluation")

_FLOAT = 4
_CHECKPOINTS = 3  # two are kept while the next one is written
_LISTED = 200  # items scored exactly for a list of 100
_ROUNDED = 2_097_152  # entries that are rounded at once, of a few arrays of float64
_ALLOCATOR_BYTES = 32 << 20  # glibc keeps freed blocks below this size
_CUDA_HOST_BYTES = 500_000_000  # what the CUDA libraries take of main memory: a guess


@final
@dataclass(frozen=True, slots=True)
class Term:
    """Memory for one purpose.

    Attributes
    ----------
    name, why
        What it is and where its size comes from.
    n_bytes
        Its size.
    phase
        When it is held; phases other than ``"always"`` never overlap.
    """

    name: str
    n_bytes: int
    why: str
    phase: Phase = "always"


@final
@dataclass(frozen=True, slots=True)
class TrainingShape:
    """Sizes of what is trained on.

    Attributes
    ----------
    n_users, n_items, n_interactions
        Of the training part.
    n_validation
        Users who decide when to stop.
    """

    n_users: int
    n_items: int
    n_interactions: int
    n_validation: int


def peak_bytes(terms: Sequence[Term]) -> int:
    """Most that is held at once: what is held always, and the largest phase."""
    by_phase = {phase: sum(t.n_bytes for t in terms if t.phase == phase) for phase in _PHASES}
    return sum(t.n_bytes for t in terms if t.phase == "always") + max(by_phase.values())


@final
@dataclass(frozen=True, slots=True)
class Needs:
    """What a model needs for a shape.

    Attributes
    ----------
    parameters
        Numbers that are learnt; None where that is not known beforehand.
    memory, device
        Terms of main memory and of the device's; no device terms on the CPU.
    checkpoint_bytes
        Of a checkpoint.
    disk_bytes
        Of the checkpoints that are there at once and of the stored weights.
    complete
        Whether the model's own terms are known.
    """

    parameters: int | None
    memory: tuple[Term, ...]
    device: tuple[Term, ...] = ()
    checkpoint_bytes: int = 0
    disk_bytes: int = 0
    complete: bool = True


def needs(config: Any, shape: TrainingShape) -> Needs:
    """What the model with `config` needs to be trained on `shape`.

    Parameters
    ----------
    config
        Of a registered model. Of models other than autoencoders and EASE only the rows are known.

    Raises
    ------
    ResourceError
        If the device of `config` is not there.
    """
    if isinstance(config, MultVAEConfig | MultDAEConfig):
        return _autoencoder(config, shape)
    rows = Term("rows", 12 * shape.n_interactions, "a copy of the interactions, 12 bytes each")
    if isinstance(config, EASEConfig):
        return _ease(shape, rows)
    return Needs(None, (rows,), complete=False)


def layer_widths(
    config: MultVAEConfig | MultDAEConfig, n_items: int
) -> tuple[list[int], list[int]]:
    """Widths from the item table to the code, and from the code to the output table."""
    hidden, latent_dim = config.widths(n_items)
    code = latent_dim * (2 if isinstance(config, MultVAEConfig) else 1)
    return [*hidden, code], [latent_dim, *reversed(hidden)]


def _autoencoder(config: MultVAEConfig | MultDAEConfig, shape: TrainingShape) -> Needs:
    encoder, decoder = layer_widths(config, shape.n_items)
    inner = sum((a + 1) * b for widths in (encoder, decoder) for a, b in pairwise(widths))
    tables = shape.n_items * (encoder[0] + decoder[-1])
    parameters = tables + inner + encoder[0] + shape.n_items
    weights = _FLOAT * parameters
    device = resolve_device(config.device).type
    on_cuda, averaged = device == "cuda", config.ema_decay is not None
    path = planned_path(config.path, n_items=shape.n_items, device=device, recordable=not averaged)
    fast, on_graph = path == "fast", recorded(path, device, averaged=averaged)
    gradients = weights - _FLOAT * tables if fast else weights
    copies = [
        Term("weights", weights, f"{parameters:,} float32 numbers"),
        Term("Adam moments", 2 * weights, "two for each weight"),
    ]
    if averaged:
        copies.append(Term("moving average", weights, "a copy of the weights"))
    if shape.n_validation:
        copies.append(Term("best weights", weights, "a copy of the weights"))
    terms = [
        *copies,
        Term("gradients", gradients, "of the inner layers" if fast else "one for each weight"),
        Term(
            "rows",
            20 * shape.n_interactions + 32 * shape.n_users,
            "the interactions: 20 bytes each, 32 a user",
        ),
        *_step_terms(config, shape, decoder[-1], fast=fast, recorded=on_graph, weights=weights),
        *_validation_terms(config, shape, encoder[0], decoder[-1], weights),
    ]
    if on_graph:
        number = 2 if _in_bfloat16(config) else _FLOAT
        padded = number * shape.n_items * (decoder[-1] + 8)
        read = number * shape.n_items * encoder[0] + padded
        terms.append(Term("copies of the tables", read, "as the products read them"))
        terms.append(Term("gradient of the output table", padded, "as the products write it"))
    checkpoint = sum(term.n_bytes for term in copies)
    disk = _CHECKPOINTS * checkpoint + weights
    if on_cuda:
        host = (
            Term("CUDA libraries", _CUDA_HOST_BYTES, "a guess, not measured"),
            Term("checkpoint", checkpoint, "copied from the device to be written"),
        )
        return Needs(parameters, host, tuple(terms), checkpoint, disk)
    kept = Term("allocator", _ALLOCATOR_BYTES, "freed blocks that are not given back")
    return Needs(parameters, (*terms, kept), (), checkpoint, disk)


def _in_bfloat16(config: TrainingConfig) -> bool:
    return resolve_precision(config.precision, resolve_device(config.device)) == "bfloat16"


def _step_terms(
    config: TrainingConfig,
    shape: TrainingShape,
    width: int,
    *,
    fast: bool,
    recorded: bool,
    weights: int,
) -> list[Term]:
    """What a step holds beside weights and gradients."""
    n_items, n_users = shape.n_items, max(1, shape.n_users)
    batch = planned_batch_size(config, n_users)
    bfloat16 = _in_bfloat16(config)
    number = 2 if bfloat16 else _FLOAT
    terms = [
        Term(
            "batch entries",
            64 * batch * -(-shape.n_interactions // n_users),
            f"64 bytes for each interaction of {batch} users",
        )
    ]
    if fast:
        most = device_path.STORED_BYTES if recorded else fused_softmax.STORED_BYTES
        stored = min(number * batch * n_items, most)
        blocks = fused_softmax.block_bytes(n_items, batch, width, itemsize=number)
        terms.append(Term("batch scores", stored, f"{batch} users x {n_items} items, once"))
        if not recorded:
            terms.append(Term("blocks of the output table", blocks, "padded copies"))
    else:
        dense = config.path == "plain"
        scores = (5 if dense else 3) * _FLOAT * batch * n_items
        what = f"{batch} users x {n_items} items, with logarithms and gradient"
        what += ", and dense histories" if dense else ""
        terms.append(Term("batch scores", scores, what, "step"))
        if bfloat16:
            halves = weights // 2 + number * batch * n_items
            terms.append(Term("bfloat16 copies", halves, "of weights and scores", "step"))
    decay = getattr(config, "weight_decay", 0.0)
    if decay:
        squares = _FLOAT * n_items * width if fast else weights
        terms.append(Term("weight decay", squares, "squares of the weights", "step"))
    return terms


def _validation_terms(
    config: TrainingConfig, shape: TrainingShape, first: int, last: int, weights: int
) -> list[Term]:
    """What judging the validation users takes."""
    if not shape.n_validation:
        return []
    n_items = shape.n_items
    on_cuda = resolve_device(config.device).type == "cuda"
    at_once = 1 if on_cuda else batches_at_once(n_items)
    most_users = rows_at_once(n_items, Autoencoder.users_per_pass, chunks=at_once)
    at_once = min(at_once, -(-shape.n_validation // most_users))
    users = min(shape.n_validation, at_once * most_users)
    most = max(DEVICE_CELLS, n_items) if on_cuda else at_once * max(MAX_CELLS, 256 * most_users)
    cells = min(users * n_items, most)
    pairs = users * min(n_items, _LISTED)
    gathered = 0 if 8 * n_items * last <= WIDE_BYTES else min(at_once * GATHERED, pairs * last)
    rounding = 32 * min(n_items * max(first, last), _ROUNDED)
    judging: tuple[Phase, ...] = ("validation", "evaluation")
    # The output layer is kept in 8 bits and float64 as well.
    ranking = weights + (1 if gathered else 9) * n_items * last
    terms = [
        *(Term("ranking weights", ranking, "on the grid of exact sums", p) for p in judging),
        Term("rounding", rounding, "rows of a table in float64", "validation"),
        Term("evaluation: histories", 32 * users * first, "sums of their rows", "evaluation"),
        Term("evaluation: scores", _FLOAT * cells, f"of {users} users", "evaluation"),
        Term("evaluation: lists", 24 * gathered + 200 * pairs, "what may be listed", "evaluation"),
    ]
    if config.ema_decay is not None:
        terms += [Term("weights aside", weights, "while the average is judged", p) for p in judging]
    return terms


def _ease(shape: TrainingShape, rows: Term) -> Needs:
    """EASE solves for items, or for users where they are fewer."""
    cells = shape.n_items**2
    unknowns = min(shape.n_items, shape.n_users)
    number = 8 if unknowns <= FLOAT64_UP_TO else _FLOAT
    by_users = shape.n_users < shape.n_items
    item_number = _FLOAT if by_users else number
    size = f"{shape.n_items} x {shape.n_items}"
    terms = [rows, Term("item table", item_number * cells, f"{size}, {item_number} bytes each")]
    if by_users:
        what = f"half of {unknowns} x {unknowns}, {number} bytes each"
        terms.append(Term("user table", number * unknowns**2 // 2, what, "step"))
        block = 6 * number * min(BLOCK, unknowns) * shape.n_items
        terms.append(Term("blocks", block, "rows of the item table, six times", "step"))
    elif item_number != _FLOAT:
        terms.append(Term("rounding", _FLOAT * cells, "the table in float32", "step"))
    return Needs(cells, tuple(terms), disk_bytes=_FLOAT * cells)
