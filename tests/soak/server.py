"""A server at twice its capacity for as long as asked, with processes of it killed on the way.

    python -m tests.soak.server --seconds 600

The clients are twice as many as the server lets work and wait, so that it has to refuse some. Now
and then an engine process is killed, once a worker. Prints a line, and ends with 1 where

- an answer was neither a right image nor 503 with Retry-After, killings aside: each may cost the
  requests that were in the killed process,
- memory at the end is more than that when it was warm,
- an idle server does not answer at once again within seconds,
- a file of work, or half a result, is left.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from statistics import median

from PIL import Image

from tests.server.live import FORM, data, image, multipart
from tests.sites.photos import photo
from tests.soak.serving import ROOT, Serving, serving

FOLDER = ROOT / "build" / "soak-server"
WORKERS, ENGINES, QUEUE = 2, 1, 4
ROOM = WORKERS * (ENGINES + QUEUE)
CLIENTS = 2 * ROOM
SIDES = ((900, 600), (1200, 800), (640, 960))
WIDTHS = (120, 240, 320)
FORMATS = {"jpg": "JPEG", "webp": "WEBP", "png": "PNG"}

LOOK_SECONDS = 0.5
KILL_SECONDS = 10.0
"""Between two killings of an engine process."""

WARM = 0.4
"""Part of the time after which memory should not grow any more."""

GROWTH = 1.10
"""How much of the memory when warm there may be in the end."""

REST_SECONDS = 0.1
"""A client that was refused waits so long, which is less than it was told to."""

LONGEST_REST = 5.0
"""Within so many seconds after the load, all is as before it."""

MOST_LOOKED_AT = 500
TEMP_BYTES = 200 * 1024 * 1024


@dataclass
class Tally:
    """What came of all requests, counted by status; 0 stands for a broken connection."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)

    def count(self, status: int, seconds: float, fault: str = "") -> None:
        """Count an answer; `fault` says what was wrong with it."""
        with self.lock:
            self.statuses[status] += 1
            if fault:
                self.faults.append(fault)
            if status in (200, 503):
                (self.times if status == 200 else self.refusals).append(seconds)


@dataclass(frozen=True)
class Question:
    """A picture to upload, and what its answer has to be."""

    source: bytes
    width: int
    format: str

    def body(self, number: int) -> bytes:
        """Return the form; the picture's bytes are no other request's: one may be remembered as
        what a process came to its end over.
        """
        asked = {"resize": {"width": self.width}, "output": {"format": self.format}}
        return multipart(image(self.source + b"%016d" % number), data(asked))

    def fault(self, status: int, retry_after: str | None, content: bytes) -> str:
        """Return what is wrong with an answer; nothing where it is right."""
        if status == 503:
            wrong = content or not (retry_after or "").isdigit()
            return "503 with a body, or without Retry-After" if wrong else ""
        if status != 200:
            return f"status {status}"
        with Image.open(io.BytesIO(content)) as found:
            is_right = (found.width, found.format) == (self.width, FORMATS[self.format])
        return "" if is_right else "another image"


def questions() -> list[Question]:
    """Return one for each size, width and format."""
    return [
        Question(photo(*sides), width, name)
        for sides in SIDES
        for width in WIDTHS
        for name in FORMATS
    ]


class Visitors:
    """Clients that upload one picture after the other, each over connections of its own."""

    def __init__(self, server: Serving) -> None:
        self.server = server
        self.questions = questions()
        self.tally = Tally()
        self.stop = threading.Event()
        self.numbers = itertools.count()
        self.threads = [threading.Thread(target=self.visit, args=(n,)) for n in range(CLIENTS)]

    def visit(self, seed: int) -> None:
        """Ask until told to stop, whatever comes of it."""
        chance = random.Random(seed)
        while not self.stop.is_set():
            with closing(HTTPConnection("127.0.0.1", self.server.port, timeout=60)) as connection:
                try:
                    for _ in range(chance.randrange(1, 30)):
                        self.ask(connection, chance.choice(self.questions))
                        if self.stop.is_set():
                            return
                except (OSError, HTTPException):
                    self.tally.count(0, 0.0)

    def ask(self, connection: HTTPConnection, question: Question) -> int:
        """Upload a picture; return the status. Raises OSError and HTTPException."""
        headers = {
            "Content-Type": FORM,
            "X-Optidash-Binary": "1",
            "Authorization": f"Bearer {self.server.secret}",
        }
        body = question.body(next(self.numbers))
        began = time.perf_counter()
        connection.request("POST", "/1.0/upload", body, headers)
        answer = connection.getresponse()
        content = answer.read()
        seconds = time.perf_counter() - began
        fault = question.fault(answer.status, answer.headers.get("retry-after"), content)
        self.tally.count(answer.status, seconds, fault)
        if answer.status == 503:
            self.stop.wait(REST_SECONDS)
        return answer.status

    def start(self) -> None:
        """Let all begin."""
        for thread in self.threads:
            thread.start()

    def end(self) -> None:
        """Let all end; each gets the answer that it waits for."""
        self.stop.set()
        for thread in self.threads:
            thread.join()


@dataclass
class Report:
    """What was seen of the server: its resident bytes at even distances, the killings, the end."""

    sizes: list[int] = field(default_factory=list)
    engines_killed: int = 0
    workers_killed: int = 0
    rest: float = 0.0
    left: int = 0
    halves: int = 0
    kept: int = 0

    @property
    def growth(self) -> float:
        """The last tenth of the sizes, to those when the server was warm."""
        begin, tenth = int(len(self.sizes) * WARM), max(1, len(self.sizes) // 10)
        return median(self.sizes[-tenth:]) / median(self.sizes[begin : begin + tenth])


def soak(server: Serving, visitors: Visitors, seconds: float) -> Report:
    """Load the server for so long; in the first part of it kill some of its processes."""
    report = Report()
    began = time.monotonic()
    visitors.start()
    killed_at = began
    while (now := time.monotonic()) < began + seconds:
        report.sizes.append(server.resident())
        early = now < began + seconds * WARM * 0.75
        if early and now - killed_at > min(KILL_SECONDS, seconds / 20):
            killed_at = now
            kill(server, report)
        visitors.stop.wait(LOOK_SECONDS)
    visitors.end()
    report.rest = rested(visitors)
    report.left = len(server.left_behind())
    results = server.results()
    report.kept = sum(path.stat().st_size for path in results)
    report.halves = sum(
        not is_whole(path) for path in random.sample(results, min(500, len(results)))
    )
    return report


def kill(server: Serving, report: Report) -> None:
    """Kill an engine process; the third time a worker with its own."""
    descendants = {pid: command_of(pid) for pid in server.descendants()}
    engines = [pid for pid, command in descendants.items() if "engine_child" in command]
    workers = [pid for pid, command in descendants.items() if "spawn_main" in command]
    if report.engines_killed == 2 and not report.workers_killed and workers:
        os.kill(random.choice(workers), signal.SIGKILL)
        report.workers_killed += 1
    elif engines:
        os.kill(random.choice(engines), signal.SIGKILL)
        report.engines_killed += 1


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def rested(visitors: Visitors) -> float:
    """Return in how many seconds an upload is answered 200 as fast as a single one should be."""
    began = time.monotonic()
    while time.monotonic() - began < 60:
        with closing(HTTPConnection("127.0.0.1", visitors.server.port, timeout=60)) as connection:
            asked = time.perf_counter()
            status = visitors.ask(connection, visitors.questions[0])
            if status == 200 and time.perf_counter() - asked < 1.0:
                break
    return time.monotonic() - began


def is_whole(path: Path) -> bool:
    try:
        with Image.open(path) as found:
            found.load()
    except FileNotFoundError:
        return True  # deleted, since others needed the room
    except OSError:
        return False
    return True


def complaints(tally: Tally, report: Report, errors: Sequence[str]) -> list[str]:
    """Return a sentence for everything that is not as it should be."""
    said = []
    faults = Counter(tally.faults)
    if faults.pop("status 500", 0) > report.engines_killed:
        said.append(f"{tally.statuses[500]} times 500, of {report.engines_killed} killed engines")
    said += [f"{count} times {fault}" for fault, count in faults.items()]
    if tally.statuses[0] > report.workers_killed * CLIENTS:
        said.append(f"{tally.statuses[0]} broken connections")
    if not tally.statuses[200] or not tally.statuses[503]:
        said.append("it was not at its capacity")
    if report.growth > GROWTH:
        said.append(f"memory grew to {report.growth:.0%}")
    if report.rest > LONGEST_REST:
        said.append(f"{report.rest:.1f} s until an upload was answered as before")
    if report.left or report.halves:
        said.append(f"{report.left} files of work left, {report.halves} half results")
    if report.kept > TEMP_BYTES * 1.1:
        said.append(f"{report.kept} bytes of results, of {TEMP_BYTES}")
    expected = report.engines_killed
    if len(errors) > expected:
        said += [f"logged: {line}" for line in errors[:5]]
    return said


def line_of(tally: Tally, report: Report, seconds: float) -> str:
    def p99(times: Sequence[float]) -> float:
        return sorted(times)[len(times) * 99 // 100] if times else 0.0

    done, refused = tally.statuses[200], tally.statuses[503]
    return (
        f"{CLIENTS} clients of room for {ROOM}: {done} images ({done / seconds:.0f}/s, "
        f"p99 {p99(tally.times):.2f} s), {refused} refused (p99 {p99(tally.refusals):.2f} s), "
        f"{tally.statuses[500]} lost with {report.engines_killed} engines, {tally.statuses[0]} "
        f"with {report.workers_killed} worker, memory {report.sizes[-1] / 2**20:.0f} MiB "
        f"({report.growth:.0%} of when warm), as before after {report.rest:.1f} s"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.server")
    parser.add_argument("--seconds", type=float, default=600)
    seconds = parser.parse_args().seconds
    arguments = [f"--workers={WORKERS}", f"--engines={ENGINES}", f"--queue={QUEUE}"]
    arguments += [f"--temp-bytes={TEMP_BYTES}", "--rate-limit=10000000/minute"]
    with serving(FOLDER, *arguments) as server:
        visitors = Visitors(server)
        report = soak(server, visitors, seconds)
        errors = [line for line in server.log.read_text().splitlines() if " ERROR " in line]
    print(line_of(visitors.tally, report, seconds))
    said = complaints(visitors.tally, report, errors)
    for sentence in said:
        print(sentence)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
