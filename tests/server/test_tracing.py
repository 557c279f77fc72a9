"""Spans, where OpenTelemetry is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.live import configured, image, running

sdk = pytest.importorskip("opentelemetry.sdk.trace")
export = pytest.importorskip("opentelemetry.sdk.trace.export")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
trace = pytest.importorskip("opentelemetry.trace")

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> Iterator[memory.InMemorySpanExporter]:
    exporter = memory.InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    yield exporter
    provider.shutdown()


def test_each_request_is_a_span_below_its_callers_and_tells_no_secret(
    spans: memory.InMemorySpanExporter, tmp_path: Path
) -> None:
    with running(configured(tmp_path)) as live:
        answer = live.upload(image(), headers={"traceparent": PARENT})
        live.ask("PUT", f"/1.0/keys/{live.secret}", b"{}")
    found = {span.name: span for span in spans.get_finished_spans()}
    span = found["POST /1.0/upload"]
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["optidash.request.id"] == answer.headers["x-request-id"]
    assert f"{span.context.trace_id:032x}" == PARENT.split("-")[1]
    assert "PUT /1.0/keys/{key}" in found
    assert live.secret not in repr([(s.name, s.attributes) for s in found.values()])
