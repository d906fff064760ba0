"""How the runner and its contenders talk: one order a line on stdin, one answer a line on stdout.

Every contender is a process of its own environment that loads once, then works only while it has
an order. Only the standard library is used, so that this runs in each of the environments.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


class Done(Exception):  # noqa: N818  # an end, not an error
    """The next order is not for this training."""


def peak_gb() -> float:
    """Most memory that this program has held, in GB.

    What `getrusage` calls so is at least what the parent held when it started this process.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e9
    raise OSError("the system does not tell the peak of the memory")


class Orders:
    """Orders from the runner; what else the process prints goes to stderr."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._waiting: dict[str, Any] | None = None

    def peek(self) -> dict[str, Any] | None:
        """Wait for an order, and leave it to be taken; None when there will be no more."""
        if self._waiting is None:
            line = sys.stdin.readline()
            self._waiting = json.loads(line) if line else None
        return self._waiting

    def take(self) -> None:
        """Take the order that `peek` showed."""
        self._waiting = None

    def answer(self, **figures: object) -> None:
        """Answer an order."""
        self._answers.write(json.dumps({**figures, "peak_gb": peak_gb()}) + "\n")
        self._answers.flush()


class Stopwatch:
    """Wall seconds and processor seconds, of all threads, since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return {"seconds": wall, "cpu_seconds": cpu}


class Windows:
    """Lets a training that runs by itself go on for as many steps as an order says.

    The training calls `step` once in every step, always at the same place. A window lasts from one
    such call to the one that is `steps` steps later, so it holds that many whole steps, whatever
    the training does between two calls. Waiting for orders happens inside the call.

    Parameters
    ----------
    orders
        Where orders come from.
    batch
        Orders to train with another batch size end this training with `Done`.
    """

    def __init__(self, orders: Orders, batch: int) -> None:
        self._orders, self._batch = orders, batch
        self._left = self._users = 0
        self._watch: Stopwatch | None = None

    def step(self, n_users: int) -> None:
        """Note a step of `n_users` users that begins."""
        if self._left == 0:
            if self._watch is not None:
                self._orders.answer(users=self._users, **self._watch.read())
            order = self._orders.peek()
            if order is None or order["do"] != "train" or order["batch"] != self._batch:
                raise Done
            self._orders.take()
            self._left, self._users = order["steps"], 0
            self._watch = Stopwatch()
        self._left -= 1
        self._users += n_users
