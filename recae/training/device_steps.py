"""`DeviceSteps`: training steps whose data, draws, schedules and updates all lie on the device.

An epoch's order is sent once; a step then finds its users, its KL weight, Adam's step size and the
key of its draws by the number of updates done, which is itself on the device. Batches are padded to
one size: the last one with users without a history, the entries up to a capacity, and both weigh
nothing. So a step is one recorded graph, and the host waits once an epoch.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Literal, final

import numpy as np
import torch
from jaxtyping import Float64, Int64
from scipy.sparse import csr_array
from torch import Tensor

from recae.networks.batch import SparseBatch
from recae.networks.device_path import DevicePath, StepEntries, StepKernels
from recae.networks.kernels.in_torch import TorchKernels
from recae.networks.kernels.in_triton import TritonKernels
from recae.networks.kernels.language import triton
from recae.networks.kernels.moments import Schedule
from recae.networks.mult_vae import MultDAENetwork, MultVAENetwork
from recae.training.rows import STEP, epoch_order, stream
from recae.training.step_graph import StepGraph
from recae.training.table_adam import BETAS, EPSILON

# Networks whose dropout and noise are drawn here.
DeviceNetwork = MultDAENetwork | MultVAENetwork

# Spare places of a batch, as a share of the entries; and what they are a multiple of.
_SPARE = 1 / 8
_MULTIPLE = 1024


@final
class DeviceSteps:
    """Trains a network; stands in the place of `Optimiser`.

    Parameters
    ----------
    network
        A `DeviceNetwork`, on its device; changed in place, `close` unsets its path.
    rows
        Training histories, none empty.
    batch_size, n_epochs, learning_rate, precision, seed
        As in `TrainingConfig`, resolved.
    kernels
        Who computes; None is Triton on a CUDA device that has it, else torch.
    """

    def __init__(
        self,
        network: DeviceNetwork,
        rows: csr_array,
        *,
        batch_size: int,
        n_epochs: int,
        learning_rate: float,
        precision: Literal["float32", "bfloat16"],
        seed: int,
        kernels: StepKernels | None = None,
    ) -> None:
        weight = network.output.weight
        device, self._dtype = weight.device, weight.dtype
        self._network, self._device, self._seed = network, device, seed
        self._n_users, self._batch_size = int(rows.shape[0]), batch_size
        self._steps = -(-self._n_users // batch_size)
        self._precise = precision == "float32"
        lengths = np.append(np.diff(rows.indptr), 0).astype(np.int64)  # the last user is padding
        self._host_lengths = lengths
        self._items = torch.from_numpy(rows.indices.astype(np.int32)).to(device)
        self._sources = torch.from_numpy(np.append(rows.indptr[:-1], 0).astype(np.int64)).to(device)
        self._lengths = torch.from_numpy(lengths).to(device)
        self._order = torch.empty(self._steps, batch_size, dtype=torch.int64, device=device)
        self._key = torch.tensor([stream(seed, STEP, 0)], dtype=torch.int64, device=device)
        self._sums = torch.zeros(3, dtype=torch.float64, device=device)
        self._zero = torch.zeros(1, dtype=torch.int64, device=device)
        self._schedule = self._scheduled(n_epochs, learning_rate)
        self._capacity = 0
        self._ahead, self._ahead_of = self._ordered(0), 0
        self._graph = StepGraph(self._step, device)
        on_cuda = device.type == "cuda"
        if kernels is None:
            kernels = TritonKernels() if on_cuda and triton is not None else TorchKernels()
        self._kernels = kernels
        # Its loss has the squares of the weights; their gradient has a 2.
        decay = 2 * network.weight_decay
        kept = batch_size * rows.nnz / self._n_users * (1 - network.dropout)
        deferred = isinstance(kernels, TritonKernels) and decay == 0 and kept < network.n_items
        counts = np.bincount(rows.indices, minlength=network.n_items)
        self._path = DevicePath(
            network.table.weight,
            weight,
            network.output.bias,
            popular=torch.from_numpy(np.argsort(-counts, kind="stable")).to(device),
            schedule=self._schedule,
            kernels=kernels,
            dtype=self._dtype if self._precise else torch.bfloat16,
            decay=decay,
            deferred=deferred,
        )
        network.path = self._path
        self._tables = {
            "table.weight": self._path.table,
            "output.weight": self._path.output,
            "output.bias": self._path.bias,
        }
        parameters = dict(network.named_parameters())
        self._rest = [name for name in parameters if name not in self._tables]
        self._adam = torch.optim.Adam(
            [parameters[name] for name in self._rest],
            lr=learning_rate,
            betas=BETAS,
            eps=EPSILON,
            fused=True,
            capturable=on_cuda,
        )

    def epoch(self, epoch: int) -> Float64[Tensor, " parts"]:
        """Do the steps of `epoch` (counted from 0); sums over its users of loss, NLL and KL."""
        order, entries = self._ahead if self._ahead_of == epoch else self._ordered(epoch)
        self._order.copy_(torch.from_numpy(order))
        self._make_room(entries)
        self._sums.zero_()
        for _ in range(self._steps):
            self._graph()
        self._ahead, self._ahead_of = self._ordered(epoch + 1), epoch + 1  # the device is busy
        return self._sums.to("cpu", copy=True)

    def settle(self) -> None:
        """Do every update that was put off; before the weights are read."""
        self._path.settle()

    def close(self) -> None:
        """Settle, and leave the network without a path."""
        self.settle()
        self._graph.forget()
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
            out[f"step/{name}"] = self._schedule.counter[0].float()
        return out

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state`, the weights being those of the same moment."""
        for name, table in self._tables.items():
            steps = int(state[f"step/{name}"])
            table.exp_avg.copy_(state[f"exp_avg/{name}"])
            table.exp_avg_sq.copy_(state[f"exp_avg_sq/{name}"])
            self._schedule.counter.fill_(steps)
            table.last.fill_(steps)
        keys = ("exp_avg", "exp_avg_sq", "step")
        states = {
            index: {key: state[f"{key}/{name}"] for key in keys}
            for index, name in enumerate(self._rest)
        }
        self._adam.load_state_dict({**self._adam.state_dict(), "state": states})
        self._path.refresh()
        self._graph.forget()

    def _scheduled(self, n_epochs: int, learning_rate: float) -> Schedule:
        """Lines of all updates of the run, made in float64."""
        n_steps = n_epochs * self._steps
        done = np.arange(1, n_steps + 1)
        vae = self._network if isinstance(self._network, MultVAENetwork) else None
        beta = [0.0 if vae is None else vae.beta(step) for step in range(n_steps)]
        users = np.full(n_steps, self._batch_size)
        users[self._steps - 1 :: self._steps] -= self._steps * self._batch_size - self._n_users
        lines = np.stack(
            [
                np.array(beta),
                learning_rate / (1 - BETAS[0] ** done),
                1 / np.sqrt(1 - BETAS[1] ** done),
                1 / users,
            ],
            axis=1,
        )
        counter = torch.zeros(1, dtype=torch.int64, device=self._device)
        return Schedule(torch.from_numpy(lines).to(self._device, self._dtype), counter)

    def _ordered(self, epoch: int) -> tuple[Int64[np.ndarray, "steps batch"], int]:
        """Users of the steps of `epoch`, and the most entries of one."""
        order = np.full(self._steps * self._batch_size, self._n_users, dtype=np.int64)
        order[: self._n_users] = epoch_order(self._seed, epoch, self._n_users)
        by_step = order.reshape(self._steps, self._batch_size)
        return by_step, int(self._host_lengths[by_step].sum(axis=1).max())

    def _make_room(self, entries: int) -> None:
        """Let the arrays hold `entries` a step; recorded again if they grow."""
        if entries > self._capacity:
            wanted = round(entries * (1 + _SPARE))
            self._capacity = -(-wanted // _MULTIPLE) * _MULTIPLE
            self._graph.forget()

    def _step(self) -> None:
        network, counter = self._network, self._schedule.counter
        users = self._order.index_select(0, torch.remainder(counter, self._steps))[0]
        lengths = self._lengths[users]
        offsets = torch.cat([self._zero, lengths.cumsum(0)])
        entries = self._kernels.entries(
            self._items, self._sources[users], offsets, counter, self._key,
            n_items=network.n_items, capacity=self._capacity, dropout=network.dropout,
            dtype=self._dtype,
        )  # fmt: skip
        self._path.step = StepEntries.of(entries, network.n_items)
        line = self._schedule.now()
        weights = (lengths > 0) * line[3]
        x = SparseBatch(
            entries.items, offsets[:-1], lengths, network.n_items, weights, entries.values
        )
        self._adam.zero_grad(set_to_none=True)
        with _tensor_cores(self._device, precise=self._precise):
            if isinstance(network, MultVAENetwork):
                shape = (self._batch_size, network.latent_dim)
                noise = self._kernels.noise(shape, counter, self._key, self._dtype)
                loss = network.loss_given(x, keep=None, noise=noise, beta=line[0])
            else:
                loss = network.loss_given(x, keep=None)
            loss.total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._adam.step()
        with torch.no_grad():
            self._sums += torch.stack([loss.total, loss.nll, loss.kl]) / line[3]
            counter += 1


@contextlib.contextmanager
def _tensor_cores(device: torch.device, *, precise: bool) -> Iterator[None]:
    """Products of the small layers in TensorFloat-32 inside, which keeps more than bfloat16."""
    if precise or device.type != "cuda":
        yield
        return
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
