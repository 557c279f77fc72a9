"""`optidash serve` under load: beside thumbor, and beside the same engine called directly."""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyvips

from benchmarks import thumbor
from benchmarks.material import Material
from benchmarks.measures import MILLISECONDS, PER_SECOND, Comparison, Effort
from benchmarks.server_load import PILLOW_NAMES, WIDTH, Question, Round, Taker, loaded, weighed
from benchmarks.servers import HOST, ROOT, START_SECONDS, ServerError, begun_server, free_ports
from benchmarks.thumbor import ThumborMissing
from example_sites.fetch import fetch
from optidash_integrations import formats
from optidash_integrations.formats import Format
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.processors import EngineProcessor
from optidash_integrations.server.configuration import cores
from optidash_integrations.server.database import Database
from optidash_integrations.server.keys import Keys

SOURCE_WIDTH, SOURCE_QUALITY = 2040, 90
KILOBYTES = "kB"
QUALITIES = {formats.JPEG: 80, formats.WEBP: 75, formats.AVIF: 50}
"""Of both sides. One that is given leaves the engine nothing to look for."""

OURS, DIRECT = "optidash serve", "the engine, called"
PROGRAM = "from optidash_integrations.cli.serve import serve; serve()"
BOUNDARY = "boundary-of-the-benchmark"
READY_SECONDS = 60.0


@dataclass(frozen=True)
class ServerCase:
    """Photos of 2040 pixels, asked for at 512, two requests in flight."""

    format: Format
    name: str

    def measure(self, material: Material, effort: Effort) -> list[Comparison]:
        """See `Case.measure`."""
        photos = photos_in(material.folder / "server-photos")
        with ExitStack() as stack:
            sides: dict[str, Taker] = {OURS: stack.enter_context(served(self, photos, material))}
            try:
                sides["thumbor"] = stack.enter_context(thumbors(self, photos, material))
            except ThumborMissing as reason:
                print(f"No comparison with thumbor: {reason}.")
            sides[DIRECT] = stack.enter_context(called(self, photos))
            # A load that ends after so many requests is a test's, which needs no figures.
            seconds = 0.5 if getattr(effort.load, "requests", None) else effort.seconds
            for side in sides.values():
                side(min(1.0, seconds))
            taken = [[side(seconds) for side in sides.values()] for _ in range(effort.rounds)]
        ours, *others = zip(*taken, strict=True)
        labels = list(sides)[1:]
        return [
            row
            for label, other in zip(labels, others, strict=True)
            for row in self.rows(label, ours, other)
        ]

    def rows(self, label: str, ours: Sequence[Round], other: Sequence[Round]) -> list[Comparison]:
        """Return requests a second and processor time, and beside another server p99 and bytes.

        Where a machine has other work, the time is the surer figure: what share of the processors
        a side gets then depends on how its processes are grouped.
        """

        def row(what: str, unit: str, figure: Callable[[Round], float]) -> Comparison:
            both = [tuple(figure(each) for each in side) for side in (ours, other)]
            return Comparison(self.name, OURS, f"{label}{what}", unit, both[0], both[1])

        found = [
            row("", PER_SECOND, lambda each: each.rate),
            row(", processor time", MILLISECONDS, lambda each: each.processor * 1000),
        ]
        if label != DIRECT:
            found.append(row(", p99", MILLISECONDS, lambda each: each.p99))
            found.append(row(", an image", KILOBYTES, lambda each: each.bytes / 1000))
        return found

    @property
    def operations(self) -> dict[str, dict[str, object]]:
        """What is asked of our server, and of the engine."""
        output = {"format": self.format.name, "quality": QUALITIES[self.format]}
        return {"resize": {"width": WIDTH}, "output": output}


def photos_in(folder: Path) -> list[Path]:
    """Return the example photos as JPEGs of 2040 pixels, made where they are missing."""
    folder.mkdir(exist_ok=True)
    paths = []
    for source in fetch():
        path = folder / source.name
        if not path.exists():
            image = pyvips.Image.thumbnail(str(source), SOURCE_WIDTH, height=10_000)
            image.jpegsave(str(path), Q=SOURCE_QUALITY, keep="icc")
        paths.append(path)
    return paths


# Sides


@dataclass(frozen=True)
class Serve:
    """`optidash serve` with one worker process and an engine process for each core."""

    folder: Path
    label: str = OURS

    def command(self, port: int) -> list[str]:
        """Return the command line of its server."""
        folders = ["--database", self.database, "--data-dir", str(self.folder)]
        counts = ["--workers", "1", "--engines", str(cores())]
        return [sys.executable, "-c", PROGRAM, "--port", str(port), *folders, *counts]

    @property
    def database(self) -> str:
        return f"sqlite:///{self.folder / 'server.sqlite3'}"


@contextmanager
def served(case: ServerCase, photos: Sequence[Path], material: Material) -> Iterator[Taker]:
    """Run our server, which is sent each photo."""
    folder = material.folder / f"serve-{case.name}"
    folder.mkdir(exist_ok=True)
    side = Serve(folder)
    with closing(Database(side.database)) as database:
        _, secret = Keys(database).create("benchmark")
    (port,) = free_ports(1)
    with begun_server(side, port, material) as server:
        server.wait()
        wait_until_ready(port)
        questions = [upload(photo, case, secret) for photo in photos]
        yield partial(weighed, server.process.pid, partial(loaded, port, questions, case.format))


def wait_until_ready(port: int) -> None:
    patience = time.monotonic() + READY_SECONDS
    while time.monotonic() < patience:
        with closing(http.client.HTTPConnection(HOST, port, timeout=START_SECONDS)) as connection:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.05)
    raise ServerError(f"{OURS} has no engine process")


def upload(photo: Path, case: ServerCase, secret: str) -> Question:
    """Return an upload of a photo, whose answer is the image."""
    parts = (
        ('name="data"', json.dumps(case.operations).encode()),
        (f'name="file"; filename="{photo.name}"', photo.read_bytes()),
    )
    body = b"".join(
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode()
        + content
        + b"\r\n"
        for head, content in parts
    )
    headers = {
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        "Authorization": f"Basic {base64.b64encode(f'{secret}:'.encode()).decode()}",
        "X-Optidash-Binary": "1",
    }
    return Question("POST", "/1.0/upload", body + f"--{BOUNDARY}--\r\n".encode(), headers)


@contextmanager
def thumbors(case: ServerCase, photos: Sequence[Path], material: Material) -> Iterator[Taker]:
    """Run thumbor, which fetches each photo over HTTP: it takes no uploads in the same request.

    Raises ThumborMissing. What the server of the photos takes is not thumbor's, as what the client
    takes to send them is not ours.
    """
    side = thumbor.prepared(material.folder, cores())
    port, other = free_ports(2)
    with (
        begun_server(side, port, material) as server,
        begun_server(thumbor.Photos(photos[0].parent), other, material) as origin,
    ):
        server.wait()
        origin.wait()
        name, quality = PILLOW_NAMES[case.format], QUALITIES[case.format]
        urls = [f"http://{HOST}:{other}/{photo.name}" for photo in photos]
        paths = [thumbor.path_of(url, WIDTH, name, quality) for url in urls]
        questions = [Question("GET", path, None, {}) for path in paths]
        yield partial(weighed, server.process.pid, partial(loaded, port, questions, case.format))


@contextmanager
def called(case: ServerCase, photos: Sequence[Path]) -> Iterator[Taker]:
    """Run processes that call the engine for one photo after the other."""
    given = json.dumps([case.operations, [str(photo) for photo in photos]])
    command = [sys.executable, "-m", "benchmarks.server_cases", given]
    environment = os.environ | {"VIPS_CONCURRENCY": "1"}
    with ExitStack() as stack:
        callers = [
            stack.enter_context(
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(cores())
        ]
        try:
            yield partial(called_for, callers)
        finally:
            for caller in callers:
                caller.kill()


def called_for(callers: Sequence[subprocess.Popen[str]], seconds: float) -> Round:
    """Let the callers work at the same time for so long."""
    for caller in callers:
        assert caller.stdin is not None
        caller.stdin.write(f"{seconds}\n")
        caller.stdin.flush()
    counts, processor = 0, 0.0
    for caller in callers:
        assert caller.stdout is not None
        line = caller.stdout.readline()
        if not line:
            raise ServerError("a process that calls the engine has ended")
        count, used = json.loads(line)
        counts, processor = counts + count, processor + used
    return Round(counts / seconds, (), 0, processor / counts)


def call() -> None:
    """Call the engine for as many seconds as a line of standard input says; print how often, and
    the seconds of processor time.
    """
    document, photos = json.loads(sys.argv[1])
    processor, limits = EngineProcessor(), Limits()
    for line in sys.stdin:
        began, used, count = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - began < float(line):
            data = Path(photos[count % len(photos)]).read_bytes()
            processor.process(data, Operations.from_dict(document), None, limits)
            count += 1
        print(json.dumps([count, time.process_time() - used]), flush=True)


SERVER = tuple(ServerCase(target, f"server-{target.name}") for target in QUALITIES)

if __name__ == "__main__":
    call()
