"""Starts one server for each thing measured, and ends it in every case."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.material import BROWSER, FOLDER, Material
from example_sites.servers import end

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"
START_SECONDS = 30.0

UVICORN = (
    "uvicorn --factory --loop=uvloop --http=httptools --workers=1 --no-access-log"
    " --log-level=warning --host={host} --port={port} {app}"
)
GUNICORN = (
    "gunicorn --worker-class=gthread --workers=1 --threads=4 --keep-alive=30"
    " --log-level=warning --no-control-socket --bind={host}:{port} {app}()"
)
COMMANDS = {
    "benchmarks.api_app": UVICORN,
    "benchmarks.asgi_apps": UVICORN,
    "benchmarks.wsgi_apps": GUNICORN,
}


class ServerError(Exception):
    """A server did not start, or does not answer right."""


@dataclass(frozen=True)
class Side:
    """One of the things compared: what it is called, the app (`module:factory`), what it is asked.

    `is_hit` says that it is ours, and has to answer from its cache.
    """

    label: str
    app: str
    path: str
    is_hit: bool = False

    def command(self, port: int) -> list[str]:
        """Return the command line of its server."""
        module = self.app.partition(":")[0]
        words = COMMANDS[module].format(host=HOST, port=port, app=self.app).split()
        return [sys.executable, "-m", *words]


@contextmanager
def running(sides: Sequence[Side], material: Material) -> Iterator[list[str]]:
    """Run a server for each side, all at a time; yield the addresses to ask.

    Raises `ServerError`. The servers have ended when the block is left, whatever happened.
    """
    with ExitStack() as stack:
        ports = free_ports(len(sides))
        begun = [
            stack.enter_context(begun_server(side, port, material))
            for side, port in zip(sides, ports, strict=True)
        ]
        for server in begun:
            server.wait()
        yield [f"http://{HOST}:{server.port}{server.side.path}" for server in begun]


@dataclass(frozen=True)
class Server:
    """A server that has begun to start."""

    side: Side
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def wait(self) -> None:
        """Wait until it answers anything at all. Raises `ServerError` where it does not."""
        patience = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < patience:
            try:
                httpx.get(f"http://{HOST}:{self.port}/none", trust_env=False, timeout=START_SECONDS)
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return
        said = self.log.read_text(errors="replace")[-2000:]
        raise ServerError(f"{self.side.label} did not start.\n{said}")


@contextmanager
def begun_server(side: Side, port: int, material: Material) -> Iterator[Server]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPTIDASH_")}
    log = material.folder / f"{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            side.command(port),
            cwd=ROOT,
            env=kept | {FOLDER: str(material.folder)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for us; we end the whole group
        )
    try:
        yield Server(side, port, process, log)
    finally:
        end(process)


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind((HOST, 0))
        return [int(listener.getsockname()[1]) for listener in sockets]


def check(side: Side, url: str, expected: bytes) -> None:
    """Ask twice, as a browser would; raise `ServerError` where the second answer is not right."""
    with httpx.Client(trust_env=False, timeout=START_SECONDS, headers=BROWSER) as client:
        client.get(url)
        answer = client.get(url)
    status = answer.headers.get("cache-status", "")
    if answer.status_code != 200 or answer.content != expected:
        got = f"{answer.status_code}, {len(answer.content)} bytes, {status}"
        raise ServerError(f"{side.label} answers {got}, not 200 with {len(expected)} bytes")
    if side.is_hit and "hit" not in status:
        raise ServerError(f"{side.label} is no hit but {status!r}")
