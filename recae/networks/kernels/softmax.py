"""Triton kernels of the multinomial likelihood; the equations are in `fused_softmax`.

`e` has shape ``(users, items)``. The sums of its rounded entries are kept by tiles of items and
added afterwards in a fixed order, so a step gives the same bytes each time. A user whose logits
lie far from the shift is flagged on the device, gets the largest logit as the shift, and is
computed again in the same launch sequence; no user flagged costs two empty launches.
"""

from recae.networks.kernels.language import constexpr, jit, tl


@jit
def columns_kernel(h, columns, width, n_columns, BLOCK: constexpr):
    """`h` beside 1, 1 (which meet the bias) and a shift of 0."""
    user = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    own = tl.load(h + user * width + place, mask=place < width, other=0.0)
    ones = (place >= width) & (place < width + 2)
    value = tl.where(ones, 1.0, own.to(tl.float32)).to(columns.dtype.element_ty)
    tl.store(columns + user * n_columns + place, value, mask=place < n_columns)


@jit
def shift_kernel(logits, columns, width, n_columns, few, BLOCK: constexpr):
    """Shift of each user: the largest of some logits, in two parts."""
    user = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    known = tl.load(logits + user * few + place, mask=place < few, other=float("-inf"))
    below = -tl.max(known.to(tl.float32), axis=0)
    high = below.to(columns.dtype.element_ty)
    at = columns + user * n_columns + width + 2
    tl.store(at, high)
    tl.store(at + 1, (below - high.to(tl.float32)).to(columns.dtype.element_ty))


@jit
def exp_kernel(
    columns,
    table,
    e,
    sums,
    largest,
    flags,
    n_users,
    n_live,
    stride,
    first_tile,
    n_columns: constexpr,
    AGAIN: constexpr,
    UPCAST: constexpr,
    USERS: constexpr,
    ITEMS: constexpr,
    INNER: constexpr,
):
    """``e = exp(columns table^T)`` of a tile, with the sum and the largest logit of its rows.

    Items from `n_live` on are padding: their `e` is 0. With `AGAIN`, only tiles with a flagged
    user. Programs that share a tile of the table follow each other.
    """
    n_user_tiles = tl.cdiv(n_users, USERS)
    user_tile = tl.program_id(0) % n_user_tiles
    item_tile = tl.program_id(0) // n_user_tiles
    users = user_tile * USERS + tl.arange(0, USERS)
    items = item_tile * ITEMS + tl.arange(0, ITEMS)
    real = users < n_users
    work = 1
    if AGAIN:
        work = tl.max(tl.load(flags + users, mask=real, other=0), axis=0)
    if work > 0:
        rows = (users % n_users).to(tl.int64)  # any row will do where there is none
        a_at = columns + rows[:, None] * n_columns + tl.arange(0, INNER)[None, :]
        b_at = table + items.to(tl.int64)[None, :] * n_columns + tl.arange(0, INNER)[:, None]
        z = tl.zeros((USERS, ITEMS), dtype=tl.float32)
        for start in range(0, n_columns, INNER):
            if n_columns % INNER == 0:
                a = tl.load(a_at + start)
                b = tl.load(b_at + start)
            else:
                inside = start + tl.arange(0, INNER) < n_columns
                a = tl.load(a_at + start, mask=inside[None, :], other=0.0)
                b = tl.load(b_at + start, mask=inside[:, None], other=0.0)
            if UPCAST:  # the interpreter multiplies bfloat16 as if it were integers
                a = a.to(tl.float32)
                b = b.to(tl.float32)
            z = tl.dot(a, b, z, input_precision="ieee")
        z = tl.where((items < n_live)[None, :], z, float("-inf"))
        rounded = tl.exp(z).to(e.dtype.element_ty)
        tl.store(e + rows[:, None] * stride + items[None, :], rounded, mask=real[:, None])
        at = (first_tile + item_tile).to(tl.int64) * n_users + users
        tl.store(sums + at, tl.sum(rounded.to(tl.float32), axis=1), mask=real)
        tl.store(largest + at, tl.max(z, axis=1), mask=real)


@jit
def sums_kernel(
    sums,
    largest,
    columns,
    flags,
    s,
    n_tiles,
    n_users,
    width,
    n_columns,
    limit,
    AGAIN: constexpr,
    CHUNK: constexpr,
):
    """Sum of `e` of each user; moves the shift of those far from 1, once, and flags them."""
    user = tl.program_id(0).to(tl.int64)
    total = tl.zeros((CHUNK,), dtype=tl.float32)
    for start in range(0, n_tiles, CHUNK):
        tiles = (start + tl.arange(0, CHUNK)).to(tl.int64)
        total += tl.load(sums + tiles * n_users + user, mask=tiles < n_tiles, other=0.0)
    found = tl.sum(total, axis=0)
    tl.store(s + user, found)
    if not AGAIN:
        top = tl.full((CHUNK,), float("-inf"), dtype=tl.float32)
        for start in range(0, n_tiles, CHUNK):
            tiles = (start + tl.arange(0, CHUNK)).to(tl.int64)
            tile = tl.load(
                largest + tiles * n_users + user, mask=tiles < n_tiles, other=float("-inf")
            )
            top = tl.maximum(top, tile)
        above = tl.max(top, axis=0)
        far = ((found > limit) | (found < 1 / limit)) & (tl.abs(above) < float("inf"))
        tl.store(flags + user, far.to(tl.int32))
        if far:
            at = columns + user * n_columns + width + 2
            below = tl.load(at).to(tl.float32) + tl.load(at + 1).to(tl.float32) - above
            high = below.to(columns.dtype.element_ty)
            tl.store(at, high)
            tl.store(at + 1, (below - high.to(tl.float32)).to(columns.dtype.element_ty))


@jit
def scale_kernel(columns, gradient, offsets, s, scale, scaled, width, n_columns, BLOCK: constexpr):
    """``scale = gradient n / s``, and the columns times it; `scale` itself meets the bias."""
    user = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    n = (tl.load(offsets + user + 1) - tl.load(offsets + user)).to(tl.float32)
    factor = tl.load(gradient + user) * n / tl.load(s + user)
    tl.store(scale + user, factor)
    own = tl.load(columns + user * n_columns + place, mask=place < width, other=0.0)
    value = own.to(tl.float32) * factor
    value = tl.where(place == width, factor, value).to(scaled.dtype.element_ty)
    tl.store(scaled + user * n_columns + place, value, mask=place < n_columns)


@jit
def targets_kernel(items, offsets, s, e, stride, begin, end, CHUNK: constexpr):
    """Take ``s / n`` from `e` at the user's own items among those from `begin` to `end`."""
    user = tl.program_id(0).to(tl.int64)
    first = tl.load(offsets + user)
    length = tl.load(offsets + user + 1) - first
    part = tl.load(s + user) / tl.maximum(length, 1).to(tl.float32)
    for start in range(0, length, CHUNK):
        places = start + tl.arange(0, CHUNK)
        item = tl.load(items + first + places, mask=places < length, other=-1)
        inside = (item >= begin) & (item < end)
        at = e + user * stride + (item - begin)
        old = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        tl.store(at, (old - part).to(e.dtype.element_ty), mask=inside)
