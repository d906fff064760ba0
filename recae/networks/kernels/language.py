"""Triton where it is installed; without it the kernels are defined, and cannot be run."""

from collections.abc import Callable
from typing import Any

try:
    import triton
    import triton.language as tl
    from triton.language import constexpr
except ImportError:
    triton = tl = None
    constexpr = int

__all__ = ["constexpr", "jit", "tl", "triton"]


def jit(kernel: Callable[..., Any]) -> Any:
    """`triton.jit`, or `kernel` itself where there is no Triton."""
    return kernel if triton is None else triton.jit(kernel)
