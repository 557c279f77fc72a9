"""A running `optidash serve` for the programs here, with a key and its log in a file."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from optidash_integrations.server.database import Database
from optidash_integrations.server.keys import Keys

ROOT = Path(__file__).parents[2]
PROGRAM = "from optidash_integrations.cli.serve import serve; serve()"
START_SECONDS, STOP_SECONDS = 60.0, 60.0


class Serving:
    """A server as a process."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], port: int) -> None:
        self.folder = folder
        self.process = process
        self.port = port
        self.log = folder / "server.log"
        self.secret = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/1.0"

    def is_ready(self) -> bool:
        with (
            suppress(OSError, HTTPException),
            closing(HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection,
        ):
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        return False

    def left_behind(self, seconds: float = 10.0) -> list[Path]:
        """Return what is still in the folders of work, once those who work had time to end."""
        deadline = time.monotonic() + seconds
        while True:
            found = list((self.folder / "data" / "work").glob("*/*"))
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.05)

    def results(self) -> list[Path]:
        """Return all results in temporary storage."""
        return list((self.folder / "data" / "temp").glob("*/*/*"))

    def descendants(self) -> list[int]:
        """Return the processes below the first: workers, and their engines."""
        children: dict[int, list[int]] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(path.parent.name))
        found, below = [], [self.process.pid]
        while below:
            below = [pid for parent in below for pid in children.get(parent, ())]
            found += below
        return found

    def resident(self) -> int:
        """Return the resident bytes of all its processes."""
        total = 0
        for pid in (self.process.pid, *self.descendants()):
            with suppress(OSError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return total * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[Serving]:
    """Run a server with some arguments in a folder, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    database = f"sqlite:///{folder / 'server.sqlite3'}"
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    given = ["--port", str(port), "--database", database, "--data-dir", str(folder / "data")]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *given, *arguments], cwd=ROOT, stderr=log
        )
    server = Serving(folder, process, port)
    try:
        wait(server)
        with closing(Database(database)) as opened:
            _, server.secret = Keys(opened).create("soak", is_primary=True)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        finally:
            process.kill()
            process.wait()


def wait(server: Serving) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not server.is_ready():
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not start: {server.log.read_text()[-2000:]}")
        time.sleep(0.1)
