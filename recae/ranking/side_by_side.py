"""Batches ranked side by side, each on threads of its own, and ahead of who uses the lists.

Ranking a batch is products, which use all cores, with sorting and gathering between them, which use
one. So a few batches at once are done sooner than one after another, each on all cores, and what is
done with the lists (judged, written) costs no time of its own. No list depends on it: scores that
rank are the same on any number of threads.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

J = TypeVar("J")
R = TypeVar("R")

_MOST = 4  # batches at once: each holds the scores of its users
_WIDEST = 500_000  # items; where there are more, chunks at once wait for memory, not for products


def batches_at_once(n_items: int) -> int:
    """How many batches of scores of `n_items` share the threads that torch has here."""
    return min(_MOST, torch.get_num_threads()) if n_items <= _WIDEST else 1


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
    """
    threads = torch.get_num_threads()
    if at_once == 1 or len(jobs) < 2:
        yield from map(work, jobs)
        return
    pool = ThreadPoolExecutor(at_once, "recae-rank", torch.set_num_threads, (threads // at_once,))
    waiting: deque[Future[R]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(work, job))
            if len(waiting) == at_once + ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # a new thread starts with what was set last, anywhere
