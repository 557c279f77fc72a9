"""A disk that fills up under a service: what is answered, logged and left, as one line of JSON.

    python -m tests.cache.filling FOLDER rlimit|filler BYTES

`rlimit` lets no file grow beyond BYTES; `filler` leaves BYTES on FOLDER's own small file system.
Either way a write that is longer ends in its middle.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from optidash_integrations.cache.disk import DiskCache
from optidash_integrations.cache.memory import MemoryCache
from optidash_integrations.endpoint import Endpoint
from optidash_integrations.exchange import Request
from optidash_integrations.service import Service
from optidash_integrations.settings import Settings
from optidash_integrations.sources import Directory
from optidash_integrations.store import Store
from tests.cache.conftest import MIB, Clock
from tests.sites.photos import photo
from tests.sites.processor import HandProcessor

try:
    import resource
except ModuleNotFoundError:  # not on Windows
    resource = None  # type: ignore[assignment]

BODY = 200_000
SECONDS = 5
"""How much time passes from one request to the next; 30 of them take two and a half minutes."""


@contextmanager
def limited(folder: Path, size: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def filled(folder: Path, left: int) -> Iterator[None]:
    """Fill the folder's file system up to so many bytes."""
    filler = folder / "filler"
    room = os.statvfs(folder)
    filler.write_bytes(bytes(room.f_bavail * room.f_frsize - left))
    try:
        yield
    finally:
        filler.unlink()


HOW = {"rlimit": limited, "filler": filled}


class Visitor:
    """Asks a service for variants of one photo, each of another width."""

    def __init__(self, folder: Path, sources: Path, clock: Clock) -> None:
        self.cache = folder / "cache"
        (sources / "photo.jpg").write_bytes(photo(300, 200))
        settings = Settings(
            access="public", transforms="any", cache_dir=self.cache, workers=1, deadline=None
        )
        processor = HandProcessor()
        processor.bytes = BODY
        self.clock = clock
        disk = DiskCache(self.cache, 64 * MIB, clock=clock)
        self.service = Service(settings, processor=processor, store=Store(MemoryCache(MIB), disk))
        self.endpoint = Endpoint(self.service, Directory(sources).find)

    def ask(self, widths: range) -> list[int]:
        """Return the length of each answer's body, or its status where that is not 200."""
        return [self.asked(width) for width in widths]

    def asked(self, width: int) -> int:
        self.clock.seconds += SECONDS
        request = Request("GET", "/img/photo.jpg", f"w={width}&fm=webp", {"accept": "image/webp"})
        answer = self.service.run(self.endpoint.answer(request, "photo.jpg"))
        return len(answer.body) if answer.status == 200 else answer.status


def held(cache: Path) -> dict[str, int]:
    """Read what lies on the disk as another process would."""
    files = [path for path in (cache / "v1").rglob("*") if path.is_file()]
    left = [path.name for path in files if path.parent.name == "tmp"]
    keys = {path.stem for path in files if path.suffix == ".json"}
    bodies = [path for path in files if path.stem in keys and path.suffix != ".json"]
    with closing(DiskCache(cache, 64 * MIB)) as disk:
        found = [entry for key in keys if (entry := disk.get(key))]
        counted = disk.stats().entries
    return {
        "left": len(left),
        "half": len(keys) - len(found) + sum(path.stat().st_size != BODY for path in bodies),
        "variants": sum(entry.body is not None for entry in found),
        "uncounted": max(0, len(found) - counted),
    }


def report(folder: Path, sources: Path, full: Callable[[], object]) -> dict[str, object]:
    clock, lines = Clock(), Lines()
    visitor = Visitor(folder, sources, clock)
    logging.getLogger("optidash_integrations").addHandler(lines)
    told: dict[str, object] = {"before": visitor.ask(range(20, 23)), "quiet": lines.taken()}
    with full():
        told |= {"full": visitor.ask(range(30, 60)), "lines": lines.taken()}
        told["held"] = held(visitor.cache)
        told["purged"] = visitor.service.purge(f"file:{sources}/photo.jpg").entries
    lines.taken()
    clock.hour()
    told |= {"after": visitor.ask(range(60, 63)), "silent": lines.taken()}
    told["at last"] = held(visitor.cache)
    with closing(sqlite3.connect(visitor.cache / "v1" / "index.sqlite3")) as db:
        told["index"] = db.execute("pragma integrity_check").fetchone()[0]
    visitor.service.close()
    return told


class Lines(logging.Handler):
    """Keeps what is logged as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def taken(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


def main() -> None:
    folder, how, size = Path(sys.argv[1]), HOW[sys.argv[2]], int(sys.argv[3])
    with tempfile.TemporaryDirectory() as sources:
        print(json.dumps(report(folder, Path(sources), lambda: how(folder, size))))


if __name__ == "__main__":
    main()
