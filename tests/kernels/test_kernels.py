"""Each kernel of the device step against float64 NumPy.

The kernels in torch run everywhere. Those in Triton run on a GPU, or under Triton's interpreter
(``make kernel-test``), which needs an older NumPy than the package and so has its own environment.
"""

from typing import Any

import numpy as np
import pytest
import torch

from recae.networks.kernels.entries import Entries
from recae.networks.kernels.in_torch import TorchKernels
from recae.networks.kernels.in_triton import TritonKernels
from recae.networks.kernels.language import triton
from recae.networks.kernels.moments import ItemTable, Schedule

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
RUNS_TRITON = triton is not None and (CUDA or triton.knobs.runtime.interpret)
KERNELS = pytest.mark.parametrize(
    "kernels",
    [
        "torch",
        pytest.param(
            "triton",
            marks=pytest.mark.skipif(
                not RUNS_TRITON,
                reason="needs Triton and a GPU, or its interpreter: make kernel-test",
            ),
        ),
    ],
    indirect=True,
)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
# Relative error of a result as a norm: a rounding of bfloat16 is 2e-3 to 4e-3.
# A GPU's exponential, root and quotient are off by a few units in the last place.
BOUND = {torch.float32: 1e-5 if CUDA else 2e-6, torch.bfloat16: 6e-3}
# The interpreter cuts numbers to bfloat16, the device rounds them.
CUT = 0.0 if CUDA else 2**-7
USERS, ITEMS, WIDTH, COLUMNS = 37, 300, 20, 48
LENGTHS = [1, 0, 5, 150, 3]


@pytest.fixture
def kernels(request: pytest.FixtureRequest) -> Any:
    if request.param == "torch":
        return TorchKernels()
    return TritonKernels(users=32, inner=32, warps=4)


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    numbers = np.random.default_rng(seed).normal(size=shape)
    return torch.from_numpy(numbers).to(DEVICE, dtype)


def numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.double().cpu().numpy()


def distance(found: torch.Tensor, truth: np.ndarray) -> float:
    return float(np.linalg.norm(numpy(found) - truth) / np.linalg.norm(truth))


def cut(kernels: Any, dtype: torch.dtype) -> float:
    return CUT if isinstance(kernels, TritonKernels) and dtype == torch.bfloat16 else 0.0


def scalar(value: int) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.int64, device=DEVICE)


def drawn(kernels: Any, *, dropout: float, step: int = 7, capacity: int = 256) -> Entries:
    """Entries of five users, whose histories lie apart in a longer list."""
    rng = np.random.default_rng(0)
    lists = [np.sort(rng.choice(ITEMS, n, replace=False)) for n in LENGTHS]
    sources = np.cumsum([3, *LENGTHS[:-1]])
    everything = np.concatenate([[9, 9, 9], *lists, [8, 8]]).astype(np.int32)
    return kernels.entries(
        torch.from_numpy(everything).to(DEVICE),
        torch.from_numpy(sources).to(DEVICE),
        torch.from_numpy(np.cumsum([0, *LENGTHS])).to(DEVICE),
        scalar(step),
        scalar(0x0123_4567_89AB_CDEF),
        n_items=ITEMS,
        capacity=capacity,
        dropout=dropout,
        dtype=torch.float32,
    )


def philox(key: int, counter: tuple[int, int, int, int]) -> list[int]:
    """Philox 4x32-10 in integers of Python; Salmon et al., SC 2011, section 4.3."""
    a, b, c, d = counter
    low, high = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        left, right = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = (
            (right >> 32) ^ b ^ low, right & 0xFFFFFFFF, (left >> 32) ^ d ^ high, left & 0xFFFFFFFF
        )  # fmt: skip
        low, high = (low + 0x9E3779B9) & 0xFFFFFFFF, (high + 0xBB67AE85) & 0xFFFFFFFF
    return [a, b, c, d]


def test_philox_gives_the_numbers_its_authors_publish() -> None:
    """Known answers of the Random123 library, file ``kat_vectors``."""
    assert philox(0, (0, 0, 0, 0)) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    words = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    assert philox(0x299F31D0_A4093822, words) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


@KERNELS
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_entries(kernels: Any, dropout: float) -> None:
    found = drawn(kernels, dropout=dropout)
    used = sum(LENGTHS)
    rows = np.repeat(np.arange(5), LENGTHS)
    uniform = [philox(0x0123_4567_89AB_CDEF, (p, 7, 0, 0))[0] >> 8 for p in range(used)]
    kept = np.array(uniform) / 2**24 >= dropout
    values = kept / (np.sqrt(np.array(LENGTHS))[rows] * (1 - dropout))
    assert 0 < kept.sum() <= used
    assert kept.all() == (dropout == 0)
    np.testing.assert_array_equal(numpy(found.rows)[:used], rows)
    np.testing.assert_allclose(numpy(found.values)[:used], values, rtol=BOUND[torch.float32])
    items = numpy(found.items)[:used]
    assert (np.diff(items)[np.diff(rows) == 0] > 0).all()
    np.testing.assert_array_equal(numpy(found.keys)[:used], np.where(kept, items, ITEMS))
    for array, empty in ((found.items, 0), (found.rows, 0), (found.values, 0), (found.keys, ITEMS)):
        assert (array[used:] == empty).all()


@KERNELS
def test_noise(kernels: Any) -> None:
    found = kernels.noise((3, 400), scalar(2), scalar(5), torch.float32)
    words = np.array([philox(5, (p, 2, 1, 0))[:2] for p in range(1200)]) >> 8
    one, two = words.T / 2**24
    truth = np.sqrt(-2 * np.log(1 - one)) * np.cos(2 * np.pi * two)
    np.testing.assert_allclose(numpy(found).ravel(), truth, rtol=1e-4, atol=1e-5)
    assert abs(truth.mean()) < 0.1
    assert abs(truth.std() - 1) < 0.1


@KERNELS
def test_code_and_its_gradients(kernels: Any) -> None:
    both, noise = normal(7, 22, seed=1), normal(7, 11, seed=2)
    mu, log_var = both[:, :11], both[:, 11:]
    dz, dkl = normal(7, 11, seed=3), normal(7, seed=4)
    z, kl = kernels.code(mu, log_var, noise)
    m, lv, n = numpy(mu), numpy(log_var), numpy(noise)
    assert distance(z, m + n * np.exp(lv / 2)) < BOUND[torch.float32]
    assert distance(kl, (np.exp(lv) + m**2 - 1 - lv).sum(1) / 2) < BOUND[torch.float32]
    d_mu, d_log_var = kernels.code_gradients(mu, log_var, noise, dz, dkl)
    g, k = numpy(dz), numpy(dkl)[:, None]
    assert distance(d_mu, g + k * m) < BOUND[torch.float32]
    truth = g * n * np.exp(lv / 2) / 2 + k * (np.exp(lv) - 1) / 2
    assert distance(d_log_var, truth) < BOUND[torch.float32]


def likelihood_parts(kernels: Any, dtype: torch.dtype, *, tall: float = 0.0) -> dict[str, Any]:
    """Columns, a copy of an output layer with padding, and room for what `exp` leaves."""
    tile = kernels.tile
    n_rows = -(-ITEMS // tile) * tile
    h = torch.tanh(normal(USERS, WIDTH, seed=1))
    weight, bias = normal(ITEMS, WIDTH, seed=2), normal(ITEMS, seed=3)
    if tall:
        weight[200] = tall * h[5].sign()
    copy = torch.zeros(n_rows, COLUMNS, dtype=dtype, device=DEVICE)
    ItemTable.of(weight, copy).refresh_output(bias, slice(0, ITEMS))
    columns = kernels.columns(h, COLUMNS, dtype)
    return {
        "h": h,
        "columns": columns,
        "table": copy,
        "e": torch.full((USERS, n_rows), float("nan"), dtype=dtype, device=DEVICE),
        "sums": torch.full((n_rows // tile, USERS), float("nan"), device=DEVICE),
        "largest": torch.full((n_rows // tile, USERS), float("nan"), device=DEVICE),
        "flags": torch.zeros(USERS, dtype=torch.int32, device=DEVICE),
    }


def run_exp(kernels: Any, parts: dict[str, Any], *, again: bool) -> torch.Tensor:
    """Both launches of a pass."""
    names = ("columns", "table", "e", "sums", "largest", "flags")
    kernels.exp(*(parts[n] for n in names), n_live=ITEMS, first_tile=0, again=again)
    return kernels.add_sums(
        *(parts[n] for n in ("sums", "largest", "columns", "flags")),
        width=WIDTH, limit=1e9, again=again,
    )  # fmt: skip


@KERNELS
@DTYPES
def test_columns_and_shift(kernels: Any, dtype: torch.dtype) -> None:
    h, logits = normal(USERS, WIDTH, seed=1), 50 * normal(USERS, 11, seed=2).to(dtype)
    columns = kernels.columns(h, COLUMNS, dtype)
    kernels.set_shift(columns, logits, WIDTH)
    assert columns.dtype == dtype
    torch.testing.assert_close(columns[:, :WIDTH], h.to(dtype), rtol=cut(kernels, dtype), atol=0)
    assert (columns[:, WIDTH : WIDTH + 2] == 1).all()
    shift = -numpy(columns[:, WIDTH + 2 : WIDTH + 4]).sum(1)
    np.testing.assert_allclose(shift, numpy(logits).max(1), rtol=1e-6)
    assert (columns[:, WIDTH + 4 :] == 0).all()


@KERNELS
@DTYPES
def test_exponentials_and_their_sums(kernels: Any, dtype: torch.dtype) -> None:
    parts = likelihood_parts(kernels, dtype)
    kernels.set_shift(parts["columns"], parts["columns"] @ parts["table"][:50].T, WIDTH)
    s = run_exp(kernels, parts, again=False)
    truth = np.exp(numpy(parts["columns"]) @ numpy(parts["table"]).T)
    truth[:, ITEMS:] = 0
    assert distance(parts["e"], truth) < BOUND[dtype]
    assert (parts["e"][:, ITEMS:] == 0).all()
    # The sums are of the rounded numbers, so that they agree with what is multiplied.
    np.testing.assert_allclose(numpy(s), numpy(parts["e"]).sum(1), rtol=BOUND[torch.float32])
    np.testing.assert_allclose(
        numpy(parts["largest"]).max(0), np.log(truth[:, :ITEMS]).max(1), rtol=1e-5, atol=1e-5
    )
    assert not parts["flags"].any()


@KERNELS
@pytest.mark.parametrize(
    ("dtype", "tall"),
    [
        (torch.float32, 20.0),
        (torch.bfloat16, 6.0),
    ]  # the interpreter's bfloat16 has no small numbers
    + [(torch.bfloat16, 20.0)] * CUDA,
)
def test_logits_far_above_the_shift_are_computed_again(
    kernels: Any, dtype: torch.dtype, tall: float
) -> None:
    parts = likelihood_parts(kernels, dtype, tall=tall)
    assert numpy(parts["columns"] @ parts["table"].T).max() > 8 * tall
    s = run_exp(kernels, parts, again=False)
    flagged = parts["flags"].nonzero().flatten().tolist()
    assert 5 in flagged
    assert len(flagged) < USERS
    assert torch.isfinite(s[5]) == (tall < 10)
    s = run_exp(kernels, parts, again=True)
    logits = numpy(parts["columns"]) @ numpy(parts["table"]).T
    truth = np.exp(logits[:, :ITEMS])
    # A logit of 200 is known to 1e-5, and its exponential to as much.
    assert distance(parts["e"][:, :ITEMS], truth) < 10 * BOUND[dtype]
    assert abs(logits[flagged].max(1)).max() < 1e-3
    np.testing.assert_allclose(numpy(s), numpy(parts["e"]).sum(1), rtol=BOUND[torch.float32])


@KERNELS
@DTYPES
def test_logits_far_below_the_shift_are_computed_again(kernels: Any, dtype: torch.dtype) -> None:
    """A large logit that was rounded up to be the shift leaves exponentials that are all 0."""
    parts = likelihood_parts(kernels, dtype)
    logits = parts["columns"] @ parts["table"][:50].T
    logits[5] += 200
    kernels.set_shift(parts["columns"], logits, WIDTH)
    s = run_exp(kernels, parts, again=False)
    assert s[5] == 0
    assert parts["flags"].nonzero().flatten().tolist() == [5]
    s = run_exp(kernels, parts, again=True)
    truth = np.exp(numpy(parts["columns"]) @ numpy(parts["table"]).T)[:, :ITEMS]
    assert distance(parts["e"][:, :ITEMS], truth) < BOUND[dtype]
    assert truth[5].max() == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(numpy(s), numpy(parts["e"]).sum(1), rtol=BOUND[torch.float32])


@KERNELS
def test_numbers_that_are_not_finite_stay_so(kernels: Any) -> None:
    parts = likelihood_parts(kernels, torch.float32)
    parts["columns"][3, 0] = float("nan")
    run_exp(kernels, parts, again=False)
    s = run_exp(kernels, parts, again=True)
    assert torch.isnan(s[3])
    assert torch.isfinite(s[4])


@KERNELS
@DTYPES
def test_scale_and_targets(kernels: Any, dtype: torch.dtype) -> None:
    entries = drawn(kernels, dropout=0.5)
    e = normal(5, 384, seed=4).abs().to(dtype)
    columns, gradient = normal(5, COLUMNS, seed=5, dtype=dtype), normal(5, seed=6)
    before, s = numpy(e), torch.arange(5, 10, device=DEVICE, dtype=torch.float32)
    scale, scaled = kernels.scale(columns, gradient, entries.offsets, s, WIDTH)
    truth = numpy(gradient) * LENGTHS / numpy(s)
    assert distance(scale, truth) < BOUND[torch.float32]
    expected = numpy(columns) * truth[:, None]
    expected[:, WIDTH], expected[:, WIDTH + 1 :] = truth, 0
    assert distance(scaled, expected) < BOUND[dtype]
    begin, end = 100, 250
    kernels.targets(entries, s, e, begin=begin, end=end)
    used = sum(LENGTHS)
    for user, item in zip(numpy(entries.rows)[:used], numpy(entries.items)[:used], strict=True):
        if begin <= item < end:
            before[int(user), int(item) - begin] -= numpy(s)[int(user)] / LENGTHS[int(user)]
    assert distance(e, before) < BOUND[dtype]


@KERNELS
@DTYPES
@pytest.mark.parametrize("weighted", [True, False])
def test_bag(kernels: Any, dtype: torch.dtype, weighted: bool) -> None:
    entries, table = drawn(kernels, dropout=0.5), normal(ITEMS, 150, seed=1, dtype=dtype)
    found = kernels.bag(table, entries, entries.values if weighted else None, 140)
    truth = np.zeros((5, 140))
    for place in range(sum(LENGTHS)):
        value = numpy(entries.values)[place] if weighted else 1.0
        row, item = int(entries.rows[place]), int(entries.items[place])
        truth[row] += value * numpy(table)[item, :140]
    assert found.dtype == torch.float32
    assert distance(found, truth) < BOUND[torch.float32]


def schedule(steps: int, done: int) -> Schedule:
    t = np.arange(1, steps + 1)
    lines = np.stack([0 * t, 1e-2 / (1 - 0.9**t), 1 / np.sqrt(1 - 0.999**t), 0 * t + 1], axis=1)
    return Schedule(torch.from_numpy(lines).to(DEVICE, torch.float32), scalar(done))


def adam(p: Any, m: Any, v: Any, g: Any, t: int) -> tuple[Any, Any, Any]:
    """Algorithm 1 of Kingma & Ba; `t` is counted from 1."""
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    return p - 1e-2 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), m, v


def trained_table(n_rows: int, *width: int, copy: torch.Tensor, last: int) -> ItemTable:
    table = ItemTable.of(normal(n_rows, *width, seed=1), copy)
    table.exp_avg.copy_(normal(n_rows, *width, seed=2))
    table.exp_avg_sq.copy_(normal(n_rows, *width, seed=3).square())
    table.last.fill_(last)
    return table


@KERNELS
@DTYPES
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_encoder_update(kernels: Any, dtype: torch.dtype, decay: float) -> None:
    entries, width = drawn(kernels, dropout=0.5), 20
    keys, order = torch.sort(entries.keys, stable=True)
    starts = torch.searchsorted(keys, torch.arange(ITEMS + 1, device=DEVICE, dtype=torch.int32))
    copy = torch.full((ITEMS, width), float("nan"), dtype=dtype, device=DEVICE)
    table = trained_table(ITEMS, width, copy=copy, last=4)
    p, m, v = numpy(table.weight), numpy(table.exp_avg), numpy(table.exp_avg_sq)
    gradient = normal(5, width, seed=4)
    kernels.encoder(
        table, gradient, entries, order, starts, schedule(9, 4), every_row=True, decay=decay
    )
    g = decay * p
    for place in range(sum(LENGTHS)):
        row, item = int(entries.rows[place]), int(entries.items[place])
        g[item] += numpy(entries.values)[place] * numpy(gradient)[row]
    truth = adam(p, m, v, g, 5)
    for mine, true in zip((table.weight, table.exp_avg, table.exp_avg_sq), truth, strict=True):
        assert distance(mine, true) < BOUND[torch.float32]
    rtol = cut(kernels, dtype)
    torch.testing.assert_close(table.copy, table.weight.to(dtype), rtol=rtol, atol=0)


@pytest.mark.skipif(not RUNS_TRITON, reason="needs Triton and a GPU, or its interpreter")
def test_encoder_rows_put_off_end_where_dense_ones_end() -> None:
    """Twelve steps of random batches; rows move by their momentum when nobody has the item."""
    kernels, width, steps = TritonKernels(), 20, 12
    copy = torch.zeros(ITEMS, width, device=DEVICE)
    start = normal(ITEMS, width, seed=1)
    lazy = ItemTable.of(start.clone(), copy)
    p, m, v = numpy(start), 0.0 * numpy(start), 0.0 * numpy(start)
    plan = schedule(steps, 0)
    late = 0
    for step in range(steps):
        entries = drawn(kernels, dropout=0.8, step=step)
        keys, order = torch.sort(entries.keys, stable=True)
        starts = torch.searchsorted(keys, torch.arange(ITEMS + 1, device=DEVICE, dtype=torch.int32))
        options: dict[str, Any] = {"every_row": False, "decay": 0.0}
        kernels.encoder(lazy, None, entries, order, starts, plan, **options)
        touched = np.unique(numpy(entries.keys[entries.values != 0])).astype(int)
        np.testing.assert_allclose(numpy(lazy.weight)[touched], p[touched], rtol=1e-4, atol=1e-6)
        gradient = normal(5, width, seed=step)
        kernels.encoder(lazy, gradient, entries, order, starts, plan, **options)
        g = np.zeros_like(p)
        for place in range(sum(LENGTHS)):
            row, item = int(entries.rows[place]), int(entries.items[place])
            g[item] += numpy(entries.values)[place] * numpy(gradient)[row]
        p, m, v = adam(p, m, v, g, step + 1)
        plan.counter.add_(1)
        late += int((lazy.last < step + 1).sum())
    assert late > ITEMS
    kernels.encoder(lazy, None, entries, order, starts, plan, every_row=True, decay=0.0)
    for mine, true in zip((lazy.weight, lazy.exp_avg, lazy.exp_avg_sq), (p, m, v), strict=True):
        assert distance(mine, true) < 1e-5
    assert distance(lazy.weight - start, p - numpy(start)) < 1e-4
    torch.testing.assert_close(lazy.copy, lazy.weight, rtol=0, atol=0)


@KERNELS
@DTYPES
def test_output_update(kernels: Any, dtype: torch.dtype) -> None:
    begin, end, decay = 130, 290, 0.1
    copy = torch.zeros(384, COLUMNS, dtype=dtype, device=DEVICE)
    table = trained_table(ITEMS, WIDTH, copy=copy, last=4)
    bias = trained_table(ITEMS, copy=copy, last=4)
    states = [[numpy(x) for x in (t.weight, t.exp_avg, t.exp_avg_sq)] for t in (table, bias)]
    gradient = normal(256, COLUMNS, seed=5, dtype=dtype)
    kernels.output(table, bias, gradient, schedule(9, 4), begin=begin, end=end, decay=decay)
    part, g = slice(begin, end), numpy(gradient)[: end - begin]
    gradients = (g[:, :WIDTH] + decay * states[0][0][part], g[:, WIDTH])
    for found, state, own in zip((table, bias), states, gradients, strict=True):
        for whole, new in zip(state, adam(*(x[part] for x in state), own, 5), strict=True):
            whole[part] = new
        for mine, true in zip((found.weight, found.exp_avg, found.exp_avg_sq), state, strict=True):
            assert distance(mine, true) < BOUND[torch.float32]
    rounded, rtol = table.weight[part].to(dtype), cut(kernels, dtype)
    torch.testing.assert_close(copy[part, :WIDTH], rounded, rtol=rtol, atol=0)
    parts = numpy(copy[part, WIDTH : WIDTH + 2]).sum(1)
    np.testing.assert_allclose(parts, numpy(bias.weight[part]), rtol=1e-4, atol=1e-6)
    assert (copy[:begin] == 0).all()
    assert (copy[end:] == 0).all()
