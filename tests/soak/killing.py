"""Writers of the disk tier, killed with SIGKILL at random moments: what is left is whole.

    python -m tests.soak.killing FOLDER --kills 200

prints a line, and ends with 1 where a half entry was served or the cache opened slowly.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from optidash_integrations.cache.disk import DiskCache
from tests.cache.children import is_whole, write_for_ever
from tests.cache.conftest import key_of

MIB = 1024 * 1024
WRITTEN = 60
"""How many keys `write_for_ever` writes to."""

OPEN_SECONDS = 1.0


@dataclass
class Finding:
    """What was seen over all kills; `slowest` is that of opening and a first read, in seconds."""

    kills: int = 0
    read: int = 0
    broken: int = 0
    slowest: float = 0.0
    most: int = 0

    @property
    def is_good(self) -> bool:
        return self.broken == 0 < self.read and self.slowest < OPEN_SECONDS

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.read} entries read, {self.broken} of them broken, "
            f"opened in at most {self.slowest * 1000:.0f} ms, at most {self.most} bytes"
        )


def begin_writer(folder: Path) -> tuple[int, int]:
    """Fork a child that writes until it is killed; return its id and a pipe that it writes to."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.dup2(writing, 1)
        write_for_ever(str(folder))
    os.close(writing)
    return child, reading


def kill_at_random(folder: Path, chance: random.Random) -> None:
    """Start a writer, wait for its first entry and a random moment more, and kill it."""
    child, pipe = begin_writer(folder)
    try:
        os.read(pipe, 4)
        select.select([], [], [], chance.uniform(0.0, 0.03))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(pipe)


def look(folder: Path, finding: Finding) -> None:
    """Open the cache as a new process does, and read everything."""
    began = time.perf_counter()
    disk = DiskCache(folder, MIB)
    disk.get(key_of(0))
    finding.slowest = max(finding.slowest, time.perf_counter() - began)
    found = [entry for n in range(WRITTEN) if (entry := disk.get(key_of(n))) is not None]
    finding.read += len(found)
    finding.broken += sum(not is_whole(entry) for entry in found)
    finding.most = max(finding.most, disk.stats().bytes)
    disk.close()


def kill_often(folder: Path, kills: int, seed: int) -> Finding:
    chance = random.Random(seed)
    finding = Finding()
    for _ in range(kills):
        kill_at_random(folder, chance)
        look(folder, finding)
        finding.kills += 1
    return finding


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.killing", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=8)
    given = parser.parse_args()
    finding = kill_often(given.folder, given.kills, given.seed)
    print(finding)
    return 0 if finding.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
