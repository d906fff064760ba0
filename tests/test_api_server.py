"""The application behind real sockets: malformed, huge and slow requests, overload, stopping."""

import errno
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace

import pytest

from recae.errors import ConfigError, ResourceError
from recae.serving import RecommendationService
from recae_api import Server, Settings, create_app, create_key, serve
from recae_api.server import _Channel
from tests.api_films import save_films

GET = b"GET /recommend?user=u1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
HIDDEN = b"GET /livez HTTP/1.1\r\nHost: hidden\r\n\r\n"


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    directory = tmp_path_factory.mktemp("api") / "films"
    save_films(directory)
    return directory


@pytest.fixture(scope="module")
def service(films):
    return RecommendationService.open(films)


@contextmanager
def running(app, **options):
    server = Server(app, port=0, **options)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(12)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def server(service):
    with running(create_app(service)) as server:
        yield server


def connect(server):
    connection = socket.create_connection(server.address, timeout=10)
    connection.settimeout(10)
    return connection


def everything(connection):
    """What arrives until the other side closes."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def exchange(server, request):
    """Everything answered to one connection that sends `request`, then only listens."""
    with connect(server) as connection:
        with suppress(OSError):  # the server may have answered and closed before the last byte
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        return everything(connection)


def answers(received):
    """(status, headers, body) of each answer in a stream."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}
        length = int(headers["content-length"])
        found.append((int(lines[0].split()[1]), headers, rest[:length]))
        received = rest[length:]
    return found


def test_two_requests_of_a_connection_get_two_answers_without_a_server_name(server):
    first, second = answers(
        exchange(server, GET + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    )
    assert (first[0], second[0]) == (200, 200)
    assert json.loads(first[2]) == json.loads(second[2])
    assert "server" not in first[1]


@pytest.mark.parametrize(
    "message",
    [
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding:\r\nContent-Length: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: identity\r\n\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 34\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 0, 34\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nX: a\nb: c\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nX: a\x00b\r\n\r\n",
        b"GET /livez\x0b HTTP/1.1 x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
    ids=range(19),
)
def test_a_malformed_message_is_400_and_what_follows_is_not_a_request(server, message):
    received = answers(exchange(server, message + HIDDEN + HIDDEN))
    assert [status for status, _, _ in received] == [400]
    (_, headers, body) = received[0]
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert headers["x-content-type-options"] == "nosniff"
    assert json.loads(body)["instance"] == headers["x-request-id"]


def test_headers_that_are_too_large_are_431(server):
    many = b"".join(b"X-%d: y\r\n" % i for i in range(20_000))
    for extra in (b"X: " + b"y" * 20_000 + b"\r\n", many):
        ((status, _, body),) = answers(exchange(server, GET[:-2] + extra + b"\r\n"))
        assert status == 431
        assert json.loads(body)["type"] == "/docs#headers-too-large"


@pytest.mark.parametrize("declared", [65_537, 2 * 1024**3, 10**30])
def test_a_body_declared_too_large_is_413_before_it_is_sent(server, declared):
    head = (
        b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n{" % declared
    )
    ((status, _, body),) = answers(exchange(server, head))
    assert status == 413
    assert json.loads(body)["type"] == "/docs#body-too-large"
    said = f"the body has {declared} bytes; up to 65536 are accepted"
    assert json.loads(body)["detail"] == said


def test_a_body_of_just_the_limit_is_read(server):
    body = b'{"user": "u1"}'.ljust(65_536)
    head = b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    assert [status for status, _, _ in answers(exchange(server, request))] == [200]


@pytest.mark.parametrize(
    "path",
    [
        *("/x//recommend", "/./recommend", "/v1/../recommend", "/docs/", "/console", "/%00"),
        *("/.git/config", "/%2e%2e/etc/passwd", "/assets/../app.py", "/assets/%2e%2e%2fapp.py"),
    ],
)
def test_no_other_path_leads_anywhere(server, path):
    request = b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode()
    ((status, _, body),) = answers(exchange(server, request))
    assert status == 404
    assert json.loads(body)["type"] == "/docs#not-found"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("GET http://evil.example HTTP/1.1", 200),
        ("GET http://evil.example/recommend?user=u1 HTTP/1.1", 200),
        ("GET //evil.example/%2e%2e HTTP/1.1", 404),
        ("GET ?user=u1 HTTP/1.1", 200),
        ("OPTIONS * HTTP/1.1", 404),
        ("CONNECT evil.example:80 HTTP/1.1", 404),
        ("TRACE / HTTP/1.1", 405),
        ("get / HTTP/1.1", 400),
        ("GET / HTTP/2.0", 200),
        ("GET /recommend?user=u1#<b> HTTP/1.1", 200),
    ],
)
def test_no_request_line_is_redirected_or_reflected(server, line, wanted):
    request = f"{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    ((status, headers, body),) = answers(exchange(server, request))
    assert status == wanted
    assert "location" not in headers
    assert b"evil" not in body


def test_raw_utf8_in_the_target_is_the_id_it_spells(server):
    request = (
        "GET /recommend?user=😀 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    )
    ((status, _, body),) = answers(exchange(server, request))
    assert status == 200
    assert json.loads(body)["user"] == "😀"


def test_slow_clients_are_closed_and_do_not_hold_up_others(server):
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(server)) for _ in range(60)]
        for number, connection in enumerate(slow):
            started = [
                b"",
                b"GET /rec",
                b"POST /v1/recommend HTTP/1.1\r\nContent-Length: 50\r\n\r\n{",
            ]
            connection.sendall(started[number % 3])
        for _ in range(20):
            began = time.monotonic()
            assert answers(exchange(server, GET))[0][0] == 200
            assert time.monotonic() - began < 1
        began = time.monotonic()
        assert [everything(connection) for connection in slow] == [b""] * 60
        assert time.monotonic() - began < 9  # five seconds of silence, a look every two


def test_a_request_that_trickles_for_ever_is_closed(server, monkeypatch):
    monkeypatch.setattr("recae_api.server._REQUEST_S", 1)
    began = time.monotonic()
    with connect(server) as connection, suppress(BrokenPipeError, ConnectionResetError):
        while time.monotonic() - began < 9:
            connection.sendall(b"G")
            time.sleep(0.2)
    assert time.monotonic() - began < 6


def slow_app(service, release):
    """The application with one more route, which answers once `release` is set."""
    app = create_app(service)

    def wait():
        release.wait(10)
        return {"done": True}

    app.add_url_rule("/wait", view_func=wait)
    return app


WAIT = b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n"


HEALTH = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def test_beyond_the_queue_the_answer_is_503_at_once_and_so_is_health(service, caplog):
    release = threading.Event()
    with (
        running(slow_app(service, release), threads=1, max_queue=3) as server,
        ExitStack() as stack,
    ):
        waiting = []
        for _ in range(8):
            waiting.append(stack.enter_context(connect(server)))
            waiting[-1].sendall(WAIT)
            time.sleep(0.05)
        for path in (b"livez", b"readyz", b"healthz"):
            assert answers(exchange(server, HEALTH.replace(b"livez", path)))[0][0] == 200
        refused = [answers(everything(connection))[0] for connection in waiting[4:]]
        assert answers(exchange(server, b"\x16\x03\r\n\r\n"))[0][0] == 400
        assert not release.is_set()
        release.set()
        server.stop()
        served = [answers(everything(connection))[0][0] for connection in waiting[:4]]
    assert not [record for record in caplog.records if "queue depth" in record.message]
    assert served == [200] * 4
    assert [status for status, _, _ in refused] == [503] * 4
    assert refused[-1][1]["retry-after"] == "1"
    assert json.loads(refused[-1][2])["type"] == "/docs#unavailable"


def test_answers_of_a_connection_keep_their_order_whoever_gives_them(service):
    release = threading.Event()
    release.set()
    with running(slow_app(service, release), threads=1) as server:
        sent = WAIT + HEALTH.replace(b"Connection: close\r\n", b"") + WAIT + HEALTH
        received = answers(exchange(server, sent))
    assert [json.loads(body) for _, _, body in received] == [
        {"done": True},
        {"status": "alive"},
        {"done": True},
        {"status": "alive"},
    ]


def test_what_the_server_refuses_has_a_line_in_the_access_log(server, caplog):
    head = b"POST /secret HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: mine\r\n"
    with caplog.at_level(logging.INFO, "recae_api.access"):
        exchange(server, head + b"Transfer-Encoding: chunked\r\n\r\n")
        exchange(server, head + b"Content-Length: 65537\r\n\r\n")
        exchange(server, head + b"X: " + b"y" * 20_000 + b"\r\n\r\n")
    lines = [json.loads(r.message) for r in caplog.records if r.name == "recae_api.access"]
    assert [(line["status"], line["method"], line["route"], line["key"]) for line in lines] == [
        (400, None, None, None),
        (413, "POST", None, None),
        (431, None, None, None),
    ]
    assert lines[1]["request_id"] == "mine"
    assert "secret" not in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not limit descriptors so")
@pytest.mark.parametrize("open_files", [64, 4096])
def test_connections_leave_descriptors_for_the_rest(service, monkeypatch, open_files):
    monkeypatch.setattr("resource.getrlimit", lambda _: (open_files, open_files))
    server = Server(create_app(service), port=0)
    assert server._listeners[0].adj.connection_limit == min(1000, open_files - 32)
    server.stop()
    server.run()


def test_at_the_limit_newcomers_wait_and_the_log_says_so_once(service, monkeypatch, caplog):
    monkeypatch.setattr("recae_api.server._CONNECTIONS", 8)
    with running(create_app(service)) as server, ExitStack() as stack:
        first = [stack.enter_context(connect(server)) for _ in range(20)]
        first[5].sendall(HEALTH)  # the sixth: the listener and its trigger count too
        assert answers(everything(first[5]))[0][0] == 200
        for connection in first:
            connection.close()
        assert answers(exchange(server, GET))[0][0] == 200
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert told == ["new connections wait until others end: 8 connections are open"]


def test_without_descriptors_the_server_waits_and_the_log_says_so_once(service, caplog):
    tried = []

    def accept():
        tried.append(time.monotonic())
        raise OSError(errno.EMFILE, "Too many open files")

    with running(create_app(service)) as server, connect(server) as kept:
        kept.sendall(HEALTH.replace(b"Connection: close\r\n", b""))
        assert kept.recv(65536).startswith(b"HTTP/1.1 200")
        listening = server._listeners[0].socket
        server._listeners[0].socket = SimpleNamespace(accept=accept, close=listening.close)
        with connect(server) as late:
            late.sendall(HEALTH)
            kept.sendall(HEALTH)  # who is connected is served on
            assert [status for status, _, _ in answers(everything(kept))] == [200]
            assert len(tried) <= 2
            server._listeners[0].socket = listening
            assert answers(everything(late))[0][0] == 200
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "Too many open files" in told[0].getMessage()
    assert told[0].exc_info is None


def test_a_clock_that_is_set_back_changes_no_limit(service, monkeypatch):
    with running(create_app(service)) as server, connect(server) as idle:
        assert answers(exchange(server, HEALTH))[0][0] == 200
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() - 1e6)
        server._listeners[0].adj.channel_timeout = 0.1
        server._listeners[0].adj.cleanup_interval = 0.1
        server._listeners[0].next_channel_cleanup = 0
        assert everything(idle) == b""


def test_what_the_server_logs_of_a_connection_stays_on_one_line(caplog):
    # waitress says this, with the path, when a client is gone before the answer is written
    _Channel.logger.warning("Client disconnected while serving /a\nforged")
    assert [record.message for record in caplog.records] == [
        "Client disconnected while serving /a\\nforged"
    ]


def test_stopping_flips_readiness_refuses_newcomers_and_finishes_what_was_sent(service):
    release = threading.Event()
    with running(slow_app(service, release), threads=2) as server, ExitStack() as stack:
        address = server.address
        kept = stack.enter_context(connect(server))
        kept.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert kept.recv(65536).startswith(b"HTTP/1.1 200")
        waiting = stack.enter_context(connect(server))
        waiting.sendall(WAIT + WAIT)
        server.stop()
        kept.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.2)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=2)
        release.set()
        ((status, headers, _),) = answers(everything(kept))
        assert (status, headers["connection"]) == (503, "close")
        assert [status for status, _, _ in answers(everything(waiting))] == [200, 200]


SERVE = """
import sys
from recae.serving import RecommendationService
from recae_api import create_app, serve
app = create_app(RecommendationService.open(sys.argv[1]))
serve(app, port=0, on_listening=lambda host, port: print(port, flush=True))
"""


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_the_process_with_0_and_loses_no_request(films, number):
    batch = json.dumps(
        {"requests": [{"user": f"u{i % 40 + 1}", "k": 20} for i in range(100)]}
    ).encode()
    request = (
        b"POST /v1/recommend/batch HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(batch), batch)
    )  # fmt: skip
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(["api", "."]),
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(films)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        port = int(process.stdout.readline())
        with ExitStack() as stack:
            connections = []
            for _ in range(40):
                connection = socket.create_connection(("127.0.0.1", port), timeout=10)
                connections.append(stack.enter_context(connection))
                connection.sendall(request)
            time.sleep(0.05)
            process.send_signal(number)
            received = [answers(everything(connection)) for connection in connections]
            assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert [[status for status, _, _ in one] for one in received] == [[200]] * 40


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_each_signal_that_ends_a_process_ends_serve(service, number):
    serve(create_app(service), port=0, on_listening=lambda host, port: os.kill(os.getpid(), number))


def test_a_hang_up_that_nohup_ignores_stays_ignored(service):
    seen = []

    def look(host, port):
        seen.append(signal.getsignal(signal.SIGHUP))
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        serve(create_app(service), port=0, on_listening=look)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert seen == [signal.SIG_IGN]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", ""])
def test_other_machines_are_not_served_without_keys(service, host):
    with pytest.raises(ConfigError, match="no API keys are configured"):
        Server(create_app(service), host=host, port=0)


def test_with_keys_or_when_told_other_machines_are_served(service, tmp_path):
    create_key(tmp_path / "keys", name="test")
    for app, insecure in [
        (create_app(service, Settings(key_file=tmp_path / "keys")), False),
        (create_app(service), True),
    ]:
        server = Server(app, host="0.0.0.0", port=0, insecure=insecure)
        server.stop()
        server.run()


def test_an_address_in_use_is_a_resource_error(service, server):
    with pytest.raises(ResourceError, match="cannot be listened on"):
        Server(create_app(service), port=server.address[1])
