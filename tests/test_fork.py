"""A process forked after the parent computed on several threads: it answers, and does not hang."""

import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import recae
from recae.serving import RecommendationService
from recae_api import create_app
from tests.frames import interactions_from

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

_LIMIT_S = 60


@contextmanager
def forking() -> Iterator[None]:
    """Let a process that has threads be forked: Python 3.12 and later warn of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def status_of(work: Callable[[], object]) -> int:
    """Status of a forked process that does `work`; it is killed if it takes too long."""
    with forking():
        child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    deadline = time.monotonic() + _LIMIT_S
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture(autouse=True)
def several_threads() -> Iterator[None]:
    """Threads that exist in the parent, and will not in the child."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.ones(1 << 20).exp()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stored network, wide enough that one person's scores are computed on several threads."""
    items = np.random.default_rng(0).permutation(4000)
    data = interactions_from(pd.DataFrame({"user": np.repeat(np.arange(20), 200), "item": items}))
    directory = tmp_path_factory.mktemp("network")
    recae.save(recae.MultDAE(hidden=[], latent_dim=200, epochs=1).fit(data), directory, data=data)
    return directory


_LOADED: list[RecommendationService] = []  # a pool sends its work by name


def first_item(user: str) -> str:
    return _LOADED[0].recommend(user=user, k=3).items[0].item


def test_a_pool_of_processes_recommends_from_a_model_that_was_loaded_before(directory):
    _LOADED[:] = [recae.load(directory)]
    expected = [first_item(user) for user in ("0", "1", "2")]
    with forking(), multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(first_item, ["0", "1", "2"]).get(_LIMIT_S) == expected


def test_an_application_made_before_the_fork_answers_after_it(directory):
    client = create_app(recae.load(directory)).test_client()
    expected = client.get("/recommend?user=0").json

    def answer() -> None:
        assert client.get("/recommend?user=0").json == expected

    assert expected["items"]
    assert status_of(answer) == 0


def test_a_model_of_another_library_is_fitted_in_a_forked_process():
    data, model = recae.sample(), recae.ALS(factors=8, iterations=2)
    model.fit(data)
    assert status_of(lambda: model.fit(data)) == 0


def test_a_forked_process_computes_on_one_thread():
    def compute() -> None:
        assert torch.get_num_threads() == 1
        torch.ones(1 << 20).exp()

    assert status_of(compute) == 0
