"""The disk tier: its files, budget, damage, a lost index, and folders that fail."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from optidash_integrations.cache.disk import CacheUnavailableError, DiskCache
from optidash_integrations.cache.entry import Entry
from optidash_integrations.cache.index import Holding
from optidash_integrations.errors import OptidashError
from tests.cache.conftest import MIB, Clock, key_of

KEY = key_of(0)
BODY = bytes(range(256)) * 100

TOLERANCE = 1.05

OpenDisk = Callable[..., DiskCache]


def facts_file(folder: Path, key: str = KEY) -> Path:
    return next(folder.rglob(f"{key}.json"))


def body_file(folder: Path, key: str = KEY) -> Path:
    return next(path for path in folder.rglob(f"{key}.*") if path.suffix != ".json")


def entry_files(folder: Path) -> list[Path]:
    """All files but the index."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if not path.name.startswith("index"))


def index_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("index.sqlite3*") if path.is_file()]


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in entry_files(folder))


def index_on_disk(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in index_files(folder))


def whole_on_disk(folder: Path) -> int:
    return on_disk(folder) + index_on_disk(folder)


# Files


def test_the_body_lies_there_byte_for_byte_and_the_facts_beside_it(
    disk: DiskCache, folder: Path
) -> None:
    disk.put(KEY, Entry({"type": "image/avif"}, BODY, "cat"))
    assert body_file(folder).read_bytes() == BODY
    assert json.loads(facts_file(folder).read_bytes())["meta"] == {"type": "image/avif"}
    assert body_file(folder).parent == facts_file(folder).parent
    assert len(entry_files(folder)) == 2


@pytest.mark.parametrize(("mode", "file_mode"), [(0o700, 0o600), (0o750, 0o640)])
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_folders_and_files_have_the_permissions_asked_for_whatever_the_umask(
    open_disk: OpenDisk, folder: Path, mode: int, file_mode: int, umask: int
) -> None:
    before = os.umask(umask)
    try:
        disk = open_disk(mode=mode)
        disk.put(KEY, Entry({}, BODY))
    finally:
        os.umask(before)
    folders = {folder, facts_file(folder).parent, facts_file(folder).parents[1]}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {mode}
    assert {stat.S_IMODE(path.stat().st_mode) for path in entry_files(folder)} == {file_mode}


def test_a_folder_that_is_there_keeps_its_permissions(open_disk: OpenDisk, folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)
    open_disk().put(KEY, Entry({}, BODY))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o700}


def test_a_large_body_comes_back_as_the_path_of_its_file(open_disk: OpenDisk) -> None:
    disk = open_disk(read_limit=1000)
    disk.put(key_of(1), Entry({}, b"x" * 1000))
    disk.put(key_of(2), Entry({}, b"y" * 1001, "cat"))
    small, large = disk.get(key_of(1)), disk.get(key_of(2))
    assert small is not None
    assert small.body == b"x" * 1000
    assert large is not None
    assert isinstance(large.body, Path)
    assert (large.body.read_bytes(), large.size, large.source) == (b"y" * 1001, 1001, "cat")


def test_a_body_once_opened_stays_readable_and_the_file_of_a_path_never_changes(
    open_disk: OpenDisk,
) -> None:
    disk = open_disk(read_limit=0)
    disk.put(KEY, Entry({}, b"first"))
    entry = disk.get(KEY)
    assert entry is not None
    assert isinstance(entry.body, Path)
    with entry.body.open("rb") as file:
        disk.put(KEY, Entry({}, b"second"))
        assert not entry.body.exists()
        assert file.read() == b"first"


def test_a_file_given_as_body_is_copied(disk: DiskCache, tmp_path: Path) -> None:
    file = tmp_path / "upload"
    file.write_bytes(BODY)
    disk.put(KEY, Entry({}, file, "cat", len(BODY)))
    file.write_bytes(b"changed")
    assert disk.get(KEY) == Entry({}, BODY, "cat")


def test_a_file_that_is_gone_stores_nothing(disk: DiskCache, folder: Path, tmp_path: Path) -> None:
    disk.put(KEY, Entry({}, tmp_path / "gone", length=9))
    assert disk.get(KEY) is None
    assert entry_files(folder) == []


@pytest.mark.parametrize("meta", [{"x": b"bytes"}, {"x": float("nan")}, {("a", "b"): 1}])
def test_facts_that_are_not_json_are_an_error_and_leave_no_file(
    disk: DiskCache, folder: Path, tmp_path: Path, meta: dict[str, object]
) -> None:
    file = tmp_path / "upload"
    file.write_bytes(BODY)
    for body in (None, BODY, file):
        with pytest.raises((TypeError, ValueError)):
            disk.put(KEY, Entry(meta, body))
    assert entry_files(folder) == []


def test_replacing_deleting_and_clearing_leave_no_file_behind(
    disk: DiskCache, folder: Path
) -> None:
    for body in (b"one", b"two", None, b"three"):
        disk.put(KEY, Entry({}, body))
    assert len(entry_files(folder)) == 2
    disk.delete(KEY)
    assert entry_files(folder) == []
    disk.put(KEY, Entry({}, BODY, "cat"))
    disk.put(key_of(1), Entry({}, BODY, "cat"))
    disk.delete_source("cat")
    assert entry_files(folder) == []
    disk.put(KEY, Entry({}, BODY))
    disk.clear()
    assert entry_files(folder) == []


def test_another_opening_of_the_folder_sees_what_is_there(open_disk: OpenDisk) -> None:
    open_disk().put(KEY, Entry({"n": 1}, BODY, "cat"))
    other = open_disk()
    assert other.get(KEY) == Entry({"n": 1}, BODY, "cat")
    assert other.stats().entries == 1


# Budget


def test_the_budget_is_what_the_file_system_counts(open_disk: OpenDisk, folder: Path) -> None:
    disk = open_disk(4 * MIB)
    for number in range(400):
        body = bytes([number % 256]) * (number * 997 % 60_000) if number % 3 else None
        disk.put(key_of(number), Entry({"n": number}, body))
        if number > 150 and number % 8 == 0:
            assert on_disk(folder) <= 4 * MIB
            assert whole_on_disk(folder) <= 4 * MIB * TOLERANCE
    assert disk.stats().bytes == on_disk(folder) > 3.5 * MIB


def test_what_has_no_body_and_so_the_largest_index_for_its_size_holds_the_budget_too(
    open_disk: OpenDisk, folder: Path
) -> None:
    disk = open_disk(4 * MIB)
    for number in range(1300):
        source = f"name:stock.host/images/photo-{number}.jpg#{number:064x}"
        disk.put(key_of(number, "r-"), Entry({"n": number}, None, source))
        if number > 800 and number % 40 == 0:
            assert whole_on_disk(folder) <= 4 * MIB * TOLERANCE
    assert disk.evictions > 250
    assert index_on_disk(folder) > 0.08 * 4 * MIB, "it would have been above the budget"


@pytest.mark.parametrize("budget", [2 * MIB, 16 * MIB])
def test_the_indexs_log_stays_short_where_the_budget_is_small(
    open_disk: OpenDisk, folder: Path, budget: int
) -> None:
    disk = open_disk(budget)
    for number in range(600):
        disk.put(key_of(number), Entry({"n": number}, None, f"s{number}"))
    log = next(path for path in index_files(folder) if path.name.endswith("-wal"))
    assert log.stat().st_size < max(budget / 40, 200_000)


def test_what_many_entries_took_of_the_index_is_given_back_when_few_large_ones_follow(
    open_disk: OpenDisk, folder: Path, clock: Clock
) -> None:
    disk = open_disk(8 * MIB)
    for number in range(1000):
        source = f"name:stock.host/images/photo-{number}.jpg#{number:064x}"
        disk.put(key_of(number, "r-"), Entry({"n": number}, None, source))
    file = next(folder.rglob("index.sqlite3"))
    largest = file.stat().st_size
    clock.hour()
    for number in range(25):
        disk.put(key_of(number), Entry({}, bytes(400_000)))
    assert disk.stats().entries < 25
    assert file.stat().st_size < largest / 2
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)


def test_an_index_larger_than_the_budget_leaves_the_newest_entry(
    open_disk: OpenDisk, folder: Path
) -> None:
    disk = open_disk(64 * 1024)
    for number in range(20):
        disk.put(key_of(number), Entry({}, BODY))
        assert disk.get(key_of(number)) == Entry({}, BODY)
        assert disk.stats().entries == 1


def test_eviction_goes_on_below_the_budget_so_that_not_every_write_evicts(
    open_disk: OpenDisk, folder: Path
) -> None:
    disk = open_disk(16 * MIB)
    turns = 0
    for number in range(1200):
        before = disk.evictions
        disk.put(key_of(number), Entry({}, b"x" * 20_000))
        turns += disk.evictions != before
    assert turns < 0.15 * disk.evictions + 1
    assert disk.stats().bytes + index_on_disk(folder) >= 0.95 * 16 * MIB - 28_672


def test_a_smaller_budget_is_reached_with_the_next_write(open_disk: OpenDisk, folder: Path) -> None:
    disk = open_disk()
    for number in range(40):
        disk.put(key_of(number), Entry({}, b"x" * 60_000))
    disk.close()
    smaller = open_disk(MIB)
    smaller.put(KEY, Entry({}, b"x"))
    assert whole_on_disk(folder) <= MIB * TOLERANCE


def test_reads_count_as_use_in_a_process_that_never_writes(
    open_disk: OpenDisk, clock: Clock
) -> None:
    writer, reader = open_disk(8 * MIB), open_disk(8 * MIB)
    for number in range(12):
        writer.put(key_of(number), Entry({}, b"x" * 600_000))
        clock.hour()
    reader.get(KEY)
    clock.hour()
    for number in range(12, 20):
        writer.put(key_of(number), Entry({}, b"x" * 600_000))
        clock.hour()
    assert writer.get(KEY) is not None
    assert writer.get(key_of(1)) is None
    assert reader.index.state.connection is None


def test_the_budget_holds_when_everything_was_read_since_it_was_written(
    open_disk: OpenDisk, folder: Path, clock: Clock
) -> None:
    writer, reader = open_disk(8 * MIB), open_disk(8 * MIB)
    for number in range(12):
        writer.put(key_of(number), Entry({}, b"x" * 600_000))
    for number in (*range(6, 12), *range(6)):
        clock.hour()
        reader.get(key_of(number))
    for number in range(12, 16):
        clock.hour()
        writer.put(key_of(number), Entry({}, b"x" * 600_000))
        assert on_disk(folder) <= 8 * MIB
    assert [n for n in range(12) if writer.get(key_of(n)) is None] == [6, 7, 8]


# Damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def lengthened(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def changed(path: Path) -> None:
    path.write_bytes(b"X" + path.read_bytes()[1:])


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, lengthened, changed, zeroed, emptied, Path.unlink])
def test_a_damaged_body_is_a_miss_and_is_dropped(
    disk: DiskCache, folder: Path, damage: Callable[[Path], None]
) -> None:
    disk.put(KEY, Entry({}, BODY))
    damage(body_file(folder))
    assert disk.get(KEY) is None
    assert not list(folder.rglob("*.json"))
    disk.put(KEY, Entry({}, BODY))
    assert disk.get(KEY) == Entry({}, BODY)
    assert len(entry_files(folder)) == 2


@pytest.mark.parametrize("damage", [cut, lengthened, emptied, Path.unlink])
def test_a_large_body_of_another_length_is_a_miss(
    open_disk: OpenDisk, folder: Path, damage: Callable[[Path], None]
) -> None:
    disk = open_disk(read_limit=10)
    disk.put(KEY, Entry({}, BODY))
    damage(body_file(folder))
    assert disk.get(KEY) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"meta": {}',
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"meta": {}, "source": ""}',
        b'{"meta": [], "source": "", "bytes": 1, "mark": null}',
        b'{"meta": {}, "source": "", "bytes": "1", "mark": null}',
        b'{"meta": {}, "source": 1, "bytes": 1, "mark": null}',
        b'{"meta": {}, "source": "", "bytes": 1, "mark": "../../../../etc/passwd"}',
        b'{"meta": {}, "source": "", "bytes": -1, "mark": "01234567"}',
        b'{"meta": {}, "source": "", "bytes": 1, "mark": "01234567"}',
    ],
)
def test_damaged_facts_are_a_miss_and_are_dropped(
    disk: DiskCache, folder: Path, content: bytes
) -> None:
    disk.put(KEY, Entry({}, BODY))
    facts_file(folder).write_bytes(content)
    assert disk.get(KEY) is None
    assert not list(folder.rglob("*.json"))


def test_facts_cut_anywhere_are_a_miss(disk: DiskCache, folder: Path) -> None:
    disk.put(KEY, Entry({"width": 10}, BODY))
    whole = facts_file(folder).read_bytes()
    for length in range(len(whole)):
        disk.put(KEY, Entry({"width": 10}, BODY))
        facts_file(folder).write_bytes(whole[:length])
        assert disk.get(KEY) is None


def test_complaints_come_once_a_minute(
    disk: DiskCache, folder: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for seconds in (0, 30, 31, 1):
        clock.seconds += seconds
        disk.put(KEY, Entry({}, BODY))
        cut(body_file(folder))
        disk.get(KEY)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert f"a damaged entry in {folder} was dropped" in caplog.text


# The index


def put_some(disk: DiskCache, numbers: range = range(40)) -> None:
    for number in numbers:
        disk.put(key_of(number), Entry({"n": number}, b"x" * 5000, f"s{number % 4}"))


def lost(folder: Path) -> None:
    for path in index_files(folder):
        path.unlink()


def lost_but_for_its_log(folder: Path) -> None:
    next(path for path in index_files(folder) if path.suffix == ".sqlite3").unlink()


def not_a_database(folder: Path) -> None:
    lost(folder)
    (folder / "v1" / "index.sqlite3").write_bytes(b"not a database at all " * 500)


def scrambled(folder: Path) -> None:
    path = next(path for path in index_files(folder) if path.suffix == ".sqlite3")
    content = path.read_bytes()
    path.write_bytes(content[:1000] + b"\xff" * (len(content) - 1000))


def empty_database(folder: Path) -> None:
    lost(folder)
    (folder / "v1" / "index.sqlite3").touch()


LOSSES = [lost, lost_but_for_its_log, not_a_database, scrambled, empty_database]


@pytest.mark.parametrize("loss", LOSSES)
def test_an_index_lost_while_nobody_had_it_open_is_made_anew(
    open_disk: OpenDisk, folder: Path, loss: Callable[[Path], None]
) -> None:
    before = open_disk()
    put_some(before)
    held = before.stats().bytes
    before.close()
    loss(folder)
    disk = open_disk()
    disk.put(key_of(0), Entry({"n": 0}, b"x" * 5000, "s0"))
    disk.stats()
    stats = disk.stats()
    assert (stats.entries, stats.bytes) == (40, held)
    assert disk.delete_source("s1") == 10
    assert disk.get(key_of(1)) is None


@pytest.mark.parametrize("loss", [lost, lost_but_for_its_log, not_a_database, empty_database])
def test_an_index_lost_under_open_connections_is_made_anew_and_shared(
    open_disk: OpenDisk, folder: Path, loss: Callable[[Path], None]
) -> None:
    one, two = open_disk(), open_disk()
    put_some(one, range(20))
    put_some(two, range(20, 40))
    loss(folder)
    for disk in (one, two, one, two):
        disk.put(key_of(0), Entry({"n": 0}, b"x" * 5000, "s0"))
    assert one.stats().entries == two.stats().entries == 40
    one.delete(key_of(5))
    assert two.stats().entries == 39


def test_a_new_index_is_filled_by_writes_without_reading_the_whole_folder_at_once(
    open_disk: OpenDisk, folder: Path
) -> None:
    before = open_disk()
    put_some(before)
    before.close()
    lost(folder)
    disk = open_disk()
    entries = []
    for _ in range(45):
        disk.put(KEY, Entry({}, b"x"))
        entries.append(disk.index.totals()[0])
    assert entries[0] < 10
    assert entries == sorted(entries)
    assert entries[-1] == 40


def test_the_budget_holds_again_once_the_index_is_whole(open_disk: OpenDisk, folder: Path) -> None:
    before = open_disk(MIB)
    put_some(before, range(200))
    before.close()
    lost(folder)
    disk = open_disk(MIB)
    put_some(disk, range(200, 500))
    assert disk.stats().bytes == on_disk(folder) <= MIB


def test_files_that_belong_to_nothing_are_removed_when_they_are_old(
    open_disk: OpenDisk, folder: Path, clock: Clock
) -> None:
    disk = open_disk()
    disk.put(KEY, Entry({}, BODY))
    shard = facts_file(folder).parent
    names = (f"{KEY}.00000000", f"{key_of(1)}.12345678", f"{key_of(2)}.json")
    strays = [*(shard / name for name in names), folder / "v1" / "tmp" / "0123456789abcdef"]
    for stray in strays:
        stray.write_bytes(b"left by a writer that was killed")
        os.utime(stray, (clock(), clock()))
    mine = shard / "notes.txt"
    mine.write_text("not ours")
    os.utime(mine, (0, 0))
    lost(folder)
    disk.stats()
    disk.put(key_of(3), Entry({}, BODY))
    assert all(stray.exists() for stray in strays)
    clock.hour()
    lost(folder)
    disk.stats()
    disk.put(key_of(3), Entry({}, BODY))
    assert not any(stray.exists() for stray in strays)
    assert mine.exists()
    assert disk.get(KEY) == Entry({}, BODY)


def test_reads_never_open_the_index(open_disk: OpenDisk, folder: Path) -> None:
    open_disk().put(KEY, Entry({}, BODY))
    reader = open_disk()
    for _ in range(3):
        assert reader.get(KEY) is not None
        assert reader.get(key_of(1)) is None
    cut(body_file(folder))
    assert reader.get(KEY) is None
    assert reader.index.state.connection is None


def test_a_locked_index_costs_the_write_and_not_the_read(
    open_disk: OpenDisk, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = open_disk(lock_timeout=0.02)
    disk.put(KEY, Entry({}, BODY, "cat"))
    other = sqlite3.connect(folder / "v1" / "index.sqlite3", isolation_level=None)
    try:
        other.execute("begin exclusive")
        for number in range(1, 4):
            disk.put(key_of(number), Entry({}, BODY))
            assert disk.get(key_of(number)) is None
        assert disk.get(KEY) is not None
        assert disk.delete_source("cat") == 0
        disk.delete(KEY)
        assert disk.get(KEY) is None
    finally:
        other.close()
    assert caplog.text.count("nothing can be stored") == 1
    assert "locked" in caplog.text
    disk.put(KEY, Entry({}, BODY))
    assert disk.get(KEY) == Entry({}, BODY)


def test_an_index_that_cannot_be_opened_raises_nothing(
    open_disk: OpenDisk, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = open_disk()
    disk.put(KEY, Entry({}, BODY))
    disk.close()
    lost(folder)
    (folder / "v1" / "index.sqlite3").mkdir()
    disk.put(key_of(1), Entry({}, BODY))
    assert disk.get(KEY) == Entry({}, BODY)
    assert disk.get(key_of(1)) is None
    assert disk.delete_source("cat") == 0
    assert disk.stats().entries == 0
    disk.clear()
    assert disk.get(KEY) is None
    assert "unable to open database file" in caplog.text


# Folders that fail


def test_a_file_in_the_way_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    folder = tmp_path / "file" / "cache"
    with pytest.raises(CacheUnavailableError) as caught:
        DiskCache(folder, MIB)
    assert isinstance(caught.value, OptidashError)
    assert isinstance(caught.value, OSError)
    assert str(caught.value) == f"the cache folder {folder} can't be written (Not a directory)"


UNWRITABLE = """
import os, sys
from pathlib import Path
from optidash_integrations.cache.disk import CacheUnavailableError, DiskCache
if os.geteuid() == 0:
    os.setegid(65534), os.seteuid(65534)
try:
    DiskCache(Path(sys.argv[1]), 1000)
except CacheUnavailableError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are of another kind here")
@pytest.mark.parametrize("present", [False, True])
def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path, present: bool) -> None:
    top = tmp_path / "top"
    folder = top / "cache"
    (folder if present else top).mkdir(parents=True)
    (folder if present else top).chmod(0o500)
    command = [sys.executable, "-c", UNWRITABLE, str(folder)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == f"the cache folder {folder} can't be written (Permission denied)\n"


def test_a_folder_removed_under_way_is_made_again(disk: DiskCache, folder: Path) -> None:
    disk.put(KEY, Entry({}, BODY))
    shutil.rmtree(folder)
    assert disk.get(KEY) is None
    disk.put(KEY, Entry({}, BODY))
    assert disk.get(KEY) == Entry({}, BODY)
    assert disk.stats().entries == 1
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


NO_ROOM = """
import resource, sys
from pathlib import Path
from optidash_integrations.cache.disk import DiskCache
from optidash_integrations.cache.entry import Entry
cache = DiskCache(Path(sys.argv[1]), 2**30)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
keys = [f"{number:040x}" for number in range(3)]
cache.put(keys[0], Entry({}, b"x" * 200_000))
cache.put(keys[1], Entry({}, b"y" * 400_000))
cache.put(keys[0], Entry({}, b"z" * 400_000))
cache.put(keys[2], Entry({}, b"x" * 200_000))
print([cache.get(key) is not None for key in keys], cache.stats().entries)
"""


def test_a_body_that_cannot_be_written_leaves_nothing_of_itself(folder: Path) -> None:
    pytest.importorskip("resource")
    command = [sys.executable, "-c", NO_ROOM, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[False, False, True] 1\n"
    assert done.stderr.count("nothing can be stored in the cache folder") == 1
    assert "File too large" in done.stderr
    assert len(entry_files(folder)) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_costs_writes_and_nothing_else(
    small_disk: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    disk = DiskCache(small_disk / "cache", 64 * MIB, clock=clock)
    for number in range(100):
        disk.put(key_of(number), Entry({"n": number}, bytes([number]) * 60_000))
    present = [number for number in range(100) if disk.get(key_of(number))]
    assert 15 < len(present) < 40
    assert caplog.text.count("No space left on device") + caplog.text.count("is full") >= 1
    assert len(caplog.records) <= 2
    files = entry_files(small_disk)
    for number in present:
        disk.delete(key_of(number))
    assert entry_files(small_disk) == [path for path in files if path.parent.name == "tmp"] == []
    disk.put(KEY, Entry({}, BODY))
    assert disk.get(KEY) == Entry({}, BODY)
    disk.close()


# Crowds of a family


def test_a_crowd_of_one_family_has_sixteen_entries_and_others_as_many_as_they_like(
    disk: DiskCache, clock: Clock
) -> None:
    for number in range(40):
        disk.put(key_of(number, "r-"), Entry({}, None, "name:a#1"))
        disk.put(key_of(number), Entry({}, b"x", "1"))
        disk.put(key_of(number, "n-"), Entry({}, None, f"name:{number}#1"))
        clock.hour()
    assert [disk.get(key_of(n, "r-")) is not None for n in range(40)] == [False] * 24 + [True] * 16
    assert disk.stats().entries == 16 + 40 + 40


def test_of_a_crowd_the_one_used_longest_ago_goes(disk: DiskCache, clock: Clock) -> None:
    for number in range(30):
        disk.put(key_of(number, "r-"), Entry({}, None, "name:a#1"))
        clock.hour()
        assert disk.get(key_of(0, "r-")) is not None
    assert disk.get(key_of(20, "r-")) is not None
    assert disk.get(key_of(5, "r-")) is None


def test_tells_what_there_is_of_each_source(disk: DiskCache, clock: Clock) -> None:
    for number in range(3):
        disk.put(key_of(number), Entry({}, b"x" * 5000 if number else None, "cat"))
    disk.put(key_of(9), Entry({}, b"x"))
    clock.hour()
    disk.get(key_of(1))
    assert disk.holdings() == [Holding("cat", 3, 2, 3 * 4096 + 2 * 8192)]
    assert disk.used_at("cat") == pytest.approx(clock() * 1e9, rel=1e-9)
    assert disk.used_at("dog") == 0


def test_an_index_made_anew_finds_all_sources_again(
    disk: DiskCache, open_disk: Callable[..., DiskCache], folder: Path
) -> None:
    disk.put(KEY, Entry({}, b"x", "name:a#1"))
    disk.close()
    for file in (folder / "v1").glob("index.sqlite3*"):
        file.unlink()
    again = open_disk()
    assert again.sources("name:", complete=False) == set()
    assert again.sources("name:") == {"name:a#1"}
