"""Triton kernels of the two item tables: sums of rows, and Adam with the copy it keeps up.

The weights are float32. Products and gathers read a rounded copy, which the update writes in the
same pass: 26 bytes a weight for the encoder, whose gradient is summed in registers, 28 for the
output. A row without an entry can be put off and is replayed exactly; see `table_adam`.
"""

from recae.networks.kernels.language import constexpr, jit, tl


@jit
def bag_kernel(
    table,
    items,
    values,
    offsets,
    out,
    width,
    stride,
    WEIGHTED: constexpr,
    CHUNK: constexpr,
    BLOCK: constexpr,
):
    """Sum of the table rows of each user's entries, times their values if `WEIGHTED`."""
    user = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    first = tl.load(offsets + user)
    length = tl.load(offsets + user + 1) - first
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, length, CHUNK):
        inside = start + tl.arange(0, CHUNK) < length
        entries = first + start + tl.arange(0, CHUNK)
        item = tl.load(items + entries, mask=inside, other=0).to(tl.int64)
        if WEIGHTED:
            value = tl.load(values + entries, mask=inside, other=0.0)
        else:
            value = inside.to(tl.float32)
        rows = tl.load(
            table + item[:, None] * stride + place[None, :],
            mask=(value != 0.0)[:, None] & (place < width)[None, :],
            other=0.0,
        )
        total += tl.sum(rows.to(tl.float32) * value[:, None], axis=0)
    tl.store(out + user * width + place, total, mask=place < width)


@jit
def _adam(p, m, v, g, step_size, root):
    """One update of Adam (Kingma & Ba, ICLR 2015), in the order of operations of torch."""
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g * g
    return p - step_size * m / (tl.sqrt(v) * root + 1e-8), m, v


@jit
def encoder_kernel(
    table,
    exp_avg,
    exp_avg_sq,
    copy,
    last,
    gradient,
    rows,
    values,
    order,
    starts,
    schedule,
    counter,
    decay,
    width: constexpr,
    schedule_columns: constexpr,
    ALL: constexpr,
    UPDATE: constexpr,
    CHUNK: constexpr,
    BLOCK: constexpr,
):
    """Bring an item's row up to date, then update it by this step's gradient if `UPDATE`.

    A program an item; without `ALL` only items with an entry. The entries of an item are those of
    ``order`` from ``starts[item]`` on; each adds its value times the gradient of its user's row.
    """
    item = tl.program_id(0).to(tl.int64)
    first = tl.load(starts + item)
    end = tl.load(starts + item + 1)
    now = tl.load(counter)
    since = tl.load(last + item)
    work = end > first
    if ALL:
        work = end >= first
    if work:
        for block in range(0, width, BLOCK):
            place = block + tl.arange(0, BLOCK)
            live = place < width
            at = item * width + place
            p = tl.load(table + at, mask=live, other=0.0)
            m = tl.load(exp_avg + at, mask=live, other=0.0)
            v = tl.load(exp_avg_sq + at, mask=live, other=0.0)
            if since > 0:  # before the first gradient all moments are 0: nothing moves
                for step in range(since, now):
                    line = schedule + step * schedule_columns
                    p, m, v = _adam(p, m, v, decay * p, tl.load(line + 1), tl.load(line + 2))
            if UPDATE:
                g = decay * p
                for start in range(first, end, CHUNK):
                    places = start + tl.arange(0, CHUNK)
                    inside = places < end
                    entry = tl.load(order + places, mask=inside, other=0)
                    value = tl.load(values + entry, mask=inside, other=0.0)
                    user = tl.load(rows + entry, mask=inside, other=0).to(tl.int64)
                    parts = tl.load(
                        gradient + user[:, None] * width + place[None, :],
                        mask=inside[:, None] & live[None, :],
                        other=0.0,
                    )
                    g += tl.sum(parts * value[:, None], axis=0)
                line = schedule + now * schedule_columns
                p, m, v = _adam(p, m, v, g, tl.load(line + 1), tl.load(line + 2))
            tl.store(table + at, p, mask=live)
            tl.store(exp_avg + at, m, mask=live)
            tl.store(exp_avg_sq + at, v, mask=live)
            tl.store(copy + at, p.to(copy.dtype.element_ty), mask=live)
        if UPDATE:
            tl.store(last + item, now + 1)
        else:
            tl.store(last + item, now)


@jit
def output_kernel(
    table,
    exp_avg,
    exp_avg_sq,
    bias,
    bias_avg,
    bias_avg_sq,
    copy,
    gradient,
    schedule,
    counter,
    decay,
    begin,
    end,
    width,
    n_columns,
    schedule_columns,
    ROWS: constexpr,
    BLOCK: constexpr,
):
    """Update rows `begin` to `end` of the output layer by a gradient ``(rows, columns)``.

    The column after the weights is the gradient of the bias. In the copy the bias stands in two
    parts, so that it keeps 16 bits.
    """
    local = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    items = (begin + local).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    line = schedule + tl.load(counter) * schedule_columns
    step_size = tl.load(line + 1)
    root = tl.load(line + 2)
    live = (items < end)[:, None] & (place < width)[None, :]
    at = items[:, None] * width + place[None, :]
    g_at = gradient + local.to(tl.int64)[:, None] * n_columns + place[None, :]
    p = tl.load(table + at, mask=live, other=0.0)
    g = tl.load(g_at, mask=live, other=0.0).to(tl.float32) + decay * p
    m = tl.load(exp_avg + at, mask=live, other=0.0)
    v = tl.load(exp_avg_sq + at, mask=live, other=0.0)
    p, m, v = _adam(p, m, v, g, step_size, root)
    tl.store(table + at, p, mask=live)
    tl.store(exp_avg + at, m, mask=live)
    tl.store(exp_avg_sq + at, v, mask=live)
    copy_at = copy + items[:, None] * n_columns + place[None, :]
    tl.store(copy_at, p.to(copy.dtype.element_ty), mask=live)
    if tl.program_id(1) == 0:
        there = items < end
        g_bias = tl.load(
            gradient + local.to(tl.int64) * n_columns + width, mask=there, other=0.0
        ).to(tl.float32)
        b = tl.load(bias + items, mask=there, other=0.0)
        b_m = tl.load(bias_avg + items, mask=there, other=0.0)
        b_v = tl.load(bias_avg_sq + items, mask=there, other=0.0)
        b, b_m, b_v = _adam(b, b_m, b_v, g_bias, step_size, root)
        tl.store(bias + items, b, mask=there)
        tl.store(bias_avg + items, b_m, mask=there)
        tl.store(bias_avg_sq + items, b_v, mask=there)
        high = b.to(copy.dtype.element_ty)
        low = (b - high.to(tl.float32)).to(copy.dtype.element_ty)
        tl.store(copy + items * n_columns + width, high, mask=there)
        tl.store(copy + items * n_columns + width + 1, low, mask=there)
