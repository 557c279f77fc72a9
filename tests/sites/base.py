"""What every site offers to a test, whatever it is made with."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from optidash_integrations.operations import Operations
from optidash_integrations.processors import Processor
from optidash_integrations.service import SERVICES, Service
from optidash_integrations.settings import Settings
from tests.sites.inner import Inner, Routes

OnBlock = Callable[[bytes], None]

HOST = "site.test"
SIGNING_KEY = "a key for tests"


@dataclass(frozen=True)
class Reply:
    """An answer as the visitor gets it. Header names are in lower case, repeated ones joined."""

    status: int
    pairs: tuple[tuple[str, str], ...]
    body: bytes

    @cached_property
    def headers(self) -> dict[str, str]:
        joined: dict[str, str] = {}
        for name, value in self.pairs:
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        return joined

    @property
    def type(self) -> str:
        return self.headers.get("content-type", "")

    @property
    def cache(self) -> str:
        return self.headers.get("cache-status", "")

    @property
    def is_hit(self) -> bool:
        return "optidash; hit" in self.cache

    @property
    def vary(self) -> set[str]:
        return {name.strip().lower() for name in self.headers.get("vary", "").split(",") if name}

    @cached_property
    def picture(self) -> Image.Image:
        picture = Image.open(io.BytesIO(self.body))
        picture.load()
        return picture

    @property
    def size(self) -> tuple[int, int]:
        return self.picture.size


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def go_on(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Plan:
    """What a site is to be made of. `settings` have the names of keyword arguments."""

    routes: Routes
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    processor: Processor | None = None
    clock: Clock | None = None
    framework: dict[str, Any] = field(default_factory=dict)


class Site:
    """A running site in this process. `bare` calls the same inner app without this package."""

    kind = ""
    mount = "/img/"
    waits_in_threads = False

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.folder = plan.folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.inner = Inner(plan.routes)
        self.callers = ThreadPoolExecutor(8)
        self.open()

    # Of each framework

    def open(self) -> None:
        """Make the site, and `register` the settings as the adapter read them."""
        raise NotImplementedError

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        *,
        on_block: OnBlock | None = None,
        bare: bool = False,
        raw: bool = True,
    ) -> Reply:
        """Ask for something; `raw` says that the server passes on the target as it came."""
        raise NotImplementedError

    def helper(self, helper: str, image: Any, **options: Any) -> str:
        """Return what a template's `optidash_<helper>` gives."""
        raise NotImplementedError

    def save(self, name: str, data: bytes, operations: Operations | None = None) -> str:
        """Store an upload, and return its name in `folder`."""
        raise NotImplementedError

    # Of all

    def register(self, settings: Settings) -> None:
        """Give the adapter a service with this test's processor and clock."""
        more: dict[str, Any] = {}
        if self.plan.clock:
            more = {"clock": self.plan.clock, "monotonic": self.plan.clock}
        self.service = Service(settings, processor=self.plan.processor, **more)
        SERVICES[settings] = self.service

    def close(self) -> None:
        self.callers.shutdown()
        self.service.close()
        SERVICES.pop(self.service.settings, None)

    @property
    def seen(self) -> int:
        """How often the inner app was asked."""
        return len(self.inner.seen)

    def get(self, target: str, headers: Mapping[str, str] | None = None, **more: Any) -> Reply:
        return self.request("GET", target, headers, **more)

    def head(self, target: str, headers: Mapping[str, str] | None = None, **more: Any) -> Reply:
        return self.request("HEAD", target, headers, **more)

    def bare(self, target: str, headers: Mapping[str, str] | None = None, **more: Any) -> Reply:
        return self.request(more.pop("method", "GET"), target, headers, bare=True, **more)

    def begin(self, target: str, headers: Mapping[str, str] | None = None) -> Future[Reply]:
        """Ask for something in another thread."""
        return self.callers.submit(self.get, target, headers)

    def finish_work(self) -> None:
        """Wait until the work that is going on is done and stored."""
        for job in list(self.service.workshop.jobs.values()):
            job.future.exception(30)

    def keep(self, name: str, data: bytes) -> Path:
        """Put a file into the endpoint's folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path
