"""`steady_heap`: what a training step frees stays at hand for the next one."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Options of glibc's mallopt, and what they reach by themselves in a process like ours.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_OWN_TRIM, _OWN_MMAP = 1 << 26, 1 << 25
_LARGE = 1 << 30


@contextmanager
def steady_heap() -> Iterator[None]:
    """Keep the memory that is freed inside, and give it back at the end.

    glibc returns large pieces to the system as they are freed, and whoever takes them again pays
    for every page: up to a third of the time of a step. Other libraries are left as they are.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        yield
        return
    libc.mallopt(_MMAP_THRESHOLD, _LARGE)
    libc.mallopt(_TRIM_THRESHOLD, _LARGE)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_THRESHOLD, _OWN_MMAP)
        libc.mallopt(_TRIM_THRESHOLD, _OWN_TRIM)
        libc.malloc_trim(ctypes.c_size_t(0))
