"""The numbers of all services of this process, for Prometheus.

`register()` once, where the process starts; what prometheus-client exposes then has them. Its
multiprocess mode leaves out collectors such as this one: each process has to be asked by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client.core import (
    REGISTRY,
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from optidash_integrations.service import LIVING

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

    from optidash_integrations.stats import Stats

COUNTERS = {
    "misses": "Variants that had to be made, and were begun",
    "coalesced": "Requests that waited for work which another one had begun",
    "bytes_in": "Bytes of sources worked on",
    "bytes_out": "Bytes of variants sent",
}
LABELLED = {
    "hits": ("tier", "Requests answered from a cache tier"),
    "fallbacks": ("reason", "Originals, or stale variants, served in the place of variants"),
    "seconds": ("stage", "Seconds spent in each stage"),
    "runs": ("stage", "How often each stage was gone through"),
}
GAUGES = {
    "bytes_saved": "Bytes that variants sent had less than their sources",
    "waiting": "Jobs that wait for a worker",
    "running": "Jobs that are worked on",
}
API_GAUGES = {
    "calls_this_month": "Calls of the API made here this month",
    "monthly_budget": "Calls of the API that a month may have",
    "left_alone_seconds": "Seconds for which the API is left alone after failures",
    "failures": "Failures of the API in a row",
}


class OptidashCollector(Collector):
    """Reads the stats of all living services when Prometheus asks, and adds them up."""

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        found = [service.stats() for service in tuple(LIVING)]
        for name, text in COUNTERS.items():
            yield CounterMetricFamily(named(name), text, value=total(found, name))
        for name, (label, text) in LABELLED.items():
            yield labelled(found, name, label, text)
        for name, text in GAUGES.items():
            yield GaugeMetricFamily(named(name), text, value=total(found, name))
        for name, text in API_GAUGES.items():
            values = list(numbers(stats.api.get(name) for stats in found))
            if values:
                yield GaugeMetricFamily(named(f"api_{name}"), text, value=max(values))


def register(registry: CollectorRegistry = REGISTRY) -> OptidashCollector:
    """Add the numbers to a registry, by default that of the process."""
    collector = OptidashCollector()
    registry.register(collector)
    return collector


def named(name: str) -> str:
    return f"optidash_{name}"


def total(found: Iterable[Stats], name: str) -> float:
    return float(sum(getattr(stats, name) for stats in found))


def labelled(found: Iterable[Stats], name: str, label: str, text: str) -> CounterMetricFamily:
    sums: dict[str, float] = {}
    for stats in found:
        values: Mapping[str, float] = getattr(stats, name)
        for key, amount in values.items():
            sums[key] = sums.get(key, 0) + amount
    family = CounterMetricFamily(named(name), text, labels=[label])
    for key, amount in sorted(sums.items()):
        family.add_metric([key], amount)
    return family


def numbers(values: Iterable[object]) -> Iterator[float]:
    return (value for value in values if isinstance(value, int | float))
