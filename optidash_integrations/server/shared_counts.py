"""Counts of the processes of a host in one file, as the limits library's fixed windows want them.

The file is memory that all of them see; a lock on it orders who counts. A process that is killed
lets go of the lock, and loses no count.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import secrets
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from limits.storage import Storage

ENTRY = struct.Struct("<16sdQ")
"""A keyed hash of what is counted, when its window ends (seconds since the epoch), the count."""

SLOTS = 128 * 1024
PLACES = 8
"""Where these are all taken by other windows, the one that ends first is forgotten."""

SALT_BYTES = ENTRY.size
NOBODY = bytes(16)


class SharedCounts(Storage):
    """Counts in the file at `path`, which is made where it is missing.

    Without the salt that it begins with, nobody can choose names that fall upon each other's
    places. `clock` gives seconds since the epoch, the same to all processes. Raises OSError where
    the file can't be had.
    """

    STORAGE_SCHEME = None  # no address leads to it

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        super().__init__()
        self.clock = clock
        self.lock = threading.Lock()
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self.table = self.opened()
        except BaseException:
            os.close(self.file)
            raise
        self.salt = self.table[:SALT_BYTES]

    def opened(self) -> mmap.mmap:
        size = SALT_BYTES + SLOTS * ENTRY.size
        with self.alone():
            if os.fstat(self.file).st_size != size:
                # Zeros that are written have their place on the disk: none can be missing later.
                os.pwrite(self.file, secrets.token_bytes(SALT_BYTES) + bytes(size - SALT_BYTES), 0)
            return mmap.mmap(self.file, size)

    @property
    def base_exceptions(self) -> type[Exception]:
        """What counting may raise."""
        return OSError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Add to a count, which begins anew once its window of `expiry` seconds has passed."""
        name = self.name_of(key)
        with self.alone():
            now = self.clock()
            place, count, until = self.found(name, now)
            if now >= until:
                count, until = 0, now + expiry
            ENTRY.pack_into(self.table, place, name, until, count + amount)
        return count + amount

    def get(self, key: str) -> int:
        """Return a count."""
        return self.found(self.name_of(key), self.clock())[1]

    def get_expiry(self, key: str) -> float:
        """Return when a window ends, in seconds since the epoch."""
        now = self.clock()
        return max(now, self.found(self.name_of(key), now)[2])

    def found(self, name: bytes, now: float) -> tuple[int, int, float]:
        """Return the place of a count, the count, and when its window ends.

        Where there is none, or its window is over, the latter are 0, and the place is one to take.
        """
        first = int.from_bytes(name[:4], "little")
        free, ends = -1, float("inf")
        for step in range(PLACES):
            place = SALT_BYTES + (first + step) % SLOTS * ENTRY.size
            other, until, count = ENTRY.unpack_from(self.table, place)
            if other == name:
                return (place, count, until) if now < until else (place, 0, 0.0)
            if max(until, now) < ends:
                free, ends = place, max(until, now)
            if other == NOBODY:
                break
        return free, 0, 0.0

    def name_of(self, key: str) -> bytes:
        name = hashlib.blake2b(key.encode(), digest_size=16, key=self.salt).digest()
        return name if name != NOBODY else bytes(15) + b"\1"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others from counting, in this process and elsewhere."""
        with self.lock:
            fcntl.flock(self.file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self.file, fcntl.LOCK_UN)

    def check(self) -> bool:
        """Say whether counting works."""
        return not self.table.closed

    def reset(self) -> int | None:
        """Forget all counts."""
        with self.alone():
            self.table[SALT_BYTES:] = bytes(SLOTS * ENTRY.size)
        return None

    def clear(self, key: str) -> None:
        """Forget one count."""
        name = self.name_of(key)
        with self.alone():
            place, count, _ = self.found(name, self.clock())
            if count:
                ENTRY.pack_into(self.table, place, name, 0.0, 0)

    def close(self) -> None:
        """Let go of the file; it stays."""
        with self.lock:
            if not self.table.closed:
                self.table.close()
                os.close(self.file)
