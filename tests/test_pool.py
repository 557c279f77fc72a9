from __future__ import annotations

import threading

import pytest

from optidash_integrations.errors import QueueFullError
from optidash_integrations.pool import Aside, Pool


class Gate:
    """Work that is begun, and ends when it is opened."""

    def __init__(self):
        self.begun = threading.Event()
        self.opened = threading.Event()

    def __call__(self):
        self.begun.set()
        assert self.opened.wait(10)


@pytest.fixture
def busy():
    """A pool whose only thread is at work, and what ends that work."""
    pool, gate = Pool(1, 3), Gate()
    pool.submit(gate)
    assert gate.begun.wait(10)
    yield pool, gate
    gate.opened.set()
    pool.close()


def test_results_and_exceptions_come_through_the_future():
    pool = Pool(2, 8)
    assert pool.submit(lambda: 42).future.result(10) == 42
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 // 0).future.result(10)
    pool.close()


def test_past_the_queue_new_work_is_refused(busy):
    pool, _ = busy
    for _ in range(3):
        pool.submit(lambda: None)
    with pytest.raises(QueueFullError, match="3 images wait"):
        pool.submit(lambda: None)


def test_work_that_somebody_waits_for_goes_first(busy):
    pool, gate = busy
    done = []
    jobs = [
        pool.submit(lambda: done.append("unwaited"), waited=False),
        pool.submit(lambda: done.append("waited")),
    ]
    gate.opened.set()
    for job in jobs:
        job.future.result(10)
    assert done == ["waited", "unwaited"]


def test_a_job_that_somebody_begins_to_wait_for_is_moved_up_and_done_once(busy):
    pool, gate = busy
    done = []
    pool.submit(lambda: done.append("first"), waited=False)
    later = pool.submit(lambda: done.append("promoted"), waited=False)
    pool.promote(later)
    last = pool.submit(lambda: done.append("last"), waited=False)
    gate.opened.set()
    last.future.result(10)
    assert done == ["promoted", "first", "last"]


def test_closing_drops_what_waits_and_tells_whoever_waits_for_it(busy):
    pool, gate = busy
    job = pool.submit(lambda: None)
    pool.close()
    with pytest.raises(QueueFullError, match="shutting down"):
        job.future.result(10)
    with pytest.raises(QueueFullError, match="shutting down"):
        pool.submit(lambda: None)
    gate.opened.set()


def test_the_expected_wait_grows_with_the_queue():
    now = [0.0]
    pool = Pool(1, 10, clock=lambda: now[0])

    def tick():
        now[0] += 2.0

    pool.submit(tick).future.result(10)
    gate = Gate()
    pool.submit(gate)
    assert gate.begun.wait(10)
    pool.submit(lambda: None)
    assert pool.expected_wait() == pytest.approx(4.0)
    gate.opened.set()
    pool.close()


def test_threads_are_not_more_than_workers():
    pool, names = Pool(2, 50), set()
    jobs = [pool.submit(lambda: names.add(threading.current_thread().name)) for _ in range(20)]
    for job in jobs:
        job.future.result(10)
    assert len(names) <= 2
    pool.close()


def test_work_that_is_set_aside_frees_its_thread_and_goes_on_before_what_came_later(busy):
    pool, gate = busy
    aside, done = [], []

    def work():
        if not aside:
            return Aside(aside.append)
        done.append("first")
        return 42

    job = pool.submit(work)
    gate.opened.set()
    pool.submit(lambda: None).future.result(10)
    assert not job.future.done()
    gate.opened.clear()
    gate.begun.clear()
    pool.submit(gate)
    assert gate.begun.wait(10)
    later = pool.submit(lambda: done.append("later"))
    pool.resume(aside[0])
    gate.opened.set()
    later.future.result(10)
    assert job.future.result(10) == 42
    assert done == ["first", "later"]


def test_work_that_is_set_aside_is_no_measure_of_the_next():
    now = [0.0]
    pool = Pool(1, 10, clock=lambda: now[0])

    def tick():
        now[0] += 2.0

    pool.submit(tick).future.result(10)
    kept = threading.Event()
    pool.submit(lambda: Aside(lambda _: kept.set()))
    assert kept.wait(10)
    pool.submit(tick).future.result(10)
    assert pool.seconds_a_job == pytest.approx(2.0)
    pool.close()


def test_what_goes_on_after_closing_is_told_so():
    pool, aside = Pool(1, 10), []
    kept = threading.Event()

    def keep(job):
        aside.append(job)
        kept.set()

    pool.submit(lambda: Aside(keep))
    assert kept.wait(10)
    pool.close()
    pool.resume(aside[0])
    with pytest.raises(QueueFullError, match="shutting down"):
        aside[0].future.result(10)


def test_a_job_that_cannot_be_kept_fails():
    def fail(job):
        raise ZeroDivisionError

    pool = Pool(1, 10)
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: Aside(fail)).future.result(10)
    pool.close()
