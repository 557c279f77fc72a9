"""Several processes serve more variants than the budgets hold, for as long as asked.

    python -m tests.soak.delivery --seconds 600

Four processes ask for 10,000 variants, some far more often than others, of which 2,000 fit the
disk's budget. Prints a line, and ends with 1 where a budget was exceeded by more than 5 %, an
answer was wrong, something was logged, or memory kept growing.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from queue import Empty

from optidash_integrations.endpoint import Endpoint
from optidash_integrations.exchange import Answer, FileBody, Request
from optidash_integrations.service import Service
from optidash_integrations.settings import Settings
from optidash_integrations.sources import Directory
from tests.sites.photos import photo
from tests.sites.processor import HandProcessor

PROCESSES = 4
SOURCES = 100
WIDTHS = 100
VARIANTS = SOURCES * WIDTHS
FITTING = 2_000
BODY = 20_000
ON_DISK = 20_480 + 4_096
"""What a variant takes there: its body and its facts, in blocks of 4 KiB."""

CACHE_BYTES = FITTING * ON_DISK
MEMORY_BYTES = 500 * BODY
TOLERANCE = 1.05
GROWTH = 8 * 1024 * 1024
"""How much more memory a process may have at the end than when its caches were full, in bytes."""

LOOK_SECONDS = 0.5
WARM = 0.4
"""Part of the time after which memory should not grow any more."""

ACCEPT = {"accept": "image/webp,*/*;q=0.5"}


@dataclass
class Report:
    """What one process did; `sizes` are its resident bytes, taken at even distances."""

    asked: int = 0
    hits: int = 0
    wrong: int = 0
    logged: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    most_in_memory: int = 0

    @property
    def grown(self) -> int:
        """Bytes by which the last tenth of the sizes exceeds those when the process was warm."""
        begin = int(len(self.sizes) * WARM)
        tenth = max(1, len(self.sizes) // 10)
        warm, last = self.sizes[begin : begin + tenth], self.sizes[-tenth:]
        return sum(last) // len(last) - sum(warm) // len(warm)


class Listener(logging.Handler):
    """Keeps what is logged as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def visit(folder: Path, seed: int, stop: Event, reports: Queue[Report]) -> None:
    """Ask for variants until told to stop; runs in a process of its own."""
    listener = Listener()
    logging.getLogger("optidash_integrations").addHandler(listener)
    processor = HandProcessor()
    processor.bytes = BODY
    service = Service(settings_of(folder), processor=processor)
    endpoint = Endpoint(service, Directory(folder / "media").find)
    report = Report()
    due = time.monotonic()
    for number in numbers(seed):
        if stop.is_set():
            break
        report.asked += 1
        answer = asked(service, endpoint, number)
        status = dict(answer.headers).get("cache-status", "")
        report.hits += "; hit" in status
        report.wrong += not is_right(answer)
        if time.monotonic() >= due:
            due += LOOK_SECONDS
            report.sizes.append(resident())
            in_memory = service.store.memory.stats().bytes
            report.most_in_memory = max(report.most_in_memory, in_memory)
    service.close()
    report.logged = listener.lines
    reports.put(report)


def settings_of(folder: Path) -> Settings:
    return Settings(
        access="public",
        transforms="any",
        cache_dir=folder / "cache",
        cache_bytes=CACHE_BYTES,
        memory_bytes=MEMORY_BYTES,
        workers=2,
        deadline=None,
    )


def numbers(seed: int) -> Iterator[int]:
    """Give numbers of variants for ever, small ones more often than large ones."""
    chance = random.Random(seed)
    while True:
        yield min(int(VARIANTS * chance.random() ** 3), VARIANTS - 1)


def asked(service: Service, endpoint: Endpoint, number: int) -> Answer:
    name, width = f"{number % SOURCES}.jpg", 20 + number // SOURCES
    request = Request("GET", f"/img/{name}", f"w={width}&fm=webp", ACCEPT)
    answer: Answer = service.run(endpoint.answer(request, name))
    return answer


def is_right(answer: Answer) -> bool:
    """Say whether an answer is a whole variant; what it sends is read."""
    body = answer.body
    if isinstance(body, FileBody) and body.file is not None:
        with body.file:
            body = body.file.read()
    length = dict(answer.headers).get("content-length")
    return (
        answer.status == 200 and isinstance(body, bytes) and str(len(body)) == length == f"{BODY}"
    )


def resident() -> int:
    """Return this process's resident memory in bytes."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def on_disk(folder: Path) -> int:
    """Count all files' blocks, the index among them, while others write and remove."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(place) / name).stat().st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def soak(folder: Path, seconds: float) -> tuple[list[Report], int]:
    """Let the processes work; return what they did, and the most that was on disk."""
    for number in range(SOURCES):
        path = folder / "media" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(photo(150, 100) + b"%d" % number)  # one picture, told apart by its end
    context = multiprocessing.get_context("spawn")
    stop, reports = context.Event(), context.Queue()
    children = [
        context.Process(target=visit, args=(folder, seed, stop, reports))
        for seed in range(PROCESSES)
    ]
    for child in children:
        child.start()
    most, end = 0, time.monotonic() + seconds
    while time.monotonic() < end and all(child.is_alive() for child in children):
        most = max(most, on_disk(folder / "cache"))
        children[0].join(LOOK_SECONDS)
    stop.set()
    found = received(reports)
    for child in children:
        child.join(30)
    return found, most


def received(reports: Queue[Report]) -> list[Report]:
    """Return the reports that come; one is missing where a process has died."""
    found = []
    for _ in range(PROCESSES):
        try:
            found.append(reports.get(timeout=60))
        except Empty:
            break
    return found


def complaints(reports: list[Report], most: int) -> list[str]:
    """Return a sentence for everything that is not as it should be."""
    said = []
    if len(reports) < PROCESSES:
        said.append(f"{PROCESSES - len(reports)} processes died")
    if most > CACHE_BYTES * TOLERANCE:
        said.append(f"{most} bytes on disk, of {CACHE_BYTES}")
    for report in reports:
        if report.wrong:
            said.append(f"{report.wrong} wrong answers")
        if report.most_in_memory > MEMORY_BYTES * TOLERANCE:
            said.append(f"{report.most_in_memory} bytes in memory, of {MEMORY_BYTES}")
        if report.grown > GROWTH:
            said.append(f"memory grew by {report.grown} bytes")
        said.extend(f"logged: {line}" for line in report.logged[:3])
    return said


def line_of(reports: list[Report], most: int) -> str:
    asked_for = sum(report.asked for report in reports)
    hits = sum(report.hits for report in reports)
    grown = max((report.grown for report in reports), default=0)
    last = max((report.sizes[-1] for report in reports if report.sizes), default=0)
    return (
        f"{asked_for} requests, {hits / max(1, asked_for):.0%} hits, "
        f"disk at most {most / CACHE_BYTES:.1%} of its budget, "
        f"memory {last / 2**20:.0f} MiB a process, grown by {grown / 2**20:.1f} MiB"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.delivery")
    parser.add_argument("--seconds", type=float, default=600)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="optidash-soak-") as name:
        reports, most = soak(Path(name), given.seconds)
    print(line_of(reports, most))
    said = complaints(reports, most)
    for sentence in said:
        print(sentence)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
