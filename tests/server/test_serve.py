"""`optidash serve` as a process: TLS, workers, signals, and what is said at the start."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner, Result

from optidash_integrations import OptidashClient
from optidash_integrations.cli.serve import serve
from optidash_integrations.errors import ApiError
from optidash_integrations.server.database import Database
from optidash_integrations.server.keys import Keys
from tests.origin import Origin
from tests.server.live import wait_until
from tests.sites.photos import photo

ROOT = Path(__file__).parents[2]
PROGRAM = "from optidash_integrations.cli.serve import serve; serve()"


class Served:
    """A running `optidash serve`."""

    def __init__(self, folder: Path, process: subprocess.Popen[str], port: int) -> None:
        self.folder = folder
        self.process = process
        self.port = port
        self.said: list[str] = []
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(self.process.stderr)

    @property
    def text(self) -> str:
        return "".join(self.said)

    def key(self) -> str:
        with closing(Database(database_of(self.folder))) as database:
            return Keys(database).create("shop")[1]

    def client(self, key: str | None = "none", scheme: str = "http") -> OptidashClient:
        return OptidashClient(key, f"{scheme}://localhost:{self.port}/1.0", retries=0)

    def is_ready(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 10) as found:
            found.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return found.recv(100).startswith(b"HTTP/1.1 200")
        return False

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def database_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'server.sqlite3'}"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


Serve = Callable[..., Served]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Serve]:
    """Give a function that starts a server with some arguments."""
    running: list[Served] = []

    def begin(*arguments: str, ready: bool = True) -> Served:
        port = free_port()
        given = ["--port", str(port), "--database", database_of(tmp_path), "--engines", "1"]
        given += ["--data-dir", str(tmp_path / "data"), "--allow-host", "127.0.0.1", *arguments]
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *given], stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        served = Served(tmp_path, process, port)
        running.append(served)
        if ready:
            wait_until(served.is_ready, 60)
        return served

    yield begin
    for served in running:
        served.process.kill()
        served.process.wait()
        served.reader.join()
        assert served.process.stderr is not None
        served.process.stderr.close()


@contextmanager
def holding() -> Iterator[tuple[Origin, threading.Event, threading.Event]]:
    """Give an origin whose picture comes only when a test lets it."""
    asked, allowed = threading.Event(), threading.Event()

    def held(headers: object) -> tuple[int, dict[str, str], bytes]:
        asked.set()
        allowed.wait(30)
        return 200, {}, photo()

    with Origin() as origin:
        origin.routes["/held.jpg"] = held
        yield origin, asked, allowed
        allowed.set()


def test_it_serves_until_it_is_told_to_end(start: Serve) -> None:
    served = start()
    assert "optidash keys create" in served.text
    with served.client(served.key()) as client:
        assert client.upload(photo(), {"resize": {"width": 60}}).output.width == 60
    assert served.end() == 0
    assert "Traceback" not in served.text


def test_ending_finishes_what_is_running(start: Serve) -> None:
    served = start()
    found = []
    with holding() as (origin, asked, allowed), served.client(served.key()) as client:
        url = f"http://127.0.0.1:{origin.port}/held.jpg"
        caller = threading.Thread(target=lambda: found.append(client.fetch(url, {})))
        caller.start()
        assert asked.wait(30)
        served.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "Shutting down" in served.text)
        allowed.set()
        caller.join(30)
    assert found[0].output.width == 120
    assert served.process.wait(60) == 0


def test_tls_needs_no_proxy(start: Serve, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    chain, key, root = (tmp_path / name for name in ("chain.pem", "key.pem", "root.pem"))
    certificate.cert_chain_pems[0].write_to_path(chain)
    certificate.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(root)
    served = start("--tls-cert", str(chain), "--tls-key", str(key), ready=False)
    wait_until(lambda: "Uvicorn running on" in served.text, 60)
    with OptidashClient(
        served.key(), f"https://localhost:{served.port}/1.0", verify=str(root), retries=0
    ) as client:
        found = client.upload(photo(), {})
        assert found.output.url is not None
        assert found.output.url.startswith(f"https://localhost:{served.port}/temp/")
    assert served.end() == 0


def test_several_workers_share_keys_results_and_numbers(start: Serve) -> None:
    served = start("--workers", "2", "--log-format", "json")
    wait_until(lambda: served.text.count("Application startup complete") == 2, 60)
    key = served.key()
    processes = set()
    for _ in range(12):
        with served.client(key) as client:
            metadata = client.upload(photo(), {"resize": {"width": 40}})
            client.download(metadata, served.folder / "again.jpg")
    text = metrics_of(served)
    processes = set(re.findall(r"Started server process \[(\d+)\]", served.text))
    assert len(processes) == 2
    assert 'optidash_server_requests_total{route="/1.0/upload",status="200"} 12.0' in text
    lines = [json.loads(line) for line in served.text.splitlines() if line.startswith("{")]
    assert [line["status"] for line in lines if line.get("route") == "/1.0/upload"] == [200] * 12
    assert key not in served.text
    assert served.end() == 0


def test_a_key_may_call_as_often_as_it_may_however_many_workers_there_are(start: Serve) -> None:
    served = start("--workers", "2", "--rate-limit", "20/hour")
    wait_until(lambda: served.text.count("Application startup complete") == 2, 60)
    head = f"GET /1.0/account HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.key()}\r\n"
    answers: list[bytes] = []

    def ask() -> None:
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", served.port), 30) as connection:
                connection.sendall(f"{head}Connection: close\r\n\r\n".encode())
                answers.append(b"".join(iter(lambda: connection.recv(65536), b"")))

    callers = [threading.Thread(target=ask) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    statuses = [answer[9:12] for answer in answers]
    assert (statuses.count(b"200"), statuses.count(b"429")) == (20, 20)
    left = [int(found) for found in re.findall(rb"x-ratelimit-remaining: (\d+)", b"".join(answers))]
    assert sorted(left, reverse=True) == [*range(19, -1, -1), *[0] * 20]
    assert served.end() == 0


def test_a_killed_worker_is_replaced_and_leaves_no_half_file(start: Serve) -> None:
    served = start("--workers", "2")
    wait_until(lambda: served.text.count("Application startup complete") == 2, 60)
    with holding() as (origin, asked, allowed), served.client(served.key()) as client:
        url = f"http://127.0.0.1:{origin.port}/held.jpg"
        failures: list[ApiError] = []

        def call() -> None:
            try:
                client.fetch(url, {})
            except ApiError as error:
                failures.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        assert asked.wait(30)
        victim = int(re.findall(r"Started server process \[(\d+)\]", served.text)[0])
        other = int(re.findall(r"Started server process \[(\d+)\]", served.text)[1])
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: served.text.count("Application startup complete") == 3, 60)
        allowed.set()
        caller.join(30)
        assert len(failures) <= 1
        assert os.kill(other, 0) is None  # type: ignore[func-returns-value]
        assert client.upload(photo(), {}).output.width == 120
    work = served.folder / "data" / "work"
    assert len(list(work.glob("*.lock"))) == 2
    assert list(work.glob("*/*")) == []
    assert served.end() == 0


def test_a_webhook_and_a_store_are_understood(start: Serve) -> None:
    served = start()
    with served.client(served.key()) as client:
        with pytest.raises(ApiError, match="store"):
            client.upload(photo(), {"store": {"provider": "nobody"}})
        with pytest.raises(ApiError, match="webhook"):
            client.upload(photo(), {"webhook": {"url": "nonsense"}})
        assert client.webhooks() == []


def test_insecure_says_so_loudly_and_asks_for_no_key(start: Serve) -> None:
    served = start("--insecure")
    assert "!!  --insecure" in served.text
    with served.client() as client:
        assert client.account().name == "everybody"


def metrics_of(served: Served) -> str:
    with socket.create_connection(("127.0.0.1", served.port), 10) as found:
        found.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        received = b""
        while chunk := found.recv(65536):
            received += chunk
    return received.decode()


# What is refused before it starts


def refused(*arguments: str) -> Result:
    return CliRunner().invoke(serve, list(arguments))


def test_insecure_is_for_this_machine_alone(tmp_path: Path) -> None:
    found = refused("--insecure", "--host", "0.0.0.0", "--data-dir", str(tmp_path))
    assert found.exit_code
    assert "for this machine alone" in str(found.exception)


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    file.write_text("")
    found = refused("--tls-cert", str(file))
    assert found.exit_code == 2
    assert "belong together" in found.output


def test_a_folder_that_can_not_be_had_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = refused("--database", database_of(tmp_path), "--data-dir", str(tmp_path / "file" / "x"))
    assert found.exit_code == 1
    assert "file/x: Not a directory" in found.output


def test_a_wrong_rate_is_named_before_anything_starts(tmp_path: Path) -> None:
    found = refused("--database", database_of(tmp_path), "--rate-limit", "many")
    assert found.exit_code
    assert "rate_limit" in str(found.exception)
