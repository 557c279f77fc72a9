"""Numbers of the server for Prometheus: of one process, or of all that share a folder.

With several workers, `PROMETHEUS_MULTIPROC_DIR` has to be set before this is imported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from optidash_integrations.server.configuration import METRICS_VARIABLE

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """What the server counts."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        self.requests = Counter(
            "optidash_server_requests", "Requests answered", ["route", "status"], registry=own
        )
        self.seconds = Histogram(
            "optidash_server_seconds",
            "Seconds from a request to the end of its answer",
            ["route"],
            buckets=SECONDS,
            registry=own,
        )
        self.bytes_in = Counter("optidash_server_bytes_in", "Bytes of sources", registry=own)
        self.bytes_out = Counter("optidash_server_bytes_out", "Bytes of results", registry=own)
        self.bytes_saved = Counter(
            "optidash_server_bytes_saved", "Bytes that results have less than sources", registry=own
        )
        self.waiting = self.gauge("waiting", "Requests that wait for an engine process")
        self.running = self.gauge("running", "Requests that an engine process works on")
        self.engines = self.gauge("engines", "Engine processes that are ready")

        self.webhooks = Gauge(
            "optidash_server_webhooks",
            "Requests with webhooks that are kept, by how far they are",
            ["status"],
            registry=own,
            multiprocess_mode="mostrecent",  # each process sees those of all
        )

    def gauge(self, name: str, text: str) -> Gauge:
        return Gauge(
            f"optidash_server_{name}", text, registry=self.registry, multiprocess_mode="livesum"
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def worked(self, source: int, result: int) -> None:
        """Count the bytes of an image and of its result."""
        self.bytes_in.inc(source)
        self.bytes_out.inc(result)
        self.bytes_saved.inc(max(0, source - result))

    def look(self, waiting: int, running: int, engines: int) -> None:
        """Take note of how it stands."""
        self.waiting.set(waiting)
        self.running.set(running)
        self.engines.set(engines)

    def look_at_webhooks(self, counts: Mapping[str, int]) -> None:
        """Take note of how many there are in each state."""
        for status, count in counts.items():
            self.webhooks.labels(status).set(count)

    def text(self) -> bytes:
        """Return all numbers as Prometheus reads them."""
        if METRICS_VARIABLE not in os.environ:
            return generate_latest(self.registry)
        shared = CollectorRegistry()
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
        return generate_latest(shared)


def forget_the_dead() -> None:
    """Leave processes that have ended out of the gauges."""
    folder = os.environ.get(METRICS_VARIABLE)
    for path in Path(folder).glob("gauge_live*_*.db") if folder else ():
        number = path.stem.rpartition("_")[2]
        if number.isdigit() and not is_alive(int(number)):
            mark_process_dead(int(number))  # type: ignore[no-untyped-call]


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
