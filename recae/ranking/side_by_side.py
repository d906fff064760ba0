"""Batches ranked side by side, each on threads of its own, and ahead of who uses the lists.

Ranking a batch is products, which use all cores, with sorting and gathering between them, which use
one. So a few batches at once are done sooner than one after another, each on all cores, and what is
done with the lists (judged, written) costs no time of its own. No list depends on it: scores that
rank are the same on any number of threads.

A forked process has none of its parent's threads, and libraries that wait for them never return: it
computes on one.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier, Lock, Thread
from typing import TypeVar

import torch

J = TypeVar("J")
R = TypeVar("R")

_MOST = 4  # batches at once: each holds the scores of its users
_STARTING = Lock()  # held while what new threads get is another number
_WIDEST = 500_000  # items; where there are more, chunks at once wait for memory, not for products


def batches_at_once(n_items: int) -> int:
    """How many batches of scores of `n_items` share the threads that torch has here."""
    return min(_MOST, _threads()) if n_items <= _WIDEST else 1


def side_by_side(
    work: Callable[[J], R], jobs: Sequence[J], *, at_once: int, ahead: int
) -> Generator[R]:
    """``work(job)`` of each job, in their order.

    Parameters
    ----------
    work
        Called in other threads, where there is more than one job.
    jobs
        What to call it with.
    at_once
        Threads; they share those that torch has here. With 1 the caller's own does it all.
    ahead
        Results that may be done before the caller asks for them.

    Notes
    -----
    The caller's number of threads stays as it is, and so does the one that new threads get, while
    results are made too: calls may overlap, fail or be left half way. But torch sets both numbers
    at once. So while a call starts its workers, less than a millisecond each, a thread of others
    that uses torch for the first time gets a worker's share, and of ``torch.set_num_threads`` in
    another thread only that thread's own number may last.
    """
    if at_once == 1 or len(jobs) < 2:
        yield from map(work, jobs)
        return
    workers = min(at_once, len(jobs))
    pool = ThreadPoolExecutor(workers, "recae-rank", _take, (max(1, _threads() // at_once),))
    all_started = Barrier(workers)
    waiting: deque[Future[R]] = deque()
    try:
        for started in [pool.submit(all_started.wait) for _ in range(workers)]:
            started.result()
        for job in jobs:
            waiting.append(pool.submit(work, job))
            if len(waiting) == at_once + ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        all_started.abort()  # where one of them could not start, the others wait
        pool.shutdown(cancel_futures=True)


def _on_one_thread() -> None:
    """Make a process that was just forked compute without threads."""
    global _STARTING  # somebody's thread may have held it
    _STARTING = Lock()
    torch.set_num_threads(1)  # of OpenMP, which `implicit` uses too


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_on_one_thread)


def _threads() -> int:
    """Threads that torch has here."""
    with _STARTING:  # a new thread that asked in the middle would get the share of a worker
        return torch.get_num_threads()


def _take(share: int) -> None:
    """Give this thread, a new one, `share` threads, and those after it what it got."""
    with _STARTING:
        usual = torch.get_num_threads()
        torch.set_num_threads(share)
        other = Thread(target=torch.set_num_threads, args=(usual,))  # here it would undo the share
        other.start()
        other.join()
