"""Requests that come at the same time: one thread answers them, each as if it were alone."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from recae.errors import RecaeError, UnknownIdError
from recae.serving import Request
from recae_api.together import Together
from tests.api_films import films_service
from tests.test_fork import status_of


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    return films_service(tmp_path_factory.mktemp("together") / "films")


class Held:
    """A service whose first call waits until `n` others were asked; it notes who computed."""

    n_items = 3

    def __init__(self, service):
        self._service = service
        self.go = threading.Event()
        self.calls = []

    def answer_many(self, requests):
        self.calls.append((threading.current_thread().name, [one.user for one in requests]))
        if len(self.calls) == 1:
            assert self.go.wait(20)
        if any(one.user == "breaks" for one in requests):
            raise RecaeError("scores that are not finite")
        return self._service.answer_many(requests)


def test_what_comes_meanwhile_is_answered_by_one_call_and_each_gets_its_own(service):
    held = Held(service)
    together = Together(held)
    users = ["u1", "u2", "u3", "nobody", "u4"]
    with ThreadPoolExecutor(len(users)) as threads:
        first = threads.submit(together.answer, Request(user=users[0], k=3))
        while not held.calls:
            pass
        rest = [threads.submit(together.answer, Request(user=user, k=3)) for user in users[1:]]
        while len(together._waiting) < len(rest):
            pass
        held.go.set()
        answers = [future.result(20) for future in (first, *rest)]
    assert isinstance(answers[3], UnknownIdError)
    for user, answer in zip(users, answers, strict=True):
        if user != "nobody":
            assert answer == service.recommend(user=user, k=3)
    (one, alone), (other, many) = held.calls
    assert one == other != threading.current_thread().name
    assert (alone, sorted(many)) == (["u1"], ["nobody", "u2", "u3", "u4"])


def test_an_error_is_that_of_the_one_who_asked(service):
    held = Held(service)
    together = Together(held)
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(together.answer, Request(user="u1"))
        while not held.calls:
            pass
        rest = [threads.submit(together.answer, Request(user=user)) for user in ("breaks", "u2")]
        while len(together._waiting) < 2:
            pass
        held.go.set()
        assert first.result(20) == service.recommend(user="u1")
        with pytest.raises(RecaeError, match="not finite"):
            rest[0].result(20)
        assert rest[1].result(20) == service.recommend(user="u2")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_answers_in_a_thread_of_its_own(service):
    together = Together(service)
    expected = together.answer(Request(user="u1"))

    def in_the_child() -> None:
        assert together.answer(Request(user="u1")) == expected

    assert status_of(in_the_child) == 0
