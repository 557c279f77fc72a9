"""What the tests of all tiers share: keys, a clock that is set by hand, and open caches."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from optidash_integrations.cache.disk import DiskCache

MIB = 1024 * 1024


def key_of(number: int, prefix: str = "") -> str:
    return prefix + hashlib.sha256(str(number).encode()).hexdigest()[:40]


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.seconds = time.time()  # files have the real time

    def __call__(self) -> float:
        return self.seconds

    def hour(self) -> None:
        self.seconds += 3600


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def open_disk(folder: Path, clock: Clock) -> Iterator[Callable[..., DiskCache]]:
    """Opens the folder as a process of its own would."""
    opened: list[DiskCache] = []

    def open_one(max_bytes: int = 64 * MIB, **options: float) -> DiskCache:
        opened.append(DiskCache(folder, max_bytes, clock=clock, **options))
        return opened[-1]

    yield open_one
    for cache in opened:
        cache.close()


@pytest.fixture
def disk(open_disk: Callable[..., DiskCache]) -> DiskCache:
    return open_disk()
