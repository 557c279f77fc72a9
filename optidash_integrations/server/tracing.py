"""A span for each request, where OpenTelemetry is installed; without it nothing happens.

Which spans are kept, and where they go, is set up as OpenTelemetry has it: by its own variables
with `opentelemetry-instrument`, or in code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from optidash_integrations import __version__

if TYPE_CHECKING:
    from optidash_integrations.server.gate import Exchange

NAME = "optidash_integrations.server"

is_installed = find_spec("opentelemetry") is not None
trace: Any = import_module("opentelemetry.trace") if is_installed else None
propagate: Any = import_module("opentelemetry.propagate") if is_installed else None
tracer: Any = trace.get_tracer(NAME, __version__) if is_installed else None
"""Whatever is set up later, and as long as nothing is, it does next to nothing."""


@contextmanager
def traced(method: str, headers: Mapping[str, str], exchange: Exchange) -> Iterator[None]:
    """Put a request into a span, whose parent is the one that its headers name."""
    if tracer is None:
        yield
        return
    with tracer.start_as_current_span(
        method, context=propagate.extract(headers), kind=trace.SpanKind.SERVER
    ) as span:
        try:
            yield
        finally:
            if span.is_recording():
                span.update_name(f"{method} {exchange.route}")
                span.set_attributes(attributes_of(method, exchange))
                if exchange.status >= 500:
                    span.set_status(trace.StatusCode.ERROR)


def attributes_of(method: str, exchange: Exchange) -> dict[str, str | int]:
    """Return what a span tells: neither addresses nor headers, which may hold secrets."""
    told: dict[str, str | int] = {
        "http.request.method": method,
        "http.route": exchange.route,
        "http.response.status_code": exchange.status,
        "http.request.body.size": exchange.bytes_in,
        "http.response.body.size": exchange.bytes_out,
        "optidash.request.id": exchange.id,
    }
    return told | ({"optidash.key.id": exchange.key.id} if exchange.key.id else {})
