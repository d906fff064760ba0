"""Requests that wait at the same time, answered by one call of the model in one thread.

Threads that compute side by side pass the interpreter back and forth between small arrays, and each
reads the model's weights for itself. One thread that answers what came meanwhile takes less time
for all of them: reading a large table from memory once for four people is most of it.
"""

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, final

from recae.errors import DataError
from recae.serving import Recommendations, RecommendationService, Request

_AT_ONCE: Final = 16

Answer = Recommendations | DataError


@final
class Together:
    """Answers of a service to requests of many threads, each of which waits for its own.

    Parameters
    ----------
    service
        What answers.
    """

    def __init__(self, service: RecommendationService) -> None:
        self._service = service
        self._start()

    def _start(self) -> None:
        self._waiting: deque[tuple[Request, Future[Answer]]] = deque()
        self._thread = ThreadPoolExecutor(1, "recae-answer")
        self._process = os.getpid()

    def answer(self, request: Request) -> Answer:
        """Return the list, or the error that the service would raise."""
        if request.explain:  # that takes a while
            return self._service.answer_many([request])[0]
        if self._process != os.getpid():  # forked: the thread is not here
            self._start()
        future: Future[Answer] = Future()
        self._waiting.append((request, future))
        self._thread.submit(self._answer)
        return future.result()

    def _answer(self) -> None:
        asked = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
        if asked:  # else they were answered with those before
            self._answer_all(asked)

    def _answer_all(self, asked: list[tuple[Request, Future[Answer]]]) -> None:
        try:
            answers = self._service.answer_many([request for request, _ in asked])
        except BaseException as error:  # noqa: BLE001  # who asked raises it
            if len(asked) == 1:
                asked[0][1].set_exception(error)
            for one in asked if len(asked) > 1 else ():  # it is the error of one of them
                self._answer_all([one])
            return
        for (_, future), answer in zip(asked, answers, strict=True):
            future.set_result(answer)
