"""Who works on what, among the processes of a host and among hosts.

LockFile    places of one file, each held by one process at a time; the kernel frees a dead one's
Leases      who works on a key
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import struct
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

from optidash_integrations.cache.disk import DiskCache
from optidash_integrations.cache.entry import Cache, Entry
from optidash_integrations.cache.files import make_private
from optidash_integrations.pool import Rounds
from optidash_integrations.store import Store

try:
    import fcntl
except ModuleNotFoundError:  # not on Windows, whose own locks reach no further than 2 GiB
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from optidash_integrations.cache.redis_locks import RedisLocks

logger = logging.getLogger(__name__)

FILE = "locks"
FOLDER_MODE = 0o700

FIRST_KEY = 1 << 20
"""Places before this one are for slots."""

# Places of a file

BUSY = (errno.EAGAIN, errno.EACCES)
LAYOUT = "hhqqi4x"
"""`struct flock` of Linux: kind, whence, start, length, process. Others have another order."""

HAS_OPEN_FILE_LOCKS = sys.platform == "linux" and hasattr(fcntl, "F_OFD_SETLK")


def set_lock(descriptor: int, place: int, *, held: bool) -> bool:
    """Take or free one byte of an open file; False where another process holds it.

    Such a lock needs no byte to be there, so the file stays empty however many there are.
    """
    try:
        if HAS_OPEN_FILE_LOCKS:
            kind = fcntl.F_WRLCK if held else fcntl.F_UNLCK
            request = struct.pack(LAYOUT, kind, os.SEEK_SET, place, 1, 0)
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
        else:
            # It belongs to the process: two services of one process don't see each other's, and
            # when one of them closes the file the other's are over, too. Then work is done twice.
            kind = fcntl.LOCK_EX | fcntl.LOCK_NB if held else fcntl.LOCK_UN
            fcntl.lockf(descriptor, kind, 1, place)
    except OSError as error:
        if error.errno in BUSY:
            return False
        raise
    return True


class LockFile:
    """Places that one process of a host holds at a time, each a byte of one empty file.

    Where the file can't be used everybody gets every place, and the log says so once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.descriptor: int | None = None
        self.identity: tuple[int, int] | None = None
        self.held: dict[int, int] = {}
        self.closed = False
        self.complained = False
        LOCK_FILES.add(self)

    def take(self, place: int) -> bool:
        """Take a place; False where it is held already, here or elsewhere. Waits for nothing."""
        with self.lock:
            if place in self.held:
                return False
            try:
                descriptor = self.opened()
                if not set_lock(descriptor, place, held=True):
                    return False
            except OSError as error:
                self.complain(error)
                return True
            self.held[place] = descriptor
            return True

    def release(self, place: int) -> None:
        """Give back a place; one that is not held is let be."""
        with self.lock:
            descriptor = self.held.pop(place, None)
            if descriptor is None:
                return
            with suppress(OSError):
                set_lock(descriptor, place, held=False)
            if self.closed or descriptor != self.descriptor:
                self.drop(descriptor)

    def opened(self) -> int:
        """Return the file's descriptor; it is opened anew where somebody removed the file."""
        if self.descriptor is not None:
            if self.identity == identity(self.path):
                return self.descriptor
            removed, self.descriptor = self.descriptor, None
            self.drop(removed)
        make_private(self.path.parent, FOLDER_MODE)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        self.descriptor = os.open(self.path, flags, 0o600)
        self.identity = identity(self.path)
        return self.descriptor

    def drop(self, descriptor: int) -> None:
        """Close a descriptor, unless places are still held through it."""
        if descriptor not in self.held.values():
            if descriptor == self.descriptor:
                self.descriptor = None
            os.close(descriptor)

    def complain(self, error: OSError) -> None:
        if not self.complained:
            self.complained = True
            why = error.strerror or str(error)
            logger.warning(
                "%s can't be locked (%s); each process makes its own variants", self.path, why
            )

    def close(self) -> None:
        """Close the file as soon as nothing is held."""
        with self.lock:
            self.closed = True
            if self.descriptor is not None:
                self.drop(self.descriptor)

    def forget(self) -> None:
        """Let go of the parent's places in a forked child: they are the parent's alone.

        Left open here, they would stay taken after the parent's death.
        """
        descriptors = {*self.held.values(), self.descriptor} - {None}
        self.lock, self.held, self.descriptor = threading.Lock(), {}, None
        for descriptor in descriptors:
            with suppress(OSError):
                os.close(descriptor)  # type: ignore[arg-type]

    def __del__(self) -> None:
        self.forget()


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another that has its name later; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116  a Path costs more than the call
    except OSError:
        return None
    return found.st_dev, found.st_ino


LOCK_FILES: WeakSet[LockFile] = WeakSet()


def forget_all() -> None:
    for file in tuple(LOCK_FILES):
        file.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_all)


# Keys


@dataclass(eq=False, slots=True)
class Lease:
    """The right to work on a key.

    `number` grows from one holder to the next, over all hosts; it is None where no Redis counts.
    `ended` says that the lease in Redis is over, `may_be_there` that Redis may have what is to be
    made: it was asked when the lease began.
    """

    key: str
    number: int | None = None
    ended: bool = False
    may_be_there: bool = True


class Leases:
    """Who works on which key. Without a file and Redis everybody may, at once.

    A holder that dies gives up its place in the file with that, and what it has in Redis when the
    lease there is over. `rounds` renews it until then.
    """

    def __init__(self, file: LockFile | None = None, shared: RedisLocks | None = None) -> None:
        self.file = file
        self.shared = shared
        self.rounds = Rounds()
        self.is_alone = file is None and shared is None

    @property
    def tier(self) -> Cache | None:
        """The tier that `put` stores in."""
        return self.shared.cache if self.shared is not None else None

    @classmethod
    def of(cls, store: Store) -> Leases:
        """Return leases for a store: in its folder, if any, and in its Redis, if any."""
        return cls(lock_file_of(store), redis_locks_of(store))

    def take(self, key: str) -> Lease | None:
        """Return the lease of a key, or None where another process has it. May ask Redis."""
        place = place_of(key)
        if self.file is not None and not self.file.take(place):
            return None
        lease = Lease(key)
        try:
            if self.shared is None or self.take_shared(self.shared, lease):
                place = -1
                return lease
        finally:
            if self.file is not None and place >= 0:
                self.file.release(place)
        return None

    def take_shared(self, shared: RedisLocks, lease: Lease) -> bool:
        lease.number, lease.may_be_there = shared.take_and_look(lease.key)
        if lease.number == shared.TAKEN:
            return False
        if lease.number is not None:
            seconds = shared.seconds / 3
            with suppress(RuntimeError):  # no thread is left; then the lease may run out
                self.rounds.add(lambda: self.renewed(shared, lease, seconds), seconds)
        return True

    def renewed(self, shared: RedisLocks, lease: Lease, seconds: float) -> float | None:
        if lease.ended or lease.number is None:
            return None
        shared.renew(lease.key, lease.number)
        return seconds

    def put(self, lease: Lease, entry: Entry) -> bool:
        """Store a result in Redis and end the lease there; False where somebody newer works on it.

        Call it only where the lease has a number.
        """
        if self.shared is None or lease.number is None:
            return True
        lease.ended = True
        return self.shared.put(lease.key, lease.number, entry)

    def release(self, lease: Lease) -> None:
        """End a lease."""
        try:
            if self.shared is not None and lease.number is not None and not lease.ended:
                lease.ended = True
                self.shared.release(lease.key, lease.number)
        finally:
            if self.file is not None:
                self.file.release(place_of(lease.key))

    def close(self) -> None:
        """End the rounds, and close the file as soon as nothing is held."""
        self.rounds.close()
        if self.file is not None:
            self.file.close()


def place_of(key: str) -> int:
    """Return a key's own place in the file: of 2^56, so that no two keys ever meet."""
    return FIRST_KEY + int.from_bytes(hashlib.blake2b(key.encode(), digest_size=7).digest())


def lock_file_of(store: Store) -> LockFile | None:
    """Return the file for locks beside a store's disk tier; None without such a tier."""
    folders = [tier.folder for tier in store.lower if isinstance(tier, DiskCache)]
    if not folders:
        return None
    if fcntl is None:
        say_that_there_are_no_locks()
        return None
    return LockFile(folders[0] / FILE)


@cache
def say_that_there_are_no_locks() -> None:
    """Log it, once in a process."""
    logger.warning("this system can't lock parts of files; each process makes its own variants")


def redis_locks_of(store: Store) -> RedisLocks | None:
    """Return the locks in the Redis that a store uses as a tier; None without one."""
    if all(isinstance(tier, DiskCache) for tier in store.lower):
        return None
    try:
        from optidash_integrations.cache.redis_locks import RedisLocks
    except ModuleNotFoundError:  # without the package no tier can be Redis
        return None
    return RedisLocks.beside(store.lower)
