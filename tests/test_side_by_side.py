"""Work done in several threads, results in order."""

import threading

import pytest
import torch

from recae.ranking.side_by_side import batches_at_once, side_by_side


@pytest.fixture(autouse=True)
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


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
    assert torch.get_num_threads() == 4
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [4]


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
