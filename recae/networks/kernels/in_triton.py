"""`TritonKernels`: launches the Triton kernels of a training step.

The block sizes are for an H200; `benchmarks/gpu.py` times them.
"""

from typing import final

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from recae.errors import ResourceError
from recae.networks.kernels import codes, drawing, softmax, tables
from recae.networks.kernels.entries import Entries
from recae.networks.kernels.language import triton
from recae.networks.kernels.moments import ItemTable, Schedule


@final
class TritonKernels:
    """See `StepKernels`.

    Parameters
    ----------
    users, tile, inner
        Of a tile of products: users, items, and columns read at once.
    warps, stages
        Warps of a tile's program, and how many loads it has under way.

    Raises
    ------
    ResourceError
        If Triton is not installed.
    """

    def __init__(
        self,
        *,
        users: int = 128,
        tile: int = 128,
        inner: int = 64,
        warps: int = 8,
        stages: int = 3,
    ) -> None:
        if triton is None:
            raise ResourceError("Triton is not installed; the kernels in torch are accepted")
        self.tile = tile
        self._users, self._inner, self._warps, self._stages = users, inner, warps, stages
        self._interpreted = bool(triton.knobs.runtime.interpret)

    def entries(
        self,
        all_items: Int32[Tensor, " nnz"],
        sources: Int64[Tensor, " batch"],
        offsets: Int64[Tensor, " ends"],
        counter: Int64[Tensor, " one"],
        seed: Int64[Tensor, " one"],
        *,
        n_items: int,
        capacity: int,
        dropout: float,
        dtype: torch.dtype,
    ) -> Entries:
        items, rows, keys = torch.empty(3, capacity, dtype=torch.int32, device=offsets.device)
        values = torch.empty(capacity, dtype=dtype, device=offsets.device)
        n_users = len(sources)
        drawing.entries_kernel[(n_users + 1,)](
            all_items, sources, offsets, counter, seed, items, rows, values, keys,
            n_users, n_items, capacity, dropout, CHUNK=128,
        )  # fmt: skip
        return Entries(items, rows, values, keys, offsets)

    def noise(
        self,
        shape: tuple[int, int],
        counter: Int64[Tensor, " one"],
        seed: Int64[Tensor, " one"],
        dtype: torch.dtype,
    ) -> Float[Tensor, "rows columns"]:
        out = torch.empty(shape, dtype=dtype, device=counter.device)
        n = out.numel()
        drawing.noise_kernel[(triton.cdiv(n, 1024),)](counter, seed, out, n, CHUNK=1024)
        return out

    def code(
        self,
        mu: Float[Tensor, "batch latent"],
        log_var: Float[Tensor, "batch latent"],
        noise: Float[Tensor, "batch latent"],
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, " batch"]]:
        n_users, width = mu.shape
        z, kl = torch.empty_like(noise), torch.empty(n_users, device=mu.device)
        codes.code_kernel[(n_users,)](
            mu, log_var, noise, z, kl, _row_stride(mu, log_var), width,
            BLOCK=triton.next_power_of_2(width),
        )  # fmt: skip
        return z, kl

    def code_gradients(
        self,
        mu: Float[Tensor, "batch latent"],
        log_var: Float[Tensor, "batch latent"],
        noise: Float[Tensor, "batch latent"],
        dz: Float[Tensor, "batch latent"],
        dkl: Float[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        n_users, width = mu.shape
        d_mu, d_log_var = torch.empty_like(noise), torch.empty_like(noise)
        codes.code_gradient_kernel[(n_users,)](
            mu, log_var, noise, dz.contiguous(), dkl.contiguous(), d_mu, d_log_var,
            _row_stride(mu, log_var), width, BLOCK=triton.next_power_of_2(width),
        )  # fmt: skip
        return d_mu, d_log_var

    def columns(
        self, h: Float[Tensor, "batch width"], n_columns: int, dtype: torch.dtype
    ) -> Float[Tensor, "batch columns"]:
        h = h.contiguous()
        out = torch.empty(len(h), n_columns, dtype=dtype, device=h.device)
        block = triton.next_power_of_2(n_columns)
        softmax.columns_kernel[(len(h),)](h, out, h.shape[1], n_columns, BLOCK=block)
        return out

    def set_shift(
        self,
        columns: Float[Tensor, "batch columns"],
        logits: Float[Tensor, "batch few"],
        width: int,
    ) -> None:
        few = logits.shape[1]
        softmax.shift_kernel[(len(columns),)](
            logits, columns, width, columns.shape[1], few, BLOCK=triton.next_power_of_2(few)
        )

    def exp(
        self,
        columns: Float[Tensor, "batch columns"],
        table: Float[Tensor, "rows columns"],
        e: Float[Tensor, "batch rows"],
        sums: Float[Tensor, "tiles batch"],
        largest: Float[Tensor, "tiles batch"],
        flags: Int32[Tensor, " batch"],
        *,
        n_live: int,
        first_tile: int,
        again: bool,
    ) -> None:
        n_users = len(columns)
        grid = (triton.cdiv(n_users, self._users) * (len(table) // self.tile),)
        # Float32 tiles need twice the shared memory.
        inner = self._inner if columns.dtype == torch.bfloat16 else self._inner // 2
        softmax.exp_kernel[grid](
            columns, table, e, sums, largest, flags, n_users, n_live, e.stride(0), first_tile,
            n_columns=columns.shape[1], AGAIN=again, UPCAST=self._interpreted,
            USERS=self._users, ITEMS=self.tile, INNER=inner,
            num_warps=self._warps, num_stages=self._stages,
        )  # fmt: skip

    def add_sums(
        self,
        sums: Float[Tensor, "tiles batch"],
        largest: Float[Tensor, "tiles batch"],
        columns: Float[Tensor, "batch columns"],
        flags: Int32[Tensor, " batch"],
        *,
        width: int,
        limit: float,
        again: bool,
    ) -> Float[Tensor, " batch"]:
        s = torch.empty(len(columns), device=columns.device)
        softmax.sums_kernel[(len(columns),)](
            sums, largest, columns, flags, s, len(sums), len(columns), width, columns.shape[1],
            limit, AGAIN=again, CHUNK=256,
        )  # fmt: skip
        return s

    def scale(
        self,
        columns: Float[Tensor, "batch columns"],
        gradient: Float[Tensor, " batch"],
        offsets: Int64[Tensor, " ends"],
        s: Float[Tensor, " batch"],
        width: int,
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch columns"]]:
        n_users, n_columns = columns.shape
        scale = torch.empty(n_users, device=columns.device)
        scaled = torch.empty_like(columns)
        softmax.scale_kernel[(n_users,)](
            columns, gradient.contiguous(), offsets, s, scale, scaled, width, n_columns,
            BLOCK=triton.next_power_of_2(n_columns),
        )  # fmt: skip
        return scale, scaled

    def targets(
        self,
        entries: Entries,
        s: Float[Tensor, " batch"],
        e: Float[Tensor, "batch rows"],
        *,
        begin: int,
        end: int,
    ) -> None:
        softmax.targets_kernel[(len(s),)](
            entries.items, entries.offsets, s, e, e.stride(0), begin, end, CHUNK=128
        )

    def bag(
        self,
        table: Float[Tensor, "rows columns"],
        entries: Entries,
        values: Float[Tensor, " capacity"] | None,
        width: int,
    ) -> Float[Tensor, "batch width"]:
        n_users = len(entries.offsets) - 1
        out = torch.empty(n_users, width, device=table.device)
        tables.bag_kernel[(n_users, triton.cdiv(width, 128))](
            table, entries.items, entries.values, entries.offsets, out, width, table.stride(0),
            WEIGHTED=values is not None, CHUNK=32, BLOCK=128,
        )  # fmt: skip
        return out

    def encoder(
        self,
        table: ItemTable,
        gradient: Float[Tensor, "batch width"] | None,
        entries: Entries,
        order: Int64[Tensor, " capacity"],
        starts: Int64[Tensor, " ends"],
        schedule: Schedule,
        *,
        every_row: bool,
        decay: float,
    ) -> None:
        n_items, width = table.weight.shape
        update = gradient is not None
        tables.encoder_kernel[(n_items,)](
            table.weight, table.exp_avg, table.exp_avg_sq, table.copy, table.last,
            gradient.contiguous() if gradient is not None else table.weight,
            entries.rows, entries.values, order, starts, schedule.lines, schedule.counter, decay,
            width=width, schedule_columns=schedule.lines.shape[1], ALL=every_row, UPDATE=update,
            CHUNK=8, BLOCK=min(256, triton.next_power_of_2(width)),
        )  # fmt: skip

    def output(
        self,
        table: ItemTable,
        bias: ItemTable,
        gradient: Float[Tensor, "rows columns"],
        schedule: Schedule,
        *,
        begin: int,
        end: int,
        decay: float,
    ) -> None:
        width = table.weight.shape[1]
        rows, block = 4, min(256, triton.next_power_of_2(width))
        tables.output_kernel[(triton.cdiv(end - begin, rows), triton.cdiv(width, block))](
            table.weight, table.exp_avg, table.exp_avg_sq,
            bias.weight, bias.exp_avg, bias.exp_avg_sq, table.copy, gradient,
            schedule.lines, schedule.counter, decay, begin, end, width, gradient.shape[1],
            schedule.lines.shape[1], ROWS=rows, BLOCK=block,
        )  # fmt: skip


def _row_stride(mu: Tensor, log_var: Tensor) -> int:
    """Distance of the rows of two halves of one array."""
    assert mu.stride() == log_var.stride()
    assert mu.stride(1) == 1
    return mu.stride(0)
