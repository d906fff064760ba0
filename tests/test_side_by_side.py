"""Work done in several threads, results in order."""

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from recae.ranking.side_by_side import batches_at_once, side_by_side


@pytest.fixture(autouse=True)
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def numbers() -> tuple[int, int]:
    """Threads of torch in this thread, and in one that starts now."""
    with ThreadPoolExecutor(1) as pool:
        return torch.get_num_threads(), pool.submit(torch.get_num_threads).result()


def test_results_keep_the_order_of_the_jobs():
    first = threading.Event()

    def work(job):
        if job == 0:
            assert first.wait(10)  # the first job ends after the second
        first.set()
        return job * 10

    assert list(side_by_side(work, range(9), at_once=2, ahead=3)) == [10 * i for i in range(9)]


def test_workers_share_the_threads_and_leave_them_as_they_were():
    assert (batches_at_once(500_000), batches_at_once(500_001)) == (4, 1)
    found = list(side_by_side(lambda _: torch.get_num_threads(), range(6), at_once=2, ahead=0))
    assert found == [2] * 6
    assert numbers() == (4, 4)


def test_streams_that_overlap_fail_or_are_left_change_no_number_of_threads():
    def work(job):
        if job == 7:
            raise ValueError("job 7")
        return torch.get_num_threads()

    first = side_by_side(work, range(5), at_once=2, ahead=0)
    assert next(first) == 2
    assert numbers() == (4, 4)  # in the middle of a stream
    second = side_by_side(work, range(9), at_once=4, ahead=0)
    assert next(second) == 1
    assert list(first) == [2] * 4  # the first to start ends first
    assert numbers() == (4, 4)
    third = side_by_side(work, range(9), at_once=2, ahead=0)
    assert next(third) == 2
    with pytest.raises(ValueError, match="job 7"):
        list(second)
    assert numbers() == (4, 4)
    del third  # never finished
    gc.collect()
    assert numbers() == (4, 4)


def test_streams_of_several_threads_change_no_number_of_threads():
    found = []

    def stream():
        for _ in range(20):
            some = side_by_side(lambda _: torch.get_num_threads(), range(4), at_once=2, ahead=0)
            found.extend(some)

    threads = [threading.Thread(target=stream) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers() == (4, 4)
    assert found == [2] * (4 * 20 * 4)


def test_a_caller_with_another_number_than_new_threads_keeps_both():
    def stream():
        assert torch.get_num_threads() == 4  # a thread has its own number from its first use on
        torch.set_num_threads(2)
        other = threading.Thread(target=torch.set_num_threads, args=(6,))
        other.start()
        other.join()
        shares = list(side_by_side(lambda _: torch.get_num_threads(), range(4), at_once=2, ahead=0))
        return shares, numbers()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(stream).result() == ([1] * 4, (2, 6))


def test_each_of_more_workers_than_threads_has_one():
    found = list(side_by_side(lambda _: torch.get_num_threads(), range(8), at_once=5, ahead=0))
    assert found == [1] * 8


def test_no_more_is_done_than_may_wait():
    done = []
    results = side_by_side(lambda job: done.append(job) or job, range(100), at_once=2, ahead=3)
    assert next(results) == 0
    results.close()
    assert len(done) <= 2 + 3
    assert not [t for t in threading.enumerate() if t.name.startswith("recae-rank")]


@pytest.mark.parametrize(("jobs", "at_once"), [(range(5), 1), (range(1), 4), (range(0), 4)])
def test_where_nothing_is_won_the_caller_works(jobs, at_once):
    here = threading.get_ident()
    found = list(side_by_side(lambda _: threading.get_ident(), jobs, at_once=at_once, ahead=2))
    assert found == [here] * len(jobs)


def test_an_error_reaches_the_caller_and_ends_the_threads():
    def work(job):
        if job == 3:
            raise ValueError("job 3")
        return job

    found = []
    with pytest.raises(ValueError, match="job 3"):
        found.extend(side_by_side(work, range(50), at_once=2, ahead=1))
    assert torch.get_num_threads() == 4
    assert not [t for t in threading.enumerate() if t.name.startswith("recae-rank")]
