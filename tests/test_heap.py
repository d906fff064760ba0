"""Memory freed inside `steady_heap` is at hand again, and goes back to the system at its end."""

import ctypes
import resource
import sys

import numpy as np
import pytest

from recae.machine import resident_bytes
from recae.training.heap import steady_heap

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="needs glibc's allocator",
)
SIZE = 40_000_000  # bytes: above what glibc ever keeps by itself


def faults(times):
    """Pages asked of the system while an array is made and freed so often."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        np.ones(SIZE, dtype=np.int8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_freed_memory_is_at_hand_inside():
    with steady_heap():
        once = faults(1)
        assert faults(20) < max(200, once / 2)


def test_freed_memory_goes_back_at_the_end():
    with steady_heap():
        np.ones(8 * SIZE, dtype=np.int8)
        held = resident_bytes()
    assert resident_bytes() < held - 4 * SIZE
