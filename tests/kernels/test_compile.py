"""Every Triton kernel compiles for an H200, without a GPU: what the interpreter cannot show."""

from typing import Any

import pytest

from recae.networks.kernels import codes, drawing, softmax, tables
from recae.networks.kernels.language import triton

pytestmark = pytest.mark.skipif(
    triton is None or triton.knobs.runtime.interpret,
    reason="needs Triton, and not its interpreter: make kernel-test",
)

INDEX = {"all_items", "items", "rows", "keys", "flags"}
LONG = {"sources", "offsets", "counter", "seed", "last", "order", "starts"}
PRODUCTS = {"columns", "table", "e", "copy", "scaled"}
REALS = {"dropout", "limit", "decay"}
NUMBERS = {
    "n_users", "n_items", "capacity", "n", "width", "n_columns", "few", "n_live", "stride",
    "first_tile", "n_tiles", "begin", "end", "schedule_columns",
}  # fmt: skip


def kind(name: str, kernel: str) -> str:
    """Type of an argument, as Triton writes it."""
    if name in REALS:
        return "fp32"
    if name in NUMBERS:
        return "i32"
    if name in INDEX or name in LONG:
        return "*i32" if name in INDEX else "*i64"
    master = name == "table" and kernel in ("encoder_kernel", "output_kernel")
    rounded = name in PRODUCTS and not master
    rounded |= kernel == "shift_kernel" or (kernel, name) == ("output_kernel", "gradient")
    return "*bf16" if rounded else "*fp32"


ROWS = {"width": 600, "schedule_columns": 4, "CHUNK": 8, "BLOCK": 256}
TILE = {"n_columns": 608, "UPCAST": False, "USERS": 128, "ITEMS": 128, "INNER": 64}
CASES = [
    (drawing.entries_kernel, {"CHUNK": 128}),
    (drawing.noise_kernel, {"CHUNK": 1024}),
    (codes.code_kernel, {"BLOCK": 256}),
    (codes.code_gradient_kernel, {"BLOCK": 256}),
    (softmax.columns_kernel, {"BLOCK": 1024}),
    (softmax.shift_kernel, {"BLOCK": 256}),
    (softmax.exp_kernel, {**TILE, "AGAIN": False}),
    (softmax.exp_kernel, {**TILE, "AGAIN": True}),
    (softmax.sums_kernel, {"AGAIN": False, "CHUNK": 256}),
    (softmax.sums_kernel, {"AGAIN": True, "CHUNK": 256}),
    (softmax.scale_kernel, {"BLOCK": 1024}),
    (softmax.targets_kernel, {"CHUNK": 128}),
    (tables.bag_kernel, {"WEIGHTED": True, "CHUNK": 32, "BLOCK": 128}),
    (tables.bag_kernel, {"WEIGHTED": False, "CHUNK": 32, "BLOCK": 128}),
    (tables.encoder_kernel, {**ROWS, "ALL": True, "UPDATE": True}),
    (tables.encoder_kernel, {**ROWS, "ALL": False, "UPDATE": True}),
    (tables.encoder_kernel, {**ROWS, "ALL": False, "UPDATE": False}),
    (tables.output_kernel, {"ROWS": 4, "BLOCK": 256}),
]


@pytest.mark.parametrize(("kernel", "constants"), CASES)
def test_compiles(kernel: Any, constants: dict[str, Any]) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names, name = kernel.arg_names, kernel.__name__
    assert set(constants) <= set(names)
    signature = {n: "constexpr" if n in constants else kind(n, name) for n in names}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, n in enumerate(names)
        if signature[n].startswith("*") or n == "stride"
    }
    source = ASTSource(
        kernel, signature, {(names.index(n),): value for n, value in constants.items()}, aligned
    )
    options = {"num_warps": 8, "num_stages": 3} if name == "exp_kernel" else {}
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert len(made.asm["cubin"]) > 1000
    if name == "exp_kernel":  # on the tensor cores, its loads under way meanwhile
        assert "wgmma.mma_async" in made.asm["ptx"]
        assert "cp.async" in made.asm["ptx"]
        assert made.metadata.shared <= 232_448
