"""What the tests of several processes run in each of them."""

from __future__ import annotations

import os
import random
import signal
import sys
import zlib
from multiprocessing.queues import Queue
from pathlib import Path

from optidash_integrations.cache.disk import DiskCache
from optidash_integrations.cache.entry import Entry
from optidash_integrations.cache.shared import open_shared
from tests.cache.conftest import key_of


def made(number: int, version: int) -> Entry:
    """Return an entry that shows whether facts and body belong together."""
    length = random.Random(number * 1000 + version).randrange(1000, 60_000)
    body = bytes([version % 256]) * length
    return Entry({"length": length, "crc": zlib.crc32(body)}, body, f"s{number % 7}")


def is_whole(entry: Entry) -> bool:
    body = entry.body
    if isinstance(body, Path):
        try:
            body = body.read_bytes()
        except FileNotFoundError:  # evicted since, as Entry says
            return True
    assert isinstance(body, bytes)
    return entry.meta == {"length": len(body), "crc": zlib.crc32(body)}


def write_and_read(
    folder: Path, max_bytes: int, seed: int, answers: Queue[tuple[int, int]]
) -> None:
    """Put and get at random; answer how many entries were read, and how many were not whole."""
    chance = random.Random(seed)
    disk = DiskCache(folder, max_bytes, read_limit=30_000)
    read = broken = 0
    for turn in range(400):
        number = chance.randrange(150)
        if turn % 2:
            disk.put(key_of(number), made(number, chance.randrange(3)))
            continue
        entry = disk.get(key_of(number))
        if entry is not None:
            read += 1
            broken += not is_whole(entry)
    disk.close()
    answers.put((read, broken))


def write_for_ever(folder: str) -> None:
    """Put entries and say so until killed."""
    disk = DiskCache(Path(folder), 2**20)
    chance = random.Random()
    while True:
        number = chance.randrange(60)
        disk.put(key_of(number), made(number, chance.randrange(5)))
        print("put", flush=True)


def write_shared(url: str, seed: int, answers: Queue[tuple[int, int]]) -> None:
    """Put entries into a shared tier at random."""
    chance = random.Random(seed)
    cache = open_shared(url)
    for _ in range(150):
        number = chance.randrange(60)
        cache.put(key_of(number), made(number, chance.randrange(3)))
    cache.close()
    answers.put((0, 0))


def read_shared(url: str, seed: int, answers: Queue[tuple[int, int]]) -> None:
    """Read until enough was found; answer how much, and how many entries were not whole."""
    chance = random.Random(seed)
    cache = open_shared(url)
    read = broken = 0
    for _ in range(20_000):
        entry = cache.get(key_of(chance.randrange(60)))
        if entry is not None:
            read += 1
            broken += not is_whole(entry)
        if read > 300:
            break
    cache.close()
    answers.put((read, broken))


def read_after_fork(url: str, answers: Queue[tuple[int, int]]) -> None:
    """Use a tier, fork, and use it in the child; answer how many hits each of them had."""
    cache = open_shared(url)
    cache.put(key_of(0), made(0, 0))
    hits = int(cache.get(key_of(0)) is not None)
    with cache.medium.lock:
        child = os.fork()
        if not child:
            signal.alarm(10)
            os._exit(int(cache.get(key_of(0)) is not None))
    status = os.waitpid(child, 0)[1]
    answers.put((hits, os.waitstatus_to_exitcode(status)))


if __name__ == "__main__":
    write_for_ever(sys.argv[1])
