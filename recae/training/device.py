"""Where and in which precision to compute."""

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch

from recae.errors import ConfigError, ResourceError
from recae.machine import multiplies_bfloat16


def named_device(name: str) -> torch.device | None:
    """Device called `name`, there or not; None for ``"auto"``.

    Raises
    ------
    ConfigError
        If no device has such a name.
    """
    try:
        return None if name == "auto" else torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"device is {name!r}; auto, cpu, cuda or one such as cuda:1 is accepted"
        ) from error


def resolve_device(name: str) -> torch.device:
    """Device called `name`; ``"auto"`` is the first CUDA device when there is one, else the CPU.

    Raises
    ------
    ConfigError
        If no device has such a name.
    ResourceError
        If the device is not there.
    """
    device = named_device(name)
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ResourceError(
            f"device {name!r} is not available: {str(error).splitlines()[0]}; use auto or cpu"
        ) from error
    return device


def resolve_precision(
    precision: Literal["auto", "float32", "bfloat16"], device: torch.device
) -> Literal["float32", "bfloat16"]:
    """Precision of the products; ``"auto"`` is bfloat16 where processor or device has it.

    One that emulates it, which is slower than float32, does not have it.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_it = device.type == "cpu" and multiplies_bfloat16()
    return "bfloat16" if has_it else "float32"


@contextlib.contextmanager
def autocast(precision: str, device: torch.device) -> Iterator[None]:
    """Products in bfloat16 inside, if `precision` says so."""
    if precision == "bfloat16":
        with torch.autocast(device.type, dtype=torch.bfloat16):
            yield
    else:
        yield
