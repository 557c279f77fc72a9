"""Which sources bring a process to its end: a marker lies in the cache's folder while one is worked
on, and one whose process is gone tells.

A process may end for another reason, so a source is tried once more; what two came to their end
over is left alone until its bytes change.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from optidash_integrations.cache.files import make_private
from optidash_integrations.errors import DeadlyImageError
from optidash_integrations.leases import FOLDER_MODE, LockFile, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

FOLDER = "working"
MOST_DEATHS = 2


class Markers:
    """The markers in a folder. Whoever sets one holds the lease of its key in `locks`.

    Where the folder can't be written there are none.
    """

    def __init__(self, locks: LockFile | None) -> None:
        self.locks = locks
        self.folder = locks.path.with_name(FOLDER) if locks is not None else None
        self.lock = threading.Lock()
        self.own: set[Path] = set()
        self.complained = False

    @contextmanager
    def set(self, digest: str, key: str) -> Iterator[None]:
        """Mark a source, by its digest, while a variant is made of it.

        Raises DeadlyImageError where two processes came to their end over it.
        """
        path = self.begin(digest, key)
        try:
            yield
        finally:
            if path is not None:
                self.end(path)

    def begin(self, digest: str, key: str) -> Path | None:
        if self.folder is None:
            return None
        try:
            deaths = sum(self.deaths_told_by(path, key) for path in self.markers_of(digest))
            if deaths < MOST_DEATHS:
                return self.write(self.folder / f"{digest}.{key}", deaths)
        except OSError as error:
            self.complain(error)
            return None
        raise DeadlyImageError(f"{deaths} processes that worked on it came to their end")

    def markers_of(self, digest: str) -> list[Path]:
        """Return the markers of a source. There are as many in all as work is going on."""
        assert self.folder is not None
        try:
            names = os.listdir(self.folder)  # noqa: PTH208  a pattern of pathlib's costs more
        except FileNotFoundError:
            return []
        return [self.folder / name for name in names if name.startswith(f"{digest}.")]

    def deaths_told_by(self, path: Path, key: str) -> int:
        """Return how many deaths an old marker tells, and remove it; 0 where its work goes on."""
        other = path.name.partition(".")[2]
        assert self.locks is not None
        if other == key:  # its lease is ours now
            return self.taken_away(path)
        if not self.locks.take(place_of(other)):
            return 0
        try:
            return self.taken_away(path)
        finally:
            self.locks.release(place_of(other))

    def taken_away(self, path: Path) -> int:
        try:
            told = path.read_text()
            path.unlink()
        except FileNotFoundError:  # its work has ended just now
            return 0
        return 1 + (int(told) if told.isdigit() else 0)

    def write(self, path: Path, deaths: int) -> Path:
        with self.lock:
            self.own.add(path)
        try:
            path.write_text(str(deaths))
        except FileNotFoundError:
            make_private(path.parent, FOLDER_MODE)
            path.write_text(str(deaths))
        return path

    def end(self, path: Path) -> None:
        with self.lock:
            self.own.discard(path)
        with suppress(OSError):
            path.unlink()

    def complain(self, error: OSError) -> None:
        if not self.complained:
            self.complained = True
            why = error.strerror or str(error)
            logger.info("%s can't be written (%s): deadly images are not noticed", FOLDER, why)

    def close(self) -> None:
        """Remove this process' markers: it ends in good order, whatever it is working on."""
        with self.lock:
            own = tuple(self.own)
        for path in own:
            self.end(path)
