"""Load for image servers: what is asked, how fast it is answered, and what that takes them."""

from __future__ import annotations

import http.client
import io
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from benchmarks.servers import HOST, ServerError
from optidash_integrations import formats
from optidash_integrations.formats import Format

WIDTH = 512
IN_FLIGHT = 2
PILLOW_NAMES = {formats.JPEG: "jpeg", formats.WEBP: "webp", formats.AVIF: "avif"}


@dataclass(frozen=True)
class Round:
    """What a side did in a round: answers a second, the seconds of each, bytes of an answer, and
    the seconds of processor time that one took all processes of the side.
    """

    rate: float
    times: tuple[float, ...]
    bytes: float
    processor: float = 0.0

    @property
    def p99(self) -> float:
        """The time that one answer in a hundred exceeds, in milliseconds."""
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1000


Taker = Callable[[float], Round]


@dataclass(frozen=True)
class Question:
    """A request, in all its parts."""

    method: str
    path: str
    body: bytes | None
    headers: dict[str, str]


def loaded(port: int, questions: Sequence[Question], expected: Format, seconds: float) -> Round:
    """Ask for so long, two requests at a time.

    Raises ServerError for any answer but an image of the right format and size.
    """
    times: list[float] = []
    sizes: list[int] = []
    failures: list[Exception] = []
    until = time.perf_counter() + seconds

    def ask(first: int) -> None:
        try:
            number = first
            while time.perf_counter() < until and not failures:
                began = time.perf_counter()
                content = answered(port, questions[number % len(questions)])
                times.append(time.perf_counter() - began)
                sizes.append(len(content))
                if number < first + len(questions):
                    check_image(content, expected)
                number += 1
        except (OSError, ServerError, http.client.HTTPException) as error:
            failures.append(error)

    began = time.perf_counter()
    threads = [threading.Thread(target=ask, args=(n * 3,)) for n in range(IN_FLIGHT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise ServerError(f"port {port}: {failures[0]}")
    return Round(len(times) / (time.perf_counter() - began), tuple(times), sum(sizes) / len(sizes))


def answered(port: int, question: Question) -> bytes:
    """Ask over a connection of its own, so that a server's idle process can take it."""
    with closing(http.client.HTTPConnection(HOST, port, timeout=60)) as connection:
        connection.request(question.method, question.path, question.body, question.headers)
        answer = connection.getresponse()
        content = answer.read()
    if answer.status != 200:
        raise ServerError(f"{question.path} is answered {answer.status}: {content[:200]!r}")
    return content


def check_image(content: bytes, expected: Format) -> None:
    with Image.open(io.BytesIO(content)) as image:
        found = (image.format or "").lower(), image.width
    if found != (PILLOW_NAMES[expected], WIDTH):
        raise ServerError(f"an answer is {found}, not {expected.name} of {WIDTH} pixels")


def weighed(pid: int, take: Taker, seconds: float) -> Round:
    """Take a round of a server, and what it took the server's processes."""
    before = processor_seconds(pid)
    taken = take(seconds)
    return replace(taken, processor=(processor_seconds(pid) - before) / len(taken.times))


def processor_seconds(pid: int) -> float:
    """Return what a process and those below it have used; 0 where there is no /proc."""
    used: dict[int, float] = {}
    below: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            own = int(path.parent.name)
            below.setdefault(int(fields[1]), []).append(own)
            used[own] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    found, todo = 0.0, [pid]
    while todo:
        own = todo.pop()
        found += used.get(own, 0.0)
        todo += below.get(own, ())
    return found
