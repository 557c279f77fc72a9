"""Both clients behind one face, so that every test runs on each: time passes only as they wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from optidash_integrations.client import AsyncOptidashClient, OptidashClient

KEY = "test-key"
SPEAKERS = ("sync", "async")


class Time:
    """A clock that goes on when somebody sleeps; `waits` are the seconds of each sleep."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)
        await asyncio.sleep(0)


class Speaker:
    """A client and its clock. Methods that are not here are the client's, and simply return."""

    def __init__(self, kind: str, url: str, **options: Any) -> None:
        self.kind = kind
        self.time = Time()
        time: dict[str, Any] = {"clock": self.time, "monotonic": self.time, "jitter": lambda: 0.0}
        options = {"api_key": KEY, "timeout": 5.0} | time | options
        if kind == "sync":
            self.client: Any = OptidashClient(api_url=url, sleep=self.time.sleep, **options)
        else:
            self.runner = asyncio.Runner()
            self.client = AsyncOptidashClient(api_url=url, sleep=self.time.sleep_async, **options)

    @property
    def waits(self) -> list[float]:
        """How long it slept, each time."""
        return self.time.waits

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, name)
        if self.kind == "sync" or not callable(method):
            return method
        return lambda *args, **more: self.runner.run(method(*args, **more))

    def many(self, *args: Any, **more: Any) -> list[Any]:
        """Return all that `optimize_many` yields."""
        if self.kind == "sync":
            return list(self.client.optimize_many(*args, **more))

        async def collect() -> list[Any]:
            return [item async for item in self.client.optimize_many(*args, **more)]

        return self.runner.run(collect())

    def end(self) -> None:
        """Close the client and its loop."""
        if self.kind == "sync":
            self.client.close()
        else:
            self.runner.run(self.client.close())
            self.runner.close()
