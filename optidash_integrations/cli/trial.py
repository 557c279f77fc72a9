"""Small pictures that show what this libvips can do."""

from __future__ import annotations

import struct
import zlib

from optidash_integrations.errors import OptidashError, ProcessorMissingError
from optidash_integrations.formats import BY_NAME, PNG
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.processors import EngineProcessor

SIDE = 16


def png() -> bytes:
    """Return a grey PNG."""
    rows = b"".join(b"\0" + bytes([128]) * SIDE for _ in range(SIDE))
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in parts)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff() -> bytes:
    """Return a grey TIFF without compression."""
    size = SIDE * SIDE
    tags = {256: SIDE, 257: SIDE, 258: 8, 259: 1, 262: 1, 277: 1, 278: SIDE, 279: size}
    start = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = sorted((tags | {273: start}).items())
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    head = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(entries))
    return head + table + bytes(4) + bytes([128]) * size


# Pillow writes some pictures in libvips' stead, but none that keep their metadata.
KEEPING = Operations.from_dict({"output": {"metadata": "all"}})


def made_here(engine: EngineProcessor) -> set[str]:
    """Return the names of the formats that can be written; raises ProcessorMissingError."""
    return {name for name in engine.formats if converted(engine, png(), name) is not None}


def read_here(engine: EngineProcessor) -> set[str]:
    """Return the names of the formats that can be read; raises ProcessorMissingError."""
    samples = {name: converted(engine, png(), name) for name in engine.formats}
    samples |= {"png": png(), "tiff": tiff()}
    return {
        name
        for name in engine.reads
        if (sample := samples.get(name)) and converted(engine, sample, PNG.name)
    }


def converted(engine: EngineProcessor, source: bytes, name: str) -> bytes | None:
    """Return a picture in another format, None where that fails."""
    try:
        return engine.process(source, KEEPING, BY_NAME[name], Limits()).content
    except ProcessorMissingError:
        raise
    except OptidashError:
        return None
