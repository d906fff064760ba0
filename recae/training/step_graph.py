"""`StepGraph`: a step recorded once as a CUDA graph, and replayed."""

from collections.abc import Callable
from typing import final

import torch

# Steps done one by one before one is recorded: kernels are compiled, libraries take their memory.
_WARM_UP = 3


@final
class StepGraph:
    """Does a step that reads and writes the same device memory each time.

    On a CUDA device the first steps run as they are, then one is recorded and all later ones
    replay it, in one launch. On any other device every step runs as it is.

    Parameters
    ----------
    step
        Takes nothing, returns nothing, never waits for the device.
    device
        Where it runs.
    """

    def __init__(self, step: Callable[[], None], device: torch.device) -> None:
        self._step, self._device = step, device
        self._graph: torch.cuda.CUDAGraph | None = None
        self._aside: torch.cuda.Stream | None = None
        self._done = 0

    def __call__(self) -> None:
        """Do one step."""
        if self._device.type != "cuda":
            self._step()
        elif self._graph is not None:
            self._graph.replay()
        elif self._done < _WARM_UP:
            # On a stream of its own, as what is recorded must not depend on the default one.
            if self._aside is None:
                self._aside = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # torch
            self._aside.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._aside):
                self._step()
            torch.cuda.current_stream(self._device).wait_stream(self._aside)
            self._done += 1
        else:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._step()
            self._graph = graph
            graph.replay()

    def forget(self) -> None:
        """Record again: the memory of the step has changed."""
        self._graph, self._done = None, 0
