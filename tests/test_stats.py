"""Numbers for people: threads that count at once, and what Prometheus is told."""

from __future__ import annotations

import threading

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from optidash_integrations import prometheus
from optidash_integrations.errors import (
    BrokenImageError,
    BusyError,
    DeadlineError,
    OptidashError,
    ProcessorError,
    QueueFullError,
)
from optidash_integrations.stats import COALESCED, HITS, IN, MISSES, Counters, Stats, reason_of
from tests.test_service import PHOTO, Site, site

__all__ = ["site"]


def test_what_threads_count_at_once_adds_up() -> None:
    counters = Counters()

    def count() -> None:
        for _ in range(10_000):
            counters.served(HITS["memory"], 10, 30)
            counters.add(MISSES)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = counters.stats()
    assert stats.hits == {"memory": 80_000, "disk": 0, "shared": 0}
    assert (stats.misses, stats.bytes_out, stats.bytes_saved) == (80_000, 800_000, 1_600_000)


def test_threads_that_have_ended_leave_their_sums_and_no_cell() -> None:
    counters = Counters()
    for _ in range(50):
        thread = threading.Thread(target=counters.add, args=(MISSES,))
        thread.start()
        thread.join()
    assert counters.stats().misses == 50
    assert len(counters.cells) <= 2


def test_reading_does_not_change_what_is_read() -> None:
    counters = Counters()
    counters.served(HITS["disk"], 1, 2)
    assert counters.stats() == counters.stats()


def test_a_name_that_appears_while_others_read_is_no_error() -> None:
    counters = Counters()
    done = threading.Event()

    def name() -> None:
        for number in range(20_000):
            counters.fell_back(str(number))
        done.set()

    thread = threading.Thread(target=name)
    thread.start()
    while not done.is_set():
        counters.totals()
    thread.join()
    assert len(counters.stats().fallbacks) == 20_000


def test_a_stage_counts_what_fails_too() -> None:
    counters = Counters()
    with pytest.raises(ZeroDivisionError), counters.timed("process"):
        raise ZeroDivisionError
    with counters.timed("process"):
        pass
    stats = counters.stats()
    assert (stats.runs, set(stats.seconds)) == ({"process": 2}, {"process"})
    assert stats.seconds["process"] > 0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DeadlineError("x"), "deadline"),
        (QueueFullError("x"), "queue full"),
        (BusyError("x"), "busy"),
        (BrokenImageError("x"), "refused"),
        (ProcessorError("x"), "processor failed"),
        (OptidashError("x"), "other"),
    ],
)
def test_each_kind_of_failure_has_a_reason(error: OptidashError, reason: str) -> None:
    assert reason_of(error) == reason


# Prometheus


class Counted:
    """A service as far as Prometheus looks at it."""

    def __init__(self, **api: object) -> None:
        self.counters = Counters()
        self.api = api

    def stats(self) -> Stats:
        return self.counters.stats(waiting=3, running=1, api=self.api)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    first, second = Counted(), Counted(calls_this_month=12, circuit="closed")
    for service in (first, second):
        service.counters.served(HITS["memory"], 100, 300)
        service.counters.add(MISSES, 2)
        service.counters.add(COALESCED)
        service.counters.add(IN, 1000)
        service.counters.fell_back("deadline")
    monkeypatch.setattr(prometheus, "LIVING", {first, second})
    return CollectorRegistry()


def test_prometheus_gets_the_sums_of_all_services(registry: CollectorRegistry) -> None:
    prometheus.register(registry)
    lines = generate_latest(registry).decode().splitlines()
    assert {
        'optidash_hits_total{tier="memory"} 2.0',
        'optidash_fallbacks_total{reason="deadline"} 2.0',
        "optidash_misses_total 4.0",
        "optidash_coalesced_total 2.0",
        "optidash_bytes_in_total 2000.0",
        "optidash_bytes_out_total 200.0",
        "optidash_bytes_saved 400.0",
        "optidash_waiting 6.0",
        "optidash_running 2.0",
        "optidash_api_calls_this_month 12.0",
    } <= set(lines)


def test_prometheus_asks_anew_each_time(registry: CollectorRegistry) -> None:
    prometheus.register(registry)
    next(iter(prometheus.LIVING)).counters.add(MISSES)
    assert registry.get_sample_value("optidash_misses_total") == 5


def test_all_that_is_registered_has_a_description(registry: CollectorRegistry) -> None:
    prometheus.register(registry)
    assert all(metric.documentation for metric in registry.collect())


def test_numbers_of_nothing_are_nothing() -> None:
    assert Counters().stats() == Stats(hits={"memory": 0, "disk": 0, "shared": 0})


# A service's own


def test_a_service_counts_what_becomes_of_requests(site: Site) -> None:
    for _ in range(3):
        site.get("/media/a.jpg")
    stats = site.service.stats()
    assert (stats.misses, stats.hits) == (1, {"memory": 2, "disk": 0, "shared": 0})
    assert (stats.bytes_in, stats.bytes_out) == (len(PHOTO), 300)
    assert stats.bytes_saved == 3 * (len(PHOTO) - 100)
    assert stats.runs == {"probe": 1, "process": 1, "store": 1}
    assert (stats.waiting, stats.running, stats.fallbacks) == (0, 0, {})


def test_a_service_counts_why_originals_were_served(site: Site) -> None:
    site.processor.error = ProcessorError("broken")
    site.get("/media/a.jpg")
    site.get("/media/a.jpg")
    site.get("/media/b.jpg", body=b"no image" * 126)
    assert site.service.stats().fallbacks == {"processor failed": 2, "refused": 1}


def test_a_purge_is_felt_by_the_next_request(site: Site) -> None:
    site.get("/public/a.jpg")
    site.get("/public/a.jpg")
    assert site.asked == 1
    assert site.service.purge("/public/a.jpg").sources == 1
    site.get("/public/a.jpg")
    assert (site.asked, site.processor.calls) == (2, 2)


def test_prometheus_asks_services_that_live(site: Site) -> None:
    site.get("/media/a.jpg")
    registry = CollectorRegistry()
    prometheus.register(registry)
    assert registry.get_sample_value("optidash_misses_total") >= 1
