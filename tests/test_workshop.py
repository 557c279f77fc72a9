"""One piece of work for all who ask, in several processes; and as much of it as the host may do."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from optidash_integrations.cache.redis import RedisCache
from optidash_integrations.cache.redis_locks import RedisLocks
from optidash_integrations.errors import (
    DeadlineError,
    ImageTooLargeError,
    ProcessorError,
    QueueFullError,
    SourceChangedError,
)
from optidash_integrations.flows import run
from optidash_integrations.formats import JPEG, WEBP
from optidash_integrations.leases import Leases, lock_file_of
from optidash_integrations.operations import Operations
from optidash_integrations.processors import ApiProcessor
from optidash_integrations.records import SourceRecord, refusal_key
from optidash_integrations.settings import Settings
from optidash_integrations.store import Store
from optidash_integrations.workshop import Made, Task, Workshop, stamp_of, unchanged
from tests.cache.servers import RedisServer, redis_address, redis_program, redis_server, redis_url
from tests.sites.photos import photo
from tests.sites.processor import HandProcessor

__all__ = ["redis_address", "redis_program", "redis_server", "redis_url"]

PHOTO = photo()
DIGEST = hashlib.sha256(PHOTO).hexdigest()
RECORD = SourceRecord(DIGEST, "jpg", 120, 80, 1, False, len(PHOTO))
SPAWN = multiprocessing.get_context("spawn")


def task(number: int = 0) -> Task:
    """Return one variant to make; another number is another variant."""
    key = hashlib.sha256(str(number).encode()).hexdigest()[:40]
    return Task(key, "photo.jpg", RECORD, Operations(), WEBP, keepable=False)


class Counter(HandProcessor):
    """Writes into a file when it begins (`+`) and when it ends (`-`)."""

    def __init__(self, file: Path, **options: Any) -> None:
        super().__init__(**options)
        self.file = file

    def process(self, *arguments: Any) -> Any:
        self.write("+")
        try:
            return super().process(*arguments)
        finally:
            self.write("-")

    def write(self, text: str) -> None:
        with self.file.open("a") as file:
            file.write(text)


@contextmanager
def workshop(
    cache: Path | None, processor: HandProcessor, *, lease: float | None = None, **settings: Any
) -> Iterator[Workshop]:
    """Give a workshop as a process has one; `lease` is how many seconds one in Redis is."""
    chosen = Settings(**{"cache_dir": cache, "workers": 2} | settings)
    store = Store.of(chosen)
    leases = None
    if lease is not None:
        [redis] = [tier for tier in store.lower if isinstance(tier, RedisCache)]
        leases = Leases(lock_file_of(store), RedisLocks(redis, lease))
    made = Workshop(chosen, processor, store, leases=leases)
    try:
        yield made
    finally:
        processor.gate.set()
        made.close()
        for job in list(made.jobs.values()):
            job.future.exception(10)
        for tier in store.lower:
            tier.close()


def make(shop: Workshop, number: int = 0, seconds: float | None = 30) -> Made:
    return run(shop.make(task(number), PHOTO, seconds, lambda: None))


def many(shop: Workshop, callers: int, seconds: float | None = 60) -> list[Made]:
    with ThreadPoolExecutor(callers) as threads:
        return list(threads.map(lambda _: make(shop, 0, seconds), range(callers)))


def until(question: Callable[[], bool]) -> None:
    """Wait until something holds; the tests' own time-out bounds it."""
    end = time.monotonic() + 30
    while not question():
        assert time.monotonic() < end
        threading.Event().wait(0.002)


# In other processes


def ask_often(cache: Path, log: Path, callers: int, gate: Any, answers: Any) -> None:
    processor = SlowCounter(log)
    with workshop(cache, processor) as shop:
        gate.wait(30)
        answers.put(len({made.entry.size for made in many(shop, callers)}))


class SlowCounter(Counter):
    """Takes a tenth of a second, so that everybody comes while it works."""

    def process(self, *arguments: Any) -> Any:
        threading.Event().wait(0.1)
        return super().process(*arguments)


def lead_for_ever(cache: Path, log: Path, lease: float | None, settings: dict[str, Any]) -> None:
    with workshop(cache, Counter(log, is_open=False), lease=lease, **settings) as shop:
        make(shop)


def work_alone(cache: Path, log: Path, numbers: list[int], workers: int, gate: Any) -> None:
    with workshop(cache, Busy(log), workers=workers) as shop:
        gate.wait(30)
        with ThreadPoolExecutor(len(numbers)) as threads:
            list(threads.map(partial(make, shop), numbers))


class Busy(Counter):
    """Takes some time between beginning and end."""

    def process(self, *arguments: Any) -> Any:
        self.write("+")
        try:
            threading.Event().wait(0.01)
            return HandProcessor.process(self, *arguments)
        finally:
            self.write("-")


@contextmanager
def running(*targets: Callable[[], Any]) -> Iterator[list[Any]]:
    """Run functions in processes of their own; they are killed in the end."""
    children = [SPAWN.Process(target=target, daemon=True) for target in targets]
    for child in children:
        child.start()
    try:
        yield children
    finally:
        for child in children:
            child.kill()
            child.join(10)
            child.close()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "log"
    file.touch()
    return file


# One encode


@pytest.mark.parametrize("processes", [1, 4])
def test_two_hundred_callers_on_one_cold_key_make_one_encode(
    cache: Path, log: Path, processes: int
) -> None:
    gate, answers = SPAWN.Barrier(processes), SPAWN.Queue()
    callers = 200 // processes
    asking = partial(ask_often, cache, log, callers, gate, answers)
    with running(*[asking] * processes):
        assert [answers.get(timeout=60) for _ in range(processes)] == [1] * processes
    assert log.read_text() == "+-"


def test_what_another_process_made_meanwhile_is_not_made_again(cache: Path, log: Path) -> None:
    with workshop(cache, Counter(log)) as first, workshop(cache, Counter(log)) as second:
        assert not make(first).collapsed
        assert make(second).collapsed
    assert log.read_text() == "+-"


def test_whoever_waits_for_another_process_holds_no_worker(cache: Path) -> None:
    slow, quick = HandProcessor(is_open=False), HandProcessor()
    with (
        workshop(cache, slow, workers=2) as leader,
        workshop(cache, quick, workers=2) as other,
        ThreadPoolExecutor(5) as threads,
    ):
        leading = threads.submit(make, leader, 0)
        assert slow.started.wait(10)
        waiting = [threads.submit(make, other, 0) for _ in range(3)]
        until(lambda: bool(other.aside) and not other.pool.running)
        assert other.pool.waiting == 0
        assert not make(other, 1).collapsed
        assert not any(caller.done() for caller in waiting)
        slow.gate.set()
        assert {caller.result(10).collapsed for caller in waiting} == {True}
        assert leading.result(10).entry.size == waiting[0].result().entry.size
    assert (slow.calls, quick.calls) == (1, 1)


def test_past_the_deadline_the_original_and_then_the_variant(cache: Path) -> None:
    slow, idle = HandProcessor(is_open=False), HandProcessor()
    with workshop(cache, slow) as leader, workshop(cache, idle) as other:
        with pytest.raises(DeadlineError):
            make(leader, seconds=0)
        assert slow.started.wait(10)
        with pytest.raises(DeadlineError, match="not ready within"):
            make(other, seconds=0.05)
        slow.gate.set()
        [job] = other.jobs.values()
        job.future.result(10)
        assert other.store.quick(task().key) is not None
    assert (slow.calls, idle.calls) == (1, 0)


# Failures


def test_when_the_leaders_work_fails_another_process_takes_over_once(cache: Path) -> None:
    failing = HandProcessor(is_open=False, error=ProcessorError("no"))
    with (
        workshop(cache, failing) as leader,
        workshop(cache, HandProcessor()) as other,
        ThreadPoolExecutor(5) as threads,
    ):
        leading = threads.submit(make, leader)
        assert failing.started.wait(10)
        waiting = [threads.submit(make, other) for _ in range(4)]
        until(lambda: bool(other.aside))
        failing.gate.set()
        assert isinstance(leading.exception(10), ProcessorError)
        for caller in waiting:
            caller.result(10)
        assert other.processor.calls == 1


def test_what_the_source_is_to_blame_for_is_not_tried_elsewhere(cache: Path) -> None:
    refusing = HandProcessor(is_open=False, error=ImageTooLargeError("too many pixels"))
    with (
        workshop(cache, refusing) as leader,
        workshop(cache, HandProcessor()) as other,
        ThreadPoolExecutor(2) as threads,
    ):
        leading = threads.submit(make, leader)
        assert refusing.started.wait(10)
        waiting = threads.submit(make, other)
        until(lambda: bool(other.aside))
        refusing.gate.set()
        for caller in (leading, waiting):
            assert isinstance(caller.exception(10), ImageTooLargeError)
        assert other.processor.calls == 0


def test_a_leader_killed_in_the_middle_blocks_nobody(cache: Path, log: Path) -> None:
    with running(partial(lead_for_ever, cache, log, None, {})) as [leader]:
        until(lambda: log.read_text() == "+")
        with workshop(cache, Counter(log)) as shop, ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(make, shop)
            until(lambda: bool(shop.aside))
            os.kill(leader.pid, signal.SIGKILL)
            waiting.result(2)
    assert log.read_text() == "++-"


def test_a_folder_where_nothing_can_be_locked_leaves_each_process_on_its_own(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (cache / "locks").mkdir(parents=True)
    with workshop(cache, HandProcessor()) as shop, caplog.at_level(logging.WARNING):
        many(shop, 20)
        make(shop, 1)
        assert shop.processor.calls == 2
    [record] = caplog.records
    assert "can't be locked (Is a directory)" in record.getMessage()


def test_a_folder_that_cannot_be_written_leaves_each_process_on_its_own(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("not a folder")
    with caplog.at_level(logging.WARNING), workshop(cache, HandProcessor()) as shop:
        many(shop, 20)
        assert shop.processor.calls == 1
        assert shop.leases.is_alone
    assert len(caplog.records) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_holds_none_of_its_parents_leases(cache: Path, log: Path) -> None:
    """Else what the parent was killed at could not be made until the child ends."""
    with running(partial(lead_and_fork, cache, log)) as [leader]:
        until(lambda: log.read_text() == "+")
        child = leader_child(log)
        os.kill(leader.pid, signal.SIGKILL)
        try:
            with workshop(cache, Counter(log)) as shop:
                make(shop, seconds=5)
        finally:
            os.kill(child, signal.SIGKILL)
    assert log.read_text() == "++-"


def lead_and_fork(cache: Path, log: Path) -> None:
    processor = HandProcessor(is_open=False)
    with workshop(cache, processor) as shop:
        threading.Thread(target=make, args=(shop,), daemon=True).start()
        assert processor.started.wait(10)
        child = os.fork()
        if not child:
            signal.alarm(30)
            signal.pause()
        log.with_name("child").write_text(str(child))
        log.write_text("+")
        signal.pause()


def leader_child(log: Path) -> int:
    return int(log.with_name("child").read_text())


# Slots


def test_all_processes_together_do_as_much_as_workers_says(cache: Path, log: Path) -> None:
    gate = SPAWN.Barrier(4)
    parts = [list(range(n, 24, 4)) for n in range(4)]
    with running(*[partial(work_alone, cache, log, part, 1, gate) for part in parts]) as children:
        for child in children:
            child.join(60)
        assert [child.exitcode for child in children] == [0] * 4
    assert log.read_text() == "+-" * 24


def test_uploads_need_a_slot_too(cache: Path) -> None:
    busy, idle = HandProcessor(is_open=False), HandProcessor()
    with (
        workshop(cache, busy, workers=1) as one,
        workshop(cache, idle, workers=1) as other,
        ThreadPoolExecutor(2) as threads,
    ):
        threads.submit(make, one)
        assert busy.started.wait(10)
        upload = threads.submit(lambda: run(other.make_once(task(), PHOTO)))
        until(lambda: other.slots.queue.locked())
        assert idle.calls == 0
        busy.gate.set()
        assert upload.result(10).meta["type"] == WEBP.media_type


def test_whoever_waits_for_a_slot_stops_at_shutdown(cache: Path) -> None:
    busy, idle = HandProcessor(is_open=False), HandProcessor()
    with (
        workshop(cache, busy) as one,
        workshop(cache, idle) as other,
        ThreadPoolExecutor(4) as threads,
    ):
        for number in (3, 4):
            threads.submit(make, one, number)
        until(lambda: busy.calls == 2)
        waiting = [threads.submit(make, other, number) for number in (1, 2)]
        until(lambda: other.pool.running == 2)
        other.close()
        for caller in waiting:
            assert isinstance(caller.exception(2), QueueFullError)
        assert idle.calls == 0
        busy.gate.set()


def test_what_is_set_aside_ends_at_shutdown(cache: Path) -> None:
    busy = HandProcessor(is_open=False)
    with (
        workshop(cache, busy) as one,
        workshop(cache, HandProcessor()) as other,
        ThreadPoolExecutor(2) as threads,
    ):
        threads.submit(make, one)
        assert busy.started.wait(10)
        waiting = threads.submit(make, other)
        until(lambda: bool(other.aside))
        other.close()
        assert isinstance(waiting.exception(2), QueueFullError)
        busy.gate.set()


def test_the_api_is_asked_without_slots(cache: Path) -> None:
    settings = Settings(cache_dir=cache, api_key="key")
    with closing(ApiProcessor(settings)) as processor:
        store = Store.of(settings)
        shop = Workshop(settings, processor, store)
        assert shop.slots.file is None
        assert shop.leases.file is not None
        shop.close()
        for tier in store.lower:
            tier.close()


# Hosts


@pytest.fixture
def hosts(tmp_path: Path, redis_url: str) -> Callable[..., Any]:
    """Give a function that opens a workshop on a host of its own; all share one Redis."""
    return lambda name, processor, **options: workshop(
        tmp_path / name, processor, cache_url=redis_url, **{"lease": 1.0} | options
    )


def test_hosts_that_share_a_redis_make_one_encode(hosts: Callable[..., Any]) -> None:
    slow, idle = HandProcessor(is_open=False), HandProcessor()
    with (
        hosts("one", slow) as one,
        hosts("two", idle) as two,
        ThreadPoolExecutor(20) as threads,
    ):
        leading = threads.submit(make, one)
        assert slow.started.wait(10)
        waiting = [threads.submit(make, two) for _ in range(10)]
        until(lambda: bool(two.aside))
        slow.gate.set()
        for caller in (leading, *waiting):
            caller.result(10)
        assert make(two, 1).entry.source == DIGEST
        assert two.store.lower[-1].delete_source(DIGEST) == 2
    assert (slow.calls, idle.calls) == (1, 1)


def test_a_lease_is_renewed_while_the_work_goes_on(hosts: Callable[..., Any]) -> None:
    slow, idle = HandProcessor(is_open=False), HandProcessor()
    with (
        hosts("one", slow, lease=0.3) as one,
        hosts("two", idle, lease=0.3) as two,
        ThreadPoolExecutor(2) as threads,
    ):
        leading = threads.submit(make, one)
        assert slow.started.wait(10)
        with pytest.raises(DeadlineError):
            make(two, seconds=1.0)
        slow.gate.set()
        leading.result(10)
        assert make(two).collapsed
    assert (slow.calls, idle.calls) == (1, 0)


def test_a_host_that_dies_blocks_nobody_longer_than_its_lease(
    hosts: Callable[..., Any], tmp_path: Path, log: Path, redis_url: str
) -> None:
    dying = partial(lead_for_ever, tmp_path / "one", log, 1.0, {"cache_url": redis_url})
    with running(dying) as [leader]:
        until(lambda: log.read_text() == "+")
        with hosts("two", Counter(log)) as two, ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(make, two)
            until(lambda: bool(two.aside))
            os.kill(leader.pid, signal.SIGKILL)
            waiting.result(3)
    assert log.read_text() == "++-"


def test_a_leader_whose_lease_is_over_does_not_overwrite_a_newer_result(
    hosts: Callable[..., Any],
) -> None:
    slow, new = HandProcessor(is_open=False), HandProcessor()
    new.bytes = 77
    with hosts("one", slow) as one, hosts("two", new) as two, ThreadPoolExecutor(2) as threads:
        one.leases.rounds.close()  # it stands still, as a stopped host does
        leading = threads.submit(make, one)
        assert slow.started.wait(10)
        assert make(two).entry.size == 77
        slow.gate.set()
        assert leading.result(10).entry.size == 77
        for shop in (one, two):
            shop.store.memory.clear()
            assert shop.store.get(task().key).size == 77
            assert shop.store.lower[-1].get(task().key).size == 77
    assert (slow.calls, new.calls) == (1, 1)


def test_without_redis_each_host_works_on_its_own(
    tmp_path: Path, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    slow, other = HandProcessor(is_open=False), HandProcessor()
    address = {"cache_url": redis_server.url, "lease": 1.0}
    with (
        workshop(tmp_path / "one", slow, **address) as one,
        workshop(tmp_path / "two", other, **address) as two,
        ThreadPoolExecutor(2) as threads,
        caplog.at_level(logging.WARNING),
    ):
        leading = threads.submit(make, one)
        assert slow.started.wait(10)
        waiting = threads.submit(make, two)
        until(lambda: bool(two.aside))
        redis_server.stop()
        assert waiting.result(10).entry.source == DIGEST
        slow.gate.set()
        assert leading.result(10).entry.source == DIGEST
        assert one.store.lower[0].get(task().key) is not None
    assert (slow.calls, other.calls) == (1, 1)
    assert "Redis failed and is left alone" in caplog.text


def test_a_refusal_is_remembered_as_it_was_raised(cache: Path) -> None:
    with workshop(cache, HandProcessor(error=ImageTooLargeError("13 frames"))) as shop:
        with pytest.raises(ImageTooLargeError):
            make(shop)
        key = refusal_key(DIGEST, shop.processor.revision)
        assert shop.store.get(key).meta["status"] == 413
        with pytest.raises(ImageTooLargeError, match="13 frames"):
            shop.check_refusal(task())
    assert JPEG.name == RECORD.format_name


# A file that may change while it waits


LATER = 4 * 10**18
"""A moment at which every file here has lain still for long, in nanoseconds."""


def test_a_file_that_has_not_changed_is_hashed_once(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(PHOTO)
    stamp = stamp_of(path, LATER)
    assert stamp is not None
    known = replace(RECORD, digest="0" * 64)  # which no bytes have
    assert unchanged(path, known, (stamp, known.digest), lambda: LATER) == PHOTO
    for hashed in (None, (stamp, DIGEST), ((*stamp[:-1], 1), known.digest)):
        with pytest.raises(SourceChangedError):
            unchanged(path, known, hashed, lambda: LATER)


def test_a_file_that_looks_the_same_after_a_change_is_not_taken_for_the_same(
    tmp_path: Path,
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(PHOTO)
    hashed, before = stamp_of(path, LATER), path.stat()
    assert hashed is not None
    path.write_bytes(PHOTO[:-1] + b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # until the clock of the disk moves on
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(SourceChangedError):
        unchanged(path, RECORD, (hashed, DIGEST), lambda: LATER)


def test_what_was_changed_a_moment_ago_is_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(PHOTO)
    changed = path.stat().st_ctime_ns
    assert stamp_of(path, changed + 10**9) is None
    assert stamp_of(path, changed + 2 * 10**9) is not None
    assert stamp_of(PHOTO, LATER) is None
    assert stamp_of(tmp_path / "none.jpg", LATER) is None
