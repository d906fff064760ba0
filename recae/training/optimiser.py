"""`Optimiser`: Adam on all parameters of a network, by one of the paths of a step."""

from collections.abc import Mapping
from typing import Literal, Protocol, final, runtime_checkable

import torch
from torch import Tensor, nn

from recae.errors import ConfigError
from recae.networks.fast_path import FastPath, WidePath
from recae.networks.fused_softmax import FusedSoftmax
from recae.networks.plain_path import PlainPath
from recae.training.config import Auto, StepPath, planned_path
from recae.training.device_steps import DeviceNetwork
from recae.training.table_adam import BETAS, EPSILON, TableAdam

# The encoder table's rows without an entry are put off when a step touches less than this share.
_FEW = 1 / 8


@runtime_checkable
class WideNetwork(Protocol):
    """A network between two tables with a row for each item, which can go by the fast path."""

    path: WidePath | None
    table: nn.Module
    output: nn.Module
    weight_decay: float


def resolve_path(
    path: StepPath | Auto,
    network: nn.Module,
    device: torch.device,
    *,
    every_step: bool = False,
) -> StepPath:
    """Path to train `network` by: that of `planned_path`, where the network has it.

    Weights that are read at `every_step` leave no step to be recorded.

    Raises
    ------
    ConfigError
        If the network lacks the path that was asked for.
    """
    output = network.output.weight if isinstance(network, WideNetwork) else None
    output = output if isinstance(output, Tensor) else None
    able = output is not None and output.dtype == torch.float32
    if (path == "fast" and not able) or (path == "gathered" and output is None):
        raise ConfigError(f"path is {path}; this network has none, auto or plain is accepted")
    if path == "auto" and not able:
        return "plain" if output is None else "gathered"
    recordable = isinstance(network, DeviceNetwork) and not every_step
    n_items = 0 if output is None else len(output)
    return planned_path(path, n_items=n_items, device=device.type, recordable=recordable)


@final
class Optimiser:
    """Adam (betas 0.9 and 0.999, epsilon 1e-8) on the parameters of a network.

    Parameters
    ----------
    network
        Its parameters are changed in place. Its `path` is set where needed; `close` unsets it.
    path
        ``"plain"``: dense histories, Adam as PyTorch has it by default. ``"gathered"``: all
        parameters in one kernel. ``"fast"``: moreover the two tables are updated block by block
        during the backward pass.
    learning_rate
        Of Adam.
    precision
        Of the fast path's products.
    entries
        Item entries of a step, on average.
    every_step
        The weights are read between steps, so no update is ever put off.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        path: StepPath,
        learning_rate: float,
        precision: Literal["float32", "bfloat16"],
        entries: float,
        every_step: bool,
    ) -> None:
        self._network = network
        self._parameters = dict(network.named_parameters())
        self._tables: dict[str, TableAdam] = {}
        if path == "plain" and isinstance(network, WideNetwork):
            network.path = PlainPath()
        if path == "fast":
            assert isinstance(network, WideNetwork)
            decay = 2 * network.weight_decay  # its loss has the squares; their gradient has a 2
            for name in ("table.weight", "output.weight"):
                self._tables[name] = TableAdam(
                    self._parameters[name], learning_rate=learning_rate, weight_decay=decay
                )
            n_items = len(self._parameters["output.weight"])
            network.path = FastPath(
                softmax=FusedSoftmax(precision, updates=self._tables["output.weight"]),
                table=self._tables["table.weight"],
                touched_only=not every_step and decay == 0 and entries < _FEW * n_items,
            )
        self._rest = [name for name in self._parameters if name not in self._tables]
        self._adam = torch.optim.Adam(
            [self._parameters[name] for name in self._rest],
            lr=learning_rate,
            betas=BETAS,
            eps=EPSILON,
            fused=path != "plain",
        )

    def minimise(self, loss: Tensor) -> None:
        """One update by the gradient of `loss`."""
        self._adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._adam.step()
        for table in self._tables.values():
            table.finish()

    def settle(self) -> None:
        """Do every update that was put off; before the weights are read."""
        for table in self._tables.values():
            table.settle()

    def close(self) -> None:
        """Settle, and leave the network as it was."""
        self.settle()
        if isinstance(self._network, WideNetwork):
            self._network.path = None

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts of a settled network, as ``key/parameter``."""
        states = self._adam.state_dict()["state"]
        out = {
            f"{key}/{name}": value
            for index, name in enumerate(self._rest)
            for key, value in states[index].items()
        }
        for name, table in self._tables.items():
            out[f"exp_avg/{name}"] = table.exp_avg
            out[f"exp_avg_sq/{name}"] = table.exp_avg_sq
            out[f"step/{name}"] = torch.tensor(float(table.steps))
        return out

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state`."""
        for name, table in self._tables.items():
            steps = int(state[f"step/{name}"])
            table.restore(state[f"exp_avg/{name}"], state[f"exp_avg_sq/{name}"], steps)
        keys = ("exp_avg", "exp_avg_sq", "step")
        states = {
            index: {key: state[f"{key}/{name}"] for key in keys}
            for index, name in enumerate(self._rest)
        }
        self._adam.load_state_dict({**self._adam.state_dict(), "state": states})
