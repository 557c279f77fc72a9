"""The cases, by name: what is compared with what."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import pyvips

from benchmarks.client_cases import MemoryCase, OverheadCase
from benchmarks.engine_cases import ENGINE
from benchmarks.material import BROWSER, LARGE_SIZE, PAGE, Material
from benchmarks.measures import (
    MILLISECONDS,
    PER_SECOND,
    Comparison,
    Effort,
    by_round,
    in_turns,
)
from benchmarks.server_cases import SERVER
from benchmarks.servers import ROOT, ServerError, Side, check, running
from optidash_integrations.engine import pillow

WARM_SECONDS = 1.0
IMPORTS_PER_ROUND = 5
MISSES_PER_ROUND = 4
MISS_WIDTH = 1280


class Case(Protocol):
    """Something to measure."""

    @property
    def name(self) -> str:
        """What picks it on the command line."""
        ...

    def measure(self, material: Material, effort: Effort) -> list[Comparison]:
        """Measure it. Raises `ServerError` and `LoadError`."""
        ...


@dataclass(frozen=True)
class ServedCase:
    """Servers under load: the first side against each of the others, `body` being what they send.

    Without a body it is the variant of the photo.
    """

    name: str
    sides: tuple[Side, ...]
    body: bytes | None = None

    def measure(self, material: Material, effort: Effort) -> list[Comparison]:
        """See `Case.measure`."""
        body = material.variant if self.body is None else self.body
        with running(self.sides, material) as urls:
            for side, url in zip(self.sides, urls, strict=True):
                check(side, url, body)
                effort.load.rate(url, BROWSER, min(WARM_SECONDS, effort.seconds))
            takers = [partial(effort.load.rate, url, BROWSER, effort.seconds) for url in urls]
            ours, *others = in_turns(takers, effort.rounds)
        return [
            Comparison(self.name, self.sides[0].label, side.label, PER_SECOND, ours, figures)
            for side, figures in zip(self.sides[1:], others, strict=True)
        ]


@dataclass(frozen=True)
class ImportCase:
    """A Python that imports the package, against one that does nothing."""

    name: str = "import"

    def measure(self, material: Material, effort: Effort) -> list[Comparison]:
        """See `Case.measure`."""
        takers = [partial(started, "import optidash_integrations"), partial(started, "pass")]
        in_turns(takers, 1)  # so that all is compiled, and in the file cache
        ours, bare = in_turns(takers, effort.rounds * IMPORTS_PER_ROUND)
        ours, bare = by_round(ours, IMPORTS_PER_ROUND), by_round(bare, IMPORTS_PER_ROUND)
        labels = ("import optidash_integrations", "bare Python")
        return [Comparison(self.name, *labels, MILLISECONDS, ours, bare)]


def started(code: str) -> float:
    """Return how many milliseconds a Python takes that runs `code`."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    return (time.perf_counter() - begin) * 1000


@dataclass(frozen=True)
class MissCase:
    """The first request for a photo never seen before, against the calls that it is made of.

    Each photo is asked for once, resized, and then made once more directly: the bytes must
    be equal.
    """

    name: str = "miss"

    def measure(self, material: Material, effort: Effort) -> list[Comparison]:
        """See `Case.measure`."""
        count = effort.rounds * MISSES_PER_ROUND
        photos = material.large_photos(count + 1)
        side = Side("whole request, a miss", "benchmarks.asgi_apps:missing", "/static/")
        with (
            running([side], material) as (url,),
            # What the request takes counts, and not what a richer client does beside it.
            closing(HTTPConnection(urlsplit(url).netloc, timeout=60)) as client,
        ):
            asked = [
                partial(requested, client, f"{urlsplit(url).path}{p.name}?w={MISS_WIDTH}&q=79")
                for p in photos
            ]
            made = [partial(called, photo) for photo in photos]
            pairs = [(timed(ask), timed(make)) for ask, make in zip(asked, made, strict=True)]
        for (_, served), (_, direct) in pairs:
            if served != direct:
                raise ServerError("a miss sends other bytes than the same calls beside it make")
        ours, calls = zip(*((first[0], second[0]) for first, second in pairs[1:]), strict=True)
        ours, calls = by_round(ours, MISSES_PER_ROUND), by_round(calls, MISSES_PER_ROUND)
        labels = (side.label, "the same calls")
        return [Comparison(self.name, *labels, MILLISECONDS, ours, calls)]


def timed(work: Callable[[], bytes]) -> tuple[float, bytes]:
    begin = time.perf_counter()
    result = work()
    return (time.perf_counter() - begin) * 1000, result


def requested(client: HTTPConnection, address: str) -> bytes:
    client.request("GET", address, headers=BROWSER)
    answer = client.getresponse()
    content = answer.read()
    status = answer.getheader("cache-status", "")
    if "stored" not in status:
        raise ServerError(f"{address} is no miss but {answer.status}, {status!r}")
    return content


def called(photo: Path) -> bytes:
    """Read a photo and make its variant: what the engine asks of libvips and Pillow, no more."""
    data = photo.read_bytes()
    height = round(MISS_WIDTH * LARGE_SIZE[1] / LARGE_SIZE[0])
    image = pyvips.Image.thumbnail_buffer(
        data, MISS_WIDTH, height=height, size="force", option_string="fail_on=truncated"
    ).copy_memory()
    return pillow.webp(image, 79, effort=4)


STATIC_FILES = Side("StaticFiles", "benchmarks.asgi_apps:static_files", "/static/photo.webp")
SERVED = (
    ServedCase(
        "asgi-public",
        (
            Side(
                "public path, hit in memory",
                "benchmarks.asgi_apps:public",
                "/static/photo.jpg",
                is_hit=True,
            ),
            Side("bare app", "benchmarks.asgi_apps:bare_image", "/static/photo.webp"),
            STATIC_FILES,
        ),
    ),
    ServedCase(
        "endpoint",
        (
            Side(
                "image endpoint, hit in memory",
                "benchmarks.asgi_apps:endpoint",
                "/photo.jpg",
                is_hit=True,
            ),
            Side("bare app", "benchmarks.asgi_apps:bare_image", "/static/photo.webp"),
        ),
    ),
    ServedCase(
        "asgi-agreed",
        (
            Side(
                "hit after the app's agreement",
                "benchmarks.asgi_apps:agreed",
                "/static/photo.jpg",
                is_hit=True,
            ),
            STATIC_FILES,
        ),
    ),
    ServedCase(
        "asgi-page",
        (
            Side("a page through the middleware", "benchmarks.asgi_apps:page_through", "/page"),
            Side("bare app", "benchmarks.asgi_apps:bare_page", "/page"),
        ),
        PAGE,
    ),
    ServedCase(
        "asgi-disk",
        (
            Side(
                "public path, hit on disk",
                "benchmarks.asgi_apps:public_on_disk",
                "/static/photo.jpg",
                is_hit=True,
            ),
            Side("FileResponse", "benchmarks.asgi_apps:file_response", "/static/photo.webp"),
        ),
    ),
    ServedCase(
        "flask-public",
        (
            Side(
                "public path, hit in memory",
                "benchmarks.wsgi_apps:flask_public",
                "/static/photo.jpg",
                is_hit=True,
            ),
            Side("bare app", "benchmarks.wsgi_apps:bare_image", "/static/photo.webp"),
            Side(
                "WhiteNoise",
                "benchmarks.wsgi_apps:flask_whitenoise",
                "/static/photo.webp",
            ),
        ),
    ),
    ServedCase(
        "django-public",
        (
            Side(
                "public path, hit in memory",
                "benchmarks.wsgi_apps:django_public",
                "/static/photo.jpg",
                is_hit=True,
            ),
            Side(
                "WhiteNoise",
                "benchmarks.wsgi_apps:django_whitenoise",
                "/static/photo.webp",
            ),
        ),
    ),
)

ALL: tuple[Case, ...] = (
    ImportCase(),
    *SERVED,
    MissCase(),
    *ENGINE,
    *SERVER,
    OverheadCase(),
    MemoryCase(),
)
CASES = {case.name: case for case in ALL}
