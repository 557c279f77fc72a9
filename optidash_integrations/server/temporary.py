"""Temporary storage: each result lives in a folder of its own, `<uuid>/<name>`, for a day.

The folders are all there is to know, so that a new process, or several, find what was there. A
file's time of change is when it was made, its first bytes tell its type.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from optidash_integrations.exchange import Answer, FileBody, Request
from optidash_integrations.formats import HEAD_BYTES, detect, of_media_type
from optidash_integrations.headers import Representation, build, cache_status
from optidash_integrations.server.reception import NAME
from optidash_integrations.server.refusals import MissingError

logger = logging.getLogger(__name__)

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
GONE = "There is no such result: results are deleted after a while"
ENDLESS = 10.0
"""A folder without a file in it for so many seconds is what a process that has ended left."""

HURRY = 20
"""Once this part of the budget was written since the last look, it is time for another."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A result: its folder's name, and its own."""

    uuid: str
    name: str


@dataclass(frozen=True, slots=True)
class Result:
    """A result that was found, opened: whoever gets it closes it."""

    file: BinaryIO
    path: Path
    key: str
    length: int
    made_at: float
    media_type: str


class Temporary:
    """The results below a folder. Each is there for `seconds`; the oldest make room where all have
    more than `most_bytes`. `clock` gives seconds since 1970.
    """

    def __init__(
        self,
        folder: Path,
        seconds: float,
        most_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.seconds = seconds
        self.most_bytes = most_bytes
        self.clock = clock
        self.written = 0

    def keep(self, file: Path, name: str) -> Kept:
        """Take a finished file, which must lie on the same disk."""
        home = self.new_home()
        now = self.clock()
        os.utime(file, (now, now))
        self.written += file.stat().st_size
        moved(file, home, name)
        return Kept(home.name, name)

    def new_home(self) -> Path:
        """Return the folder for a new result, which is made with it; its name is the result's."""
        return self.home(str(uuid.uuid4()))

    def home(self, identity: str) -> Path:
        return self.folder / identity[:2] / identity

    @property
    def is_due(self) -> bool:
        """Whether so much was written that the budget should be looked at."""
        return self.written > self.most_bytes // HURRY

    def find(self, identity: str, name: str) -> Result:
        """Return a result. Raises MissingError where there is none, or not any more."""
        if not UUID.fullmatch(identity) or name in ("", ".", "..") or "/" in name or "\0" in name:
            raise MissingError(GONE)
        path = self.home(identity) / name
        try:
            file = path.open("rb")
        except OSError:
            raise MissingError(GONE) from None
        status = os.fstat(file.fileno())
        if self.is_over(status.st_mtime):
            file.close()
            raise MissingError(GONE)
        found = detect(os.pread(file.fileno(), HEAD_BYTES, 0))
        kind = found.media_type if found else "application/octet-stream"
        return Result(file, path, identity, status.st_size, status.st_mtime, kind)

    def answer(self, request: Request, identity: str, name: str) -> Answer:
        """Return the answer to a request for a result; raises as `find` does."""
        result = self.find(identity, name)
        try:
            answer = build(request, self.representation(result), body_of(result))
        except BaseException:
            result.file.close()
            raise
        if not isinstance(answer.body, FileBody):
            result.file.close()
        return answer

    def representation(self, result: Result) -> Representation:
        left = max(0, int(result.made_at + self.seconds - self.clock()))
        return Representation(
            key=result.key,
            content_type=result.media_type,
            length=result.length,
            cache_control=f"public, max-age={left}, immutable",
            status=cache_status("hit"),
            negotiated=False,
            last_modified=formatdate(result.made_at, usegmt=True),
        )

    def is_over(self, made_at: float) -> bool:
        return self.clock() >= made_at + self.seconds

    def sweep(self) -> int:
        """Delete what is over, and the oldest of the rest past the budget; return how many.

        While another process does it, nothing is done.
        """
        self.written = 0
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with alone(self.folder / ".sweeping") as is_alone:
            return self.swept() if is_alone else 0

    def swept(self) -> int:
        found = sorted(self.all())
        total = sum(size for _, size, _ in found)
        deleted = early = 0
        for made_at, size, home in found:
            over = self.is_over(made_at)
            if not over and total <= self.most_bytes:
                break
            shutil.rmtree(home, ignore_errors=True)
            total -= size
            deleted += 1
            early += not over
        if early:
            logger.warning(
                "%d results were deleted before their time: all may have %d bytes",
                early,
                self.most_bytes,
            )
        return deleted

    def all(self) -> Iterator[tuple[float, int, Path]]:
        """Give when each was made, its bytes, and its folder."""
        for shelf in entries(self.folder):
            for home in entries(shelf):
                files = list(entries(home))
                with suppress(OSError):
                    status = (files[0] if files else home).stat()
                    is_left = not files and self.clock() - status.st_mtime > ENDLESS
                    if files or is_left:
                        made_at = 0.0 if is_left else status.st_mtime
                        yield made_at, status.st_size if files else 0, home


def moved(file: Path, home: Path, name: str) -> None:
    """Move a finished file into a new folder; whoever sees it there sees all of it."""
    home.mkdir(parents=True, mode=0o700)
    file.rename(home / name)


def result_name(name: str, media_type: str) -> str:
    """Return the name of a result: the source's, with the extension of what it is."""
    found = of_media_type(media_type)
    stem = PurePosixPath(name).stem or NAME
    return f"{stem}.{found.extension}" if found else stem


def body_of(result: Result) -> FileBody:
    return FileBody(result.path, 0, result.length, result.length, result.file)


def entries(folder: Path) -> list[Path]:
    """Return what is in a folder but hidden files; nothing where there is no folder."""
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return []


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Hold a lock for as long as the block runs; give False where another process holds it."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


class Workroom:
    """Files of work that goes on, in a folder of this process's own: what processes that have ended
    left behind is deleted by the next.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home: Path | None = None
        self.numbers = itertools.count(1)
        self.lock: BinaryIO | None = None

    def open(self) -> None:
        """Make this process's folder, and delete those whose owners are gone."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.clean()
        home = self.folder / uuid.uuid4().hex
        lock = self.folder / f"{home.name}.lock"
        self.lock = lock.open("xb")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        home.mkdir(mode=0o700)
        self.home = home

    def clean(self) -> None:
        for lock in self.folder.glob("*.lock"):
            with suppress(OSError), alone(lock) as is_alone:
                if is_alone:
                    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                    lock.unlink()

    def place(self) -> Path:
        """Return where a new file may be made."""
        assert self.home is not None, "the workroom is not open"
        return self.home / str(next(self.numbers))

    def close(self) -> None:
        """Delete what is left of this process's folders."""
        if self.home is not None and self.lock is not None:
            shutil.rmtree(self.home, ignore_errors=True)
            self.home.with_suffix(".lock").unlink(missing_ok=True)
            self.lock.close()
            self.home = self.lock = None
