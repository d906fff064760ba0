"""waitress, tuned against slow, huge and malformed requests, and stopped without losing one.

Departures from waitress 3.0.2, each small: `Transfer-Encoding` is refused, because it reads on
after contradictory lengths; its own errors are problem documents, and logged; a request must arrive
within a time, however steadily it trickles; the queue is bounded; refusals and health need no
worker thread; descriptors that run out are waited for; no limit depends on the clock of the day;
stopping answers what was already sent.
"""

import errno
import logging
import re
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Final, final

from flask import Flask
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask

from recae.errors import ConfigError, ResourceError
from recae_api.access_log import log_access
from recae_api.headers import common_headers, request_id
from recae_api.lifecycle import lifecycle_of
from recae_api.origins import is_loopback
from recae_api.problems import MEDIA_TYPE, body_too_large, encoded, problem_of_status

_LOG: Final = logging.getLogger(__name__)
_MAX_HEADER_BYTES: Final = 16 * 1024
_REQUEST_S: Final = 15  # from the first byte of a request to its last
_DRAIN_S: Final = 8.0  # to finish what runs, of the ten seconds that supervisors commonly grant
_LINGER_S: Final = 0.3  # for bytes on their way when the stop was asked for
_CONNECTIONS: Final = 1000
_OTHER_FILES: Final = 32  # descriptors that are no connections: the log, files of a reload
_FULL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_HEALTH: Final = frozenset({"/livez", "/readyz", "/healthz"})
_TRANSFER_ENCODING: Final = re.compile(rb"^transfer-encoding\b", re.IGNORECASE | re.MULTILINE)
_NOT_ASCII: Final = re.compile(rb"[\x80-\xff]")


@final
class _Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    command: str | None = None  # waitress leaves both undefined until the headers are read
    path = ""

    def parse_header(self, header_plus: bytes) -> None:
        if _TRANSFER_ENCODING.search(header_plus):
            raise ParsingError("Transfer-Encoding is refused")
        target, line_end, rest = header_plus.partition(b"\r\n")
        # curl sends the bytes of an id as they are typed; waitress wants them escaped.
        escaped = _NOT_ASCII.sub(lambda byte: b"%%%02X" % byte[0][0], target)
        super().parse_header(escaped + line_end + rest)


@final
class _Overloaded:
    """Error of a request that found the queue full; only its code is asked for."""

    code = 503


@final
class _Task(WSGITask):  # type: ignore[misc]  # waitress has no types
    def build_response_header(self) -> bytes:
        if self.channel.server.stopping.is_set() and len(self.channel.requests) == 1:
            self.set_close_on_finish()  # nothing else was sent yet; the client learns not to
        header: bytes = super().build_response_header()
        return header


@final
class _ErrorTask(ErrorTask):  # type: ignore[misc]  # waitress has no types
    def execute(self) -> None:
        began = time.monotonic()
        code = self.request.error.code
        problem = problem_of_status(code, {"Retry-After": "1"} if code == 503 else None)
        if code == 413:
            limit = self.channel.adj.max_request_body_size - 1
            problem = body_too_large(self.request.content_length, limit)
        instance = request_id(self.request.headers.get("X_REQUEST_ID", ""))
        body = encoded(problem, instance)
        self.status = f"{problem.status} {HTTPStatus(problem.status).phrase}"
        headers = common_headers(instance) | problem.headers | {"Content-Type": MEDIA_TYPE}
        self.response_headers.extend(headers.items())
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)
        method = None if code in {400, 431} else self.request.command  # those were not understood
        log_access(instance, method=method, route=None, status=problem.status, began=began)


@final
class _OneLine(logging.LoggerAdapter[logging.Logger]):
    """Escapes line ends: waitress logs the paths of clients who leave early."""

    def process(
        self, msg: str, kwargs: MutableMapping[str, Any]
    ) -> tuple[str, MutableMapping[str, Any]]:
        return msg.encode("unicode_escape").decode(), kwargs


@final
class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    logger = _OneLine(logging.getLogger("recae_api.connection"))
    parser_class = _Parser
    task_class = _Task
    error_task_class = _ErrorTask
    began = 0.0

    @property
    def last_activity(self) -> float:
        """Time of the last byte or answer, by the clock that nobody sets."""
        return self._active

    @last_activity.setter
    def last_activity(self, _: float) -> None:  # waitress gives the time of the day
        self._active = time.monotonic()

    def received(self, data: bytes) -> bool:
        if self.request is None:
            self.began = time.monotonic()
        return bool(super().received(data))

    def linger(self, now: float) -> bool:
        """Whether something is still to be read or written."""
        working = self.requests or self.total_outbufs_len or self.request is not None
        return bool(working) or now - self.last_activity < _LINGER_S


@final
class _Listener(TcpWSGIServer):  # type: ignore[misc]  # waitress has no types
    channel_class = _Channel
    next_channel_cleanup = 0.0

    def __init__(self, *args: Any, stopping: threading.Event, max_queue: int, **more: Any) -> None:
        self.stopping = stopping
        self.at_once: deque[Any] = deque()  # channels whose answer needs no worker
        self._max_queue = max_queue
        self._accepts_from = 0.0
        self._tells_from = 0.0
        super().__init__(*args, **more)

    def add_task(self, task: Any) -> None:
        """Queue a channel for a worker, or for the loop itself if the answer must not wait."""
        request = task.requests[0]
        health = request.error is None and request.path in _HEALTH
        full = len(self.task_dispatcher.queue) >= self._max_queue
        if full and request.error is None and not health:
            request.error = _Overloaded()
        # A client that does not read what it got could hold up the loop.
        if (request.error or health) and not task.total_outbufs_len:
            self.at_once.append(task)  # the caller is the loop, or a worker that will wake it
        else:
            super().add_task(task)

    def readable(self) -> bool:
        """Look after the channels, and say whether one more is accepted."""
        now = time.monotonic()
        if now >= self.next_channel_cleanup:
            self.next_channel_cleanup = now + self.adj.cleanup_interval
            self.maintenance(now)
        full = self.accepting and len(self._map) >= self.adj.connection_limit
        if full:
            self._tell(f"{self.adj.connection_limit} connections are open")
        return self.accepting and not full and now >= self._accepts_from

    def accept(self) -> Any:
        """Accept a connection; None without one, and without a descriptor for it."""
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._tell(str(error))
            self._accepts_from = time.monotonic() + 1
            return None

    def _tell(self, why: str) -> None:
        """Log why newcomers wait, once a minute at most."""
        if time.monotonic() >= self._tells_from:
            self._tells_from = time.monotonic() + 60
            _LOG.warning("new connections wait until others end: %s", why)

    def maintenance(self, now: float) -> None:
        """Close what idles, and what has been sending one request for too long."""
        super().maintenance(now)
        for channel in self.active_channels.values():
            if channel.request is not None and now - channel.began > _REQUEST_S:
                channel.will_close = True

    def stop_listening(self) -> None:
        """Take the connections that clients hold for made, then no more."""
        known = -1
        while known < len(self.active_channels):
            known = len(self.active_channels)
            self.handle_accept()
        wasyncore.dispatcher.close(self)  # not our own: it would also close the trigger


@final
class Server:
    """A listening server for one application.

    Parameters
    ----------
    app
        Made by `create_app`.
    host, port
        Where to listen; port 0 takes a free one.
    threads
        Requests computed at once.
    max_queue
        Requests that may wait; beyond them the answer is 503 at once.
    insecure
        Listen beyond this machine without API keys.

    Raises
    ------
    ConfigError
        If `host` is reachable from other machines, no keys are configured and `insecure` is false.
    ResourceError
        If the address cannot be listened on.
    """

    def __init__(
        self,
        app: Flask,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        threads: int = 4,
        max_queue: int = 200,
        insecure: bool = False,
    ) -> None:
        lifecycle = lifecycle_of(app)
        if lifecycle.settings.key_file is None and not insecure and not _on_loopback(host):
            raise ConfigError(
                f"host {host!r} can be reached from other machines and no API keys are configured; "
                "with keys, or on 127.0.0.1, it is accepted"
            )
        self._stopping = lifecycle.stopping
        self._map: dict[int, Any] = {}
        self._dispatcher = ThreadedTaskDispatcher()
        # It warns of every request that waits, which under load drowns the log.
        self._dispatcher.queue_logger = logging.Logger("recae_api.queue", logging.ERROR)
        try:
            adjustments = Adjustments(
                host=host,
                port=port,
                threads=threads,
                connection_limit=_most_connections(),
                channel_timeout=5,
                cleanup_interval=2,
                max_request_header_size=_MAX_HEADER_BYTES,
                max_request_body_size=lifecycle.settings.max_body_bytes + 1,  # waitress has >=
                ident=None,
                expose_tracebacks=False,
                clear_untrusted_proxy_headers=True,
                asyncore_use_poll=True,
            )
            self._listeners = [
                _Listener(
                    app,
                    self._map,
                    stopping=self._stopping,
                    max_queue=max_queue,
                    dispatcher=self._dispatcher,
                    adj=adjustments,
                    sockinfo=sockinfo,
                )
                for sockinfo in adjustments.listen
            ]
        except (OSError, ValueError) as error:
            wasyncore.close_all(self._map)
            raise ResourceError(f"{host}:{port} cannot be listened on: {error}") from error
        self._dispatcher.set_thread_count(threads)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens on."""
        listener = self._listeners[0]
        return listener.effective_host, int(listener.effective_port)

    def run(self) -> None:
        """Serve until `stop`; return once what was asked before is answered, or after 10 s."""
        while not self._stopping.is_set():
            self._turn(1.0)
        self._drain()

    def stop(self) -> None:
        """Ask `run` to end. Any thread or signal handler may call it."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._listeners[0].pull_trigger()

    def _turn(self, timeout_s: float) -> None:
        wasyncore.loop(timeout=timeout_s, use_poll=True, map=self._map, count=1)
        for listener in self._listeners:
            while listener.at_once:
                listener.at_once.popleft().service()

    def _drain(self) -> None:
        for listener in self._listeners:
            listener.stop_listening()
        deadline = time.monotonic() + _DRAIN_S
        while time.monotonic() < deadline:
            self._turn(0.05)
            channels = [c for c in self._map.values() if isinstance(c, _Channel)]
            if not channels:
                break
            for channel in channels:
                if not channel.linger(time.monotonic()):
                    channel.handle_close()
        self._dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self._map)


def serve(
    app: Flask,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    threads: int = 4,
    insecure: bool = False,
    on_listening: Callable[[str, int], None] | None = None,
) -> None:
    """Serve an application until SIGTERM, SIGINT or SIGHUP, then finish what runs and return.

    A SIGHUP that is ignored, as `nohup` has it, stays ignored. Must be called from the main thread.
    Parameters as in `Server`; `on_listening` is called with host and port once connections are
    accepted.

    Raises
    ------
    ConfigError, ResourceError
        As `Server`.
    """
    server = Server(app, host=host, port=port, threads=threads, insecure=insecure)
    numbers = [signal.SIGTERM, signal.SIGINT]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: server.stop()) for number in numbers}
    try:
        if on_listening is not None:
            on_listening(*server.address)
        server.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _most_connections() -> int:
    """Connections that leave this process descriptors for the rest, where they are limited."""
    if sys.platform == "win32":
        return 400  # `select`, which waits for them there, takes 512 sockets
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = _CONNECTIONS if soft == resource.RLIM_INFINITY else soft - _OTHER_FILES
    return min(_CONNECTIONS, max(free, 8))


def _on_loopback(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", None, proto=socket.IPPROTO_TCP)  # noqa: S104  # what an empty host means
    except OSError:
        return False  # listening will say what is wrong with it
    return all(is_loopback(str(address[4][0])) for address in found)
