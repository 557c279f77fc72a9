"""A processor for tests that look at when work is done, and how often."""

from __future__ import annotations

import hashlib
from pathlib import Path
from threading import Event, Lock

from optidash_integrations.engine.probe import probe
from optidash_integrations.formats import AVIF, GIF, JPEG, PNG, TIFF, WEBP, Format
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.probes import Probe
from optidash_integrations.variants import ImageData, Variant


class HandProcessor:
    """Makes a few bytes of anything: as soon as `gate` is open, or raises `error`.

    `bytes` is how many a result has; `started` is set when the first call has come.
    """

    revision = "hand-1"
    formats = frozenset(f.name for f in (JPEG, PNG, GIF, WEBP, AVIF))
    reads = formats | {TIFF.name}

    def __init__(self, *, is_open: bool = True, error: Exception | None = None) -> None:
        self.calls = 0
        self.bytes = 40
        self.error = error
        self.lock = Lock()
        self.started = Event()
        self.gate = Event()
        if is_open:
            self.gate.set()

    def probe(self, source: ImageData, limits: Limits) -> Probe:
        return probe(source, limits)

    def process(
        self, source: ImageData, operations: Operations, output: Format | None, limits: Limits
    ) -> Variant:
        with self.lock:
            self.calls += 1
        self.started.set()
        assert self.gate.wait(30), "nobody opened the gate"
        if self.error is not None:
            raise self.error
        data = source.read_bytes() if isinstance(source, Path) else source
        told = probe(source, limits)
        made = output or told.format
        text = f"{made.name} {operations.fingerprint} {hashlib.sha256(data).hexdigest()}"
        content = (text.encode() * (self.bytes // len(text) + 1))[: self.bytes]
        return Variant(content, made.media_type, told.upright_width, told.upright_height)
