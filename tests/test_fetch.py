"""Fetching: what is there afterwards is what was published, whole, or nothing."""

import hashlib
import io
import json
import os
import re
import shlex
import stat
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from recae.cli.main import cli
from recae.data.fetch import MOVIELENS, fetch, unpack
from recae.errors import BusyError, ConfigError, DataError, ResourceError
from recae.storage import directory_lock

RATINGS = "userId,movieId,rating,timestamp\n" + "".join(
    f"{u},{(7 * u + 3 * i) % 41},{1 + (u + i) % 5},{9 * i}\n" for u in range(60) for i in range(12)
)
FILES = {"ratings.csv": RATINGS, "movies.csv": "movieId,title\n1,One\n", "README.txt": "terms\n"}


def archive(
    files: dict[str, str], *, folder: str = "ml-latest-small", stored: bool = True
) -> bytes:
    """Zip archive; stored, so that it is long enough to break off."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as made:
        made.mkdir(folder)
        for name, text in files.items():
            made.writestr(f"{folder}/{name}", text)
    return out.getvalue()


class Server(ThreadingHTTPServer):
    """Serves `files`; breaks an archive off after `cut` bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut: int | None = None
        self.redirects: dict[str, str] = {}
        self.length = True
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def publish(self, data: bytes, name: str = "ml-latest-small", line: str | None = None) -> None:
        md5 = hashlib.md5(data).hexdigest()
        self.files[f"/{name}.zip"] = data
        text = f"MD5 ({name}.zip) = {md5}\n" if line is None else line
        self.files[f"/{name}.zip.md5"] = text.encode()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path in self.server.redirects:
            self.send_response(302)
            self.send_header("Location", self.server.redirects[self.path])
            self.end_headers()
            return
        data = self.server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        self.send_response(200)
        if self.server.length:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: self.server.cut] if self.path.endswith(".zip") else data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


# ------------------------------------------------------------------ a data set


@pytest.mark.parametrize("line", ["MD5 ({f}) = {h}\n", "{h}  {f}\n", "{h}", "{H} *{f}\r\n"])
def test_a_published_set_appears_whole(server: Server, tmp_path: Path, line: str) -> None:
    data = archive(FILES)
    md5 = hashlib.md5(data).hexdigest()
    server.publish(data, line=line.format(f="ml-latest-small.zip", h=md5, H=md5.upper()))
    told: list[tuple[int, int | None]] = []
    found = fetch(
        "ml-latest-small",
        tmp_path / "new",
        base_url=server.url + "/",
        progress=lambda *at: told.append(at),
    )
    assert (found.md5, found.already_there) == (md5, False)
    assert names(tmp_path / "new") == {"ml-latest-small"}
    assert names(found.directory) == {*FILES, "fetched.json"}
    assert (found.directory / "ratings.csv").read_text() == RATINGS
    assert told[-1] == (len(data), len(data))


def test_what_is_there_is_verified_and_not_fetched_again(server: Server, tmp_path: Path) -> None:
    server.publish(archive(FILES))
    first = fetch("ml-latest-small", tmp_path, base_url=server.url)
    server.asked.clear()
    again = fetch("ml-latest-small", tmp_path, base_url=server.url)
    assert again.already_there
    assert again.md5 == first.md5
    assert not server.asked
    (first.directory / "movies.csv").write_text("movieId,title\n1,Two\n")
    with pytest.raises(DataError, match=r"is not what was fetched: movies\.csv is missing or chan"):
        fetch("ml-latest-small", tmp_path, base_url=server.url)


def test_a_directory_of_somebody_else_is_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "ml-latest-small").mkdir()
    (tmp_path / "ml-latest-small" / "mine").write_text("mine")
    with pytest.raises(DataError, match="it has no fetched.json"):
        fetch("ml-latest-small", tmp_path, base_url=server.url)
    assert names(tmp_path / "ml-latest-small") == {"mine"}


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.publish(archive(FILES), line=f"MD5 (ml-latest-small.zip) = {'0' * 32}\n")
    with pytest.raises(DataError, match=f"its publisher gives {'0' * 32}"):
        fetch("ml-latest-small", tmp_path, base_url=server.url)
    assert names(tmp_path) == set()
    server.publish(archive(FILES))
    assert not fetch("ml-latest-small", tmp_path, base_url=server.url).already_there


@pytest.mark.parametrize("text", ["", "<html>", "MD5 (ml-20m.zip) = " + "0" * 32, "0" * 31])
def test_a_checksum_of_something_else_is_refused(server: Server, tmp_path: Path, text: str) -> None:
    server.publish(archive(FILES), line=text)
    with pytest.raises(DataError, match="a line with the MD5 of the file is expected"):
        fetch("ml-latest-small", tmp_path, base_url=server.url)


def test_unknown_names_missing_files_and_dead_addresses(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no data set 'ml-9m'; there are ml-latest-sm"):
        fetch("ml-9m", tmp_path)
    with pytest.raises(ResourceError, match=r"ml-1m\.zip\.md5 answered 404"):
        fetch("ml-1m", tmp_path, base_url=server.url)
    with pytest.raises(ResourceError, match=r"cannot reach http://127\.0\.0\.1:9/ml-1m\.zip\.md5"):
        fetch("ml-1m", tmp_path, base_url="http://127.0.0.1:9")
    server.publish(archive({"README.txt": "no ratings"}))
    with pytest.raises(DataError, match=r"has no file ratings\.csv; it has README\.txt"):
        fetch("ml-latest-small", tmp_path, base_url=server.url)
    assert names(tmp_path) == set()


def test_two_at_once_do_not_mix(server: Server, tmp_path: Path) -> None:
    server.publish(archive(FILES))
    with directory_lock(tmp_path / ".ml-latest-small.fetch"), pytest.raises(BusyError):
        fetch("ml-latest-small", tmp_path, base_url=server.url)


# ------------------------------------------------------------------ downloads


@pytest.mark.parametrize(
    ("length", "said"), [(True, "broke after 1000 bytes; run"), (False, "MD5")]
)
def test_a_broken_download_leaves_nothing_and_can_be_run_again(
    server: Server, tmp_path: Path, length: bool, said: str
) -> None:
    """Where the server says no length, the checksum tells."""
    server.publish(archive(FILES))
    server.cut, server.length = 1000, length
    with pytest.raises(ResourceError if length else DataError, match=said):
        fetch("ml-latest-small", tmp_path, base_url=server.url)
    assert names(tmp_path) == set()
    server.cut = None
    assert not fetch("ml-latest-small", tmp_path, base_url=server.url).already_there


def test_what_a_killed_process_left_is_replaced(server: Server, tmp_path: Path) -> None:
    server.publish(archive(FILES))
    left = tmp_path / ".ml-latest-small.fetch" / "ml-latest-small"
    left.mkdir(parents=True)
    (left / "ratings.csv").write_text("half of")
    (left / "more").write_text("")
    (left.parent / "ml-latest-small.zip").write_bytes(b"PK")
    found = fetch("ml-latest-small", tmp_path, base_url=server.url)
    assert names(tmp_path) == {"ml-latest-small"}
    assert names(found.directory) == {*FILES, "fetched.json"}
    assert (found.directory / "ratings.csv").read_text() == RATINGS


@pytest.mark.parametrize("length", [True, False], ids=["declared", "found"])
def test_too_large_is_refused(server: Server, tmp_path: Path, length: bool) -> None:
    server.publish(bytes(2_000_001))
    server.length = length
    with pytest.raises(
        DataError, match=r"small\.zip has more than the 2000000 bytes that are acce"
    ):
        fetch("ml-latest-small", tmp_path, base_url=server.url)
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    "url",
    [
        "http://files.grouplens.org/x",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "https://",
        "ml-1m",
        "https://a b/",
        "http://127.0.0.1.evil.example/",
        "http://[::1",
    ],
)
def test_other_addresses_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="https is, and http to this machine"):
        fetch("ml-1m", tmp_path, base_url=url)


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:9/d", "http://localhost:9", "http://[::1]:9/x/"]
)
def test_good_addresses_that_nobody_answers_are_told_in_a_line(tmp_path: Path, url: str) -> None:
    said = re.escape(f"cannot reach {url.rstrip('/')}/ml-1m.zip.md5: ") + ".*; check the network.*"
    with pytest.raises(ResourceError) as error:
        fetch("ml-1m", tmp_path, base_url=url)
    assert re.fullmatch(said, str(error.value))  # in a line


@pytest.mark.parametrize(
    "target", ["http://files.example.org/a.zip", "ftp://127.0.0.1/a.zip", "file:///etc/passwd"]
)
def test_redirects_elsewhere_are_refused(server: Server, tmp_path: Path, target: str) -> None:
    server.publish(archive(FILES))
    server.redirects["/ml-latest-small.zip"] = target
    with pytest.raises(ResourceError, match=r"only https addresses are followed|not allowed"):
        fetch("ml-latest-small", tmp_path, base_url=server.url)
    assert names(tmp_path) == set()


def test_redirects_on_this_machine_are_followed(server: Server, tmp_path: Path) -> None:
    server.publish(archive(FILES))
    server.files["/b.zip"] = server.files.pop("/ml-latest-small.zip")
    server.redirects["/ml-latest-small.zip"] = "/b.zip"
    fetch("ml-latest-small", tmp_path, base_url=server.url)
    assert (tmp_path / "ml-latest-small" / "ratings.csv").read_text() == RATINGS


# ------------------------------------------------------------------- unpacking


def crafted(tmp_path: Path, *members: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members:
            made.writestr(name, data)
    return path


def refused(path: Path, match: str, max_bytes: int = 10_000) -> None:
    target = path.parent / "inner" / "x"
    target.parent.mkdir(exist_ok=True)
    with pytest.raises(DataError, match=match):
        unpack(path, target, max_bytes=max_bytes)
    assert not target.exists() or not any(p.is_symlink() for p in target.rglob("*"))
    assert names(path.parent) == {"x.zip", "inner"}


@pytest.mark.parametrize(
    "name",
    ["../evil", "x/../../evil", "/etc/evil", "y/evil", "evil", "C:evil", "x\\..\\e", "x/a:b"],
)
def test_names_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    path = crafted(tmp_path, ("x/good", b"good"), (name, b"evil"))
    refused(path, r"plain files below x/ are accepted")
    assert not (tmp_path / "inner" / "x").exists()  # checked before anything is written


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR):
        link = zipfile.ZipInfo("x/link")
        link.external_attr = (kind | 0o777) << 16
        refused(crafted(tmp_path, (link, b"/etc/passwd")), "plain files below x/")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_twice_the_same_name_is_refused(tmp_path: Path) -> None:
    refused(crafted(tmp_path, ("x/a", b"1"), ("x/a", b"2")), "holds 'x/a' twice")


def test_a_declared_bomb_is_refused(tmp_path: Path) -> None:
    path = crafted(tmp_path, ("x/a", bytes(1_000_000)))
    assert path.stat().st_size < 2000
    refused(path, "unpacks to 1 files of 1000000 bytes; at most 100 of 10000 are accepted")
    many = [(f"x/{n}", b"") for n in range(101)]
    refused(crafted(tmp_path, *many), "unpacks to 101 files")


def test_a_bomb_that_declares_less_is_refused(tmp_path: Path) -> None:
    path = crafted(tmp_path, ("x/a", bytes(1_000_000)))
    size = (1_000_000).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, (1000).to_bytes(4, "little")))
    refused(path, "is no whole zip archive")
    assert not (tmp_path / "inner" / "x" / "a").exists()


def test_damage_is_refused(tmp_path: Path) -> None:
    path = crafted(tmp_path, ("x/a", b"some text that is long enough" * 20))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    refused(path, "is no whole zip archive")
    path.write_bytes(data[:45] + bytes([data[45] ^ 255]) + data[46:])
    refused(path, "is no whole zip archive")


def test_encrypted_is_refused(tmp_path: Path) -> None:
    path = crafted(tmp_path, ("x/a", b"1"))
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(data))
    refused(path, "is encrypted or not deflated")


# ----------------------------------------------------------------- command line


def test_the_command_prints_how_to_train_and_that_line_works(
    server: Server, tmp_path: Path
) -> None:
    server.publish(archive(FILES))
    arguments = ["data", "fetch", "ml-latest-small", "-o", str(tmp_path), "--base-url", server.url]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "research: no redistribution" in done.stderr
    line = shlex.split(done.stdout.splitlines()[-1])
    assert line[:3] == ["recae", "train", str(tmp_path / "ml-latest-small" / "ratings.csv")]
    again = CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False)
    value = json.loads(again.stdout)
    assert value["already_there"] is True
    assert value["train"] == line
    out = str(tmp_path / "model")
    trained = [*line[1:4], out, *line[5:], "--held-out-users", "10", "--model", "popular"]
    assert line[3:5] == ["-o", "models/ml-latest-small"]
    ran = CliRunner().invoke(cli, trained, catch_exceptions=False)
    assert ran.exit_code == 0, ran.stderr


@pytest.mark.datasets
def test_the_options_of_ml_1m_read_its_format(tmp_path: Path) -> None:
    raw = Path(os.environ.get("RECAE_DATASETS", "")) / "ml-1m" / "raw"
    if not raw.is_dir():
        pytest.skip("RECAE_DATASETS names no directory with ml-1m")
    options = MOVIELENS["ml-1m"].options
    source = [str(raw / "ratings.users-1-2999.dat.gz"), "--items", str(raw / "movies.dat")]
    arguments = ["train", *source, "-o", str(tmp_path / "m"), *options, "--model", "popular"]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    assert "3395 of 3395 items are in movies.dat" in done.stderr
