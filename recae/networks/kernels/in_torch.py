"""`TorchKernels`: the kernels of a training step in plain torch, for any device and precision.

They say what the Triton kernels compute, and stand in for them where there is no Triton. None
waits for the device, so they too can be recorded in a graph.
"""

import math
from typing import final

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from recae.networks.kernels.entries import Entries, philox, uniform
from recae.networks.kernels.moments import ItemTable, Schedule, adam
from recae.networks.losses import gaussian_kl


@final
class TorchKernels:
    """See `StepKernels`."""

    tile = 128

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
        places = torch.arange(capacity, device=offsets.device)
        used = places < offsets[-1]
        row = torch.searchsorted(offsets[1:], places, right=True).clamp(max=len(sources) - 1)
        source = (sources[row] + places - offsets[row]).clamp(max=len(all_items) - 1)
        items = torch.where(used, all_items[source], 0)
        bits, _ = philox(seed, places, counter, 0)
        kept = used & (uniform(bits) >= dropout)
        lengths = offsets.diff().clamp(min=1).to(dtype)
        value = 1 / (lengths.sqrt() * (1 - dropout))
        return Entries(
            items,
            torch.where(used, row, 0).to(torch.int32),
            torch.where(kept, value[row], 0.0),
            torch.where(kept, items, n_items),
            offsets,
        )

    def noise(
        self,
        shape: tuple[int, int],
        counter: Int64[Tensor, " one"],
        seed: Int64[Tensor, " one"],
        dtype: torch.dtype,
    ) -> Float[Tensor, "rows columns"]:
        places = torch.arange(math.prod(shape), device=counter.device)
        one, two = philox(seed, places, counter, 1)
        radius = (-2 * (1 - uniform(one)).log()).sqrt()
        return (radius * (2 * math.pi * uniform(two)).cos()).view(shape).to(dtype)

    def code(
        self,
        mu: Float[Tensor, "batch latent"],
        log_var: Float[Tensor, "batch latent"],
        noise: Float[Tensor, "batch latent"],
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, " batch"]]:
        return mu + noise * (0.5 * log_var).exp(), gaussian_kl(mu, log_var)

    def code_gradients(
        self,
        mu: Float[Tensor, "batch latent"],
        log_var: Float[Tensor, "batch latent"],
        noise: Float[Tensor, "batch latent"],
        dz: Float[Tensor, "batch latent"],
        dkl: Float[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        by_noise = dz * noise * (0.5 * log_var).exp()
        dkl = dkl[:, None]
        return dz + dkl * mu, 0.5 * (by_noise + dkl * (log_var.exp() - 1))

    def columns(
        self, h: Float[Tensor, "batch width"], n_columns: int, dtype: torch.dtype
    ) -> Float[Tensor, "batch columns"]:
        out = torch.zeros(len(h), n_columns, dtype=dtype, device=h.device)
        width = h.shape[1]
        out[:, :width] = h
        out[:, width : width + 2] = 1.0
        return out

    def set_shift(
        self,
        columns: Float[Tensor, "batch columns"],
        logits: Float[Tensor, "batch few"],
        width: int,
    ) -> None:
        _write_shift(columns, logits.to(_sums(columns)).amax(1), width)

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
        precise = _sums(columns)
        z = columns.to(precise) @ table.to(precise).T
        z[:, n_live:] = -torch.inf
        e.copy_(z.exp())
        tiles = slice(first_tile, first_tile + len(table) // self.tile)
        by_tile = (len(columns), -1, self.tile)
        sums[tiles] = e.to(precise).reshape(by_tile).sum(2).T
        largest[tiles] = z.view(by_tile).amax(2).T

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
        s = sums.sum(0)
        if not again:
            above = largest.amax(0)
            far = ((s > limit) | (s < 1 / limit)) & above.isfinite()
            flags.copy_(far)
            shift = -columns[:, width + 2 : width + 4].to(sums.dtype).sum(1)
            _write_shift(columns, torch.where(far, shift + above, shift), width)
        return s

    def scale(
        self,
        columns: Float[Tensor, "batch columns"],
        gradient: Float[Tensor, " batch"],
        offsets: Int64[Tensor, " ends"],
        s: Float[Tensor, " batch"],
        width: int,
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch columns"]]:
        scale = gradient * offsets.diff() / s
        scaled = columns * scale[:, None]
        scaled[:, width] = scale
        scaled[:, width + 1 :] = 0.0
        return scale, scaled.to(columns.dtype)

    def targets(
        self,
        entries: Entries,
        s: Float[Tensor, " batch"],
        e: Float[Tensor, "batch rows"],
        *,
        begin: int,
        end: int,
    ) -> None:
        lengths = entries.offsets.diff().clamp(min=1)
        used = torch.arange(len(entries.items), device=e.device) < entries.offsets[-1]
        inside = used & (entries.items >= begin) & (entries.items < end)
        rows = entries.rows.long()
        places = torch.where(inside, entries.items - begin, 0).long()
        # An entry that is not here takes 0 from the first place of its row; entries are rounded
        # once, as each place has one that counts.
        part = torch.where(inside, (s / lengths)[rows], 0.0)
        taken = torch.zeros_like(e, dtype=s.dtype)
        taken.index_put_((rows, places), part, accumulate=True)
        e.copy_(e - taken)

    def bag(
        self,
        table: Float[Tensor, "rows columns"],
        entries: Entries,
        values: Float[Tensor, " capacity"] | None,
        width: int,
    ) -> Float[Tensor, "batch width"]:
        dtype = _sums(table)
        if values is None:
            places = torch.arange(len(entries.items), device=table.device)
            values = (places < entries.offsets[-1]).to(dtype)
        parts = table[entries.items.long(), :width].to(dtype) * values[:, None]
        out = torch.zeros(len(entries.offsets) - 1, width, dtype=dtype, device=table.device)
        return out.index_add_(0, entries.rows.long(), parts)

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
        """Without Triton no row is put off, so there is nothing to bring up to date."""
        assert every_row, "rows are put off by the Triton kernels only"
        if gradient is None:
            return
        rows = torch.zeros(
            len(table.weight) + 1, gradient.shape[1], dtype=gradient.dtype, device=gradient.device
        )
        rows.index_add_(
            0, entries.keys.long(), gradient[entries.rows.long()] * entries.values[:, None]
        )
        adam(table, slice(0, len(table.weight)), rows[:-1], schedule, decay)
        table.copy.copy_(table.weight)

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
        width, part = table.weight.shape[1], slice(begin, end)
        gradient = gradient[: end - begin].to(table.weight.dtype)
        adam(table, part, gradient[:, :width], schedule, decay)
        adam(bias, part, gradient[:, width], schedule, 0.0)
        table.refresh_output(bias.weight, part)


def _sums(like: Tensor) -> torch.dtype:
    """Type of sums of numbers like these."""
    return torch.promote_types(like.dtype, torch.float32)


def _write_shift(columns: Tensor, shift: Tensor, width: int) -> None:
    high = shift.to(columns.dtype)
    columns[:, width + 2] = -high
    columns[:, width + 3] = high.to(shift.dtype) - shift
