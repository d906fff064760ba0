"""Triton kernels: the entries of a batch with their dropout, and normal noise.

Every number is named by (seed, step, purpose, position) through Philox, so nothing is stored
between steps, and `in_torch` draws the same ones.
"""

from recae.networks.kernels.language import constexpr, jit, tl

# Purposes, the third word of the counter.
DROPOUT, NOISE = 0, 1


@jit
def _uniform(bits):
    """Float32 in [0, 1) from 32 random bits: their upper 24."""
    return (bits >> 8).to(tl.float32) * (1.0 / 16777216.0)


@jit
def entries_kernel(
    all_items,
    sources,
    offsets,
    counter,
    seed,
    items,
    rows,
    values,
    keys,
    n_users,
    n_items,
    capacity,
    dropout,
    CHUNK: constexpr,
):
    """A program a user, and a last one for the places that are left over."""
    user = tl.program_id(0)
    first = tl.load(offsets + user)
    if user < n_users:
        source = tl.load(sources + user)
        length = tl.load(offsets + user + 1) - first
        step = tl.load(counter).to(tl.int32)
        key = tl.load(seed)
        value = 1.0 / (tl.sqrt(tl.maximum(length, 1).to(tl.float32)) * (1.0 - dropout))
        for start in range(0, length, CHUNK):
            inside = start + tl.arange(0, CHUNK) < length
            places = first + start + tl.arange(0, CHUNK)
            item = tl.load(all_items + source + start + tl.arange(0, CHUNK), mask=inside, other=0)
            position = places.to(tl.int32)
            bits, _, _, _ = tl.philox(
                key, position, position * 0 + step, position * 0, position * 0
            )
            kept = _uniform(bits) >= dropout
            tl.store(items + places, item, mask=inside)
            tl.store(rows + places, (places * 0 + user).to(tl.int32), mask=inside)
            tl.store(values + places, tl.where(kept, value, 0.0), mask=inside)
            tl.store(keys + places, tl.where(kept, item, n_items), mask=inside)
    else:
        for start in range(first, capacity, CHUNK):
            places = start + tl.arange(0, CHUNK)
            inside = places < capacity
            nothing = (places * 0).to(tl.int32)
            tl.store(items + places, nothing, mask=inside)
            tl.store(rows + places, nothing, mask=inside)
            tl.store(values + places, nothing.to(tl.float32), mask=inside)
            tl.store(keys + places, nothing + n_items, mask=inside)


@jit
def noise_kernel(counter, seed, out, n, CHUNK: constexpr):
    """Standard normal numbers by Box and Muller's rule."""
    places = tl.program_id(0) * CHUNK + tl.arange(0, CHUNK)
    step = tl.load(counter).to(tl.int32)
    zero = places * 0
    # The purpose is NOISE, which a kernel may not read from its module.
    one, two, _, _ = tl.philox(tl.load(seed), places, zero + step, zero + 1, zero)
    radius = tl.sqrt(-2.0 * tl.log(1.0 - _uniform(one)))
    tl.store(out + places, radius * tl.cos(6.283185307179586 * _uniform(two)), mask=places < n)
