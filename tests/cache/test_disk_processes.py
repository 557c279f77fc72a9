"""The disk tier in several processes: a shared budget, writers that are killed, forks."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from optidash_integrations.cache.disk import DiskCache
from optidash_integrations.cache.entry import Entry
from tests.cache.children import is_whole, write_and_read
from tests.cache.conftest import MIB, key_of
from tests.cache.test_disk import entry_files, on_disk

ROOT = Path(__file__).parents[2]

OpenDisk = Callable[..., DiskCache]


def test_three_processes_share_a_folder_and_its_budget(
    open_disk: OpenDisk, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All open it at the same moment, and write more than it may hold."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    children = [
        context.Process(target=write_and_read, args=(folder, 2 * MIB, seed, answers))
        for seed in range(3)
    ]
    for child in children:
        child.start()
    largest = 0
    while any(child.is_alive() for child in children):
        # What one walk met twice, or met after it was removed, the next one does not.
        largest = max(largest, min(on_disk_now(folder) for _ in range(2)))
        for child in children:
            child.join(0.02)
    results = [answers.get(timeout=10) for _ in children]
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert sum(read for read, _ in results) > 50
    assert sum(broken for _, broken in results) == 0
    under_their_hands = 3 * (64 * 1024)  # beside what it replaces, and seen twice while renamed
    log = 768 * 1024  # it is as long as that while one of them is kept from its turn
    assert largest <= 2 * MIB * 1.05 + under_their_hands + log
    disk = open_disk(2 * MIB)
    stats = disk.stats()
    assert stats.bytes == on_disk(folder) > 1.2 * MIB
    assert stats.entries == len(list(folder.rglob("*.json")))
    assert caplog.records == []


def on_disk_now(folder: Path) -> int:
    """Count while others write and remove; the index, too."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_blocks * 512  # noqa: PTH116, PTH118
            except FileNotFoundError:
                continue
    return total


def test_writers_killed_at_any_moment_leave_no_half_entry(
    open_disk: OpenDisk, folder: Path
) -> None:
    chance = random.Random(8)
    for _ in range(8):
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.cache.children", str(folder)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert child.stdout is not None
        with child.stdout:
            for _ in range(chance.randrange(1, 60)):
                assert child.stdout.readline() == b"put\n"
            child.kill()
        child.wait()
        disk = open_disk(MIB)
        found = [entry for number in range(60) if (entry := disk.get(key_of(number)))]
        assert all(is_whole(entry) for entry in found)
    assert len(found) > 5
    disk.put(key_of(0), Entry({}, b"x"))
    left = sum(path.parent.name == "tmp" for path in entry_files(folder))
    assert left <= 8
    stats = disk.stats()
    assert stats.entries >= len(list(folder.rglob("*.json")))
    assert stats.bytes <= MIB


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_works_with_a_connection_of_its_own(
    open_disk: OpenDisk, caplog: pytest.LogCaptureFixture
) -> None:
    disk = open_disk()
    disk.put(key_of(0), Entry({}, b"of the parent", "cat"))
    state = disk.index.state
    state.lock.acquire()  # as another thread of the parent would
    child = os.fork()
    if child == 0:
        disk.put(key_of(1), Entry({}, b"of the child", "cat"))
        fine = disk.stats().entries == 2 and disk.index.state is not state
        disk.close()
        os._exit(0 if fine and disk.get(key_of(0)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    state.lock.release()
    assert disk.get(key_of(1)) == Entry({}, b"of the child", "cat")
    disk.put(key_of(2), Entry({}, b"of the parent again", "cat"))
    assert disk.index.state is state
    assert disk.delete_source("cat") == 3
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
