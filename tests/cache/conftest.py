"""What the tests of all tiers share: keys, a clock that is set by hand, and open caches."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from optidash_integrations.cache.disk import DiskCache
from tests.cache.servers import (
    bucket,
    redis_address,
    redis_program,
    redis_server,
    redis_url,
    s3_address,
    s3_url,
)

__all__ = [
    "bucket",
    "redis_address",
    "redis_program",
    "redis_server",
    "redis_url",
    "s3_address",
    "s3_url",
]

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


@pytest.fixture
def open_redis(redis_url: str, clock: Clock) -> Iterator[Callable[..., Any]]:
    """Opens a tier in Redis as a process of its own would; all have the same prefix."""
    from optidash_integrations.cache.redis import RedisCache, connect

    opened = []

    def open_one(**options: float) -> RedisCache:
        opened.append(RedisCache(*connect(redis_url), clock=clock, **options))
        return opened[-1]

    yield open_one
    for cache in opened:
        cache.clear()
        cache.close()


@pytest.fixture
def open_objects(clock: Clock) -> Callable[..., Any]:
    """Opens a tier in the object store that an address names."""
    from optidash_integrations.cache.objects import ObjectCache, folder_of, open_store

    def open_one(url: str, **options: float) -> ObjectCache:
        return ObjectCache(open_store(url), folder_of(url), clock=clock, **options)

    return open_one


@pytest.fixture
def django_caches(settings: Any, tmp_path: Path) -> Iterator[None]:
    """Gives a Django site two caches, in memory and in files."""
    from django.core.cache import caches

    options = {"MAX_ENTRIES": 10_000}
    backends = "django.core.cache.backends"
    settings.CACHES = {
        "default": {"BACKEND": f"{backends}.dummy.DummyCache"},
        "memory": {
            "BACKEND": f"{backends}.locmem.LocMemCache",
            "LOCATION": secrets.token_hex(8),
            "OPTIONS": options,
        },
        "files": {
            "BACKEND": f"{backends}.filebased.FileBasedCache",
            "LOCATION": tmp_path / "django",
            "OPTIONS": options,
        },
    }
    yield
    for alias in ("memory", "files"):
        caches[alias].clear()
