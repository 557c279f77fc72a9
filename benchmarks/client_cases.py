"""What the API client costs: beside the same request by bare httpx, and in memory."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import httpx

from benchmarks.material import SOURCE, Material
from benchmarks.measures import MEGABYTES, MILLISECONDS, Comparison, Effort, in_turns
from benchmarks.servers import ROOT, ServerError, Side, running
from benchmarks.transfer import SIZE
from optidash_integrations.client import AsyncOptidashClient, OptidashClient

API = Side("an API", "benchmarks.api_app:api", "/1.0")
OPERATIONS = {"resize": {"width": 1000}, "output": {"format": "webp"}}
KEY = "a-key"
CALLS_PER_ROUND = 200
HEADERS = {"x-optidash-binary": "1"}
FORM = {"data": json.dumps({**OPERATIONS, "response": {"mode": "binary"}})}


@dataclass(frozen=True)
class OverheadCase:
    """A call through the client against the same request by httpx, both on open connections."""

    name: str = "client"

    def measure(self, material: Material, effort: Effort) -> list[Comparison]:
        """See `Case.measure`."""
        photo = (material.sources / SOURCE).read_bytes()
        calls = min(CALLS_PER_ROUND, int(CALLS_PER_ROUND * effort.seconds))
        with running([API], material) as (url,):
            return [
                self.sync_comparison(url, photo, material.variant, calls, effort.rounds),
                asyncio.run(
                    self.async_comparison(url, photo, material.variant, calls, effort.rounds)
                ),
            ]

    def sync_comparison(
        self, url: str, photo: bytes, expected: bytes, calls: int, rounds: int
    ) -> Comparison:
        with OptidashClient(KEY, url) as ours, httpx.Client(trust_env=False) as bare:

            def asked() -> bytes:
                return ours.upload_to_bytes(photo, OPERATIONS).content

            def requested() -> bytes:
                answer = bare.post(f"{url}/upload", **request(photo))
                return answer.raise_for_status().content

            if not asked() == requested() == expected:
                raise ServerError("the API does not answer with the variant")
            figures = in_turns([partial(each, way, calls) for way in (asked, requested)], rounds)
        return Comparison(self.name, "sync client", "httpx, sync", MILLISECONDS, *figures)

    async def async_comparison(
        self, url: str, photo: bytes, expected: bytes, calls: int, rounds: int
    ) -> Comparison:
        ours: list[float] = []
        others: list[float] = []
        async with (
            AsyncOptidashClient(KEY, url) as client,
            httpx.AsyncClient(trust_env=False) as bare,
        ):
            for _ in range(rounds):
                begin = time.perf_counter()
                for _ in range(calls):
                    await client.upload_to_bytes(photo, OPERATIONS)
                middle = time.perf_counter()
                for _ in range(calls):
                    answer = await bare.post(f"{url}/upload", **request(photo))
                    if answer.raise_for_status().content != expected:
                        raise ServerError("the API does not answer with the variant")
                end = time.perf_counter()
                ours.append((middle - begin) / calls * 1000)
                others.append((end - middle) / calls * 1000)
        labels = ("async client", "httpx, async")
        return Comparison(self.name, *labels, MILLISECONDS, tuple(ours), tuple(others))


def request(photo: bytes) -> dict[str, object]:
    """Return what httpx sends: the same form, headers and key as the client does."""
    file = ("image", photo, "application/octet-stream")
    return {"data": FORM, "files": {"file": file}, "headers": HEADERS, "auth": (KEY, "")}


def each(way: Callable[[], bytes], calls: int) -> float:
    """Return how many milliseconds one of several calls takes."""
    begin = time.perf_counter()
    for _ in range(calls):
        way()
    return (time.perf_counter() - begin) / calls * 1000


@dataclass(frozen=True)
class MemoryCase:
    """The peak memory of a process that sends or receives 200 MB, against one that does not."""

    name: str = "client-memory"

    def measure(self, material: Material, effort: Effort) -> list[Comparison]:
        """See `Case.measure`."""
        large = material.folder / "large.jpg"
        with large.open("wb") as file:
            file.write(b"\xff\xd8\xff")
            file.truncate(SIZE)
        rounds = min(effort.rounds, 3)
        with running([API], material) as (url,):
            comparisons = [
                self.comparison(what, kind, url, material, rounds)
                for what in ("upload", "download")
                for kind in ("sync", "async")
            ]
        large.unlink()
        return comparisons

    def comparison(
        self, what: str, kind: str, url: str, material: Material, rounds: int
    ) -> Comparison:
        takers = [partial(peak, way, kind, url, material) for way in (what, "idle")]
        ours, idle = in_turns(takers, rounds)
        label = f"200 MB {what}, {kind}"
        return Comparison(self.name, label, f"idle ({label})", MEGABYTES, ours, idle)


def peak(what: str, kind: str, url: str, material: Material) -> float:
    """Return the peak memory of a process, in megabytes."""
    command = [sys.executable, "-m", "benchmarks.transfer", what, kind, url, str(material.folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerError(f"{what} failed: {done.stderr[-1000:]}")
    return float(done.stdout)
