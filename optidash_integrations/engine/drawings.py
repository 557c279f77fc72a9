"""Rendering SVG, where the limits allow it at all.

librsvg gets bytes without an address, so nothing that a drawing names is relative to anything: no
file is read and no connection opened, and it runs no script. It would follow `data:` addresses, in
which a few kilobytes can hold a picture of gigabytes: drawings with pictures inside are refused. So
are those with filters that can take minutes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from optidash_integrations import formats
from optidash_integrations.engine import vips
from optidash_integrations.errors import ImageTooLargeError, UnsupportedImageError
from optidash_integrations.limits import MIB
from optidash_integrations.probes import Probe, checked

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.limits import Limits

MOST_BYTES = 8 * MIB
"""Longer ones are refused: parsed, XML takes many times its length."""

# Elements that show a picture. Entities that are more than plain text, and encodings other than
# these, could hide one.
PICTURE = re.compile(rb"<\s*(?:[^\s<>/:\"']+:)?(?:fe)?image\b", re.IGNORECASE)
ENTITY = re.compile(rb"<!ENTITY", re.IGNORECASE)
PLAIN_ENTITY = re.compile(rb"<!ENTITY(?:[^\"'<>&%]|\"[^\"<&%]*\"|'[^'<&%]*')*>", re.IGNORECASE)
DECLARATION = re.compile(rb"<\?xml\b", re.IGNORECASE)
ENCODING = re.compile(rb"\bencoding\s*=\s*[\"']([^\"']*)", re.IGNORECASE)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
ENCODINGS = (b"utf-8", b"us-ascii", b"iso-8859-1", b"iso-8859-15", b"windows-1252")

# Filters whose work grows with a number in them, such as a radius or octaves: librsvg can't be
# stopped once it has begun. Shadows and the like need a few of the others.
SLOW_FILTER = re.compile(
    rb"<\s*(?:[^\s<>/:\"']+:)?fe(?:turbulence|morphology|convolvematrix)\b", re.IGNORECASE
)
FILTER = re.compile(rb"<\s*(?:[^\s<>/:\"']+:)?fe[a-z]+\b|\bfilter\s*[=:]", re.IGNORECASE)
MOST_FILTERS = 100

# The first tag, and the lengths in it. Numbers past what libvips counts in make it complain on
# the standard error stream, then render one pixel.
ROOT = re.compile(rb"<(?:\w+:)?svg\b", re.IGNORECASE)
LENGTHS = re.compile(rb"\b(?:width|height|viewBox)\s*=\s*[\"']([^\"']*)")
NUMBER = re.compile(rb"[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?")
LONGEST = 1_000_000


def probe(data: bytes, limits: Limits) -> Probe:
    """Return what a drawing's first tag tells, as `engine.probe.probe` does; raise as it does."""
    image = opened(data, limits)
    found = Probe(formats.SVG, image.width, image.height, alpha=True, bytes=len(data))
    return checked(found, limits)


def rendered(data: bytes, limits: Limits, scale: float = 1.0) -> pyvips.Image:
    """Return a drawing in sRGB with alpha, in its own size times `scale`, not yet in memory.

    Raises ImageTooLargeError where that is more pixels than allowed, UnsupportedImageError where
    drawings are not, and BrokenImageError for damage; libvips' errors come when pixels are read.
    """
    image = opened(data, limits, scale)
    checked(Probe(formats.SVG, image.width, image.height), limits)
    return image


def opened(data: bytes, limits: Limits, scale: float = 1.0) -> pyvips.Image:
    if not limits.svg:
        raise UnsupportedImageError("SVG is not rendered here")
    if len(data) > MOST_BYTES:
        raise ImageTooLargeError(f"this SVG has more than {MOST_BYTES} bytes")
    if not is_plain(data):
        raise UnsupportedImageError(
            "SVG with pictures inside, or what could hide some, is not rendered"
        )
    if not is_quick(data):
        raise UnsupportedImageError("SVG with filters that may take very long is not rendered")
    if longest(data) * scale > LONGEST:
        raise ImageTooLargeError(f"this SVG is more than {LONGEST} pixels long")
    vips.pyvips.operation_block_set("VipsForeignLoadSvg", False)
    with vips.reading("SVG"):
        return vips.pyvips.Image.svgload_buffer(data, scale=scale, access="sequential")


def is_plain(data: bytes) -> bool:
    """Say whether a drawing shows no pictures, and hides none."""
    if b"\0" in data or not data.removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"<"):
        return False  # UTF-16, where one letter may look like two others
    encoding = ENCODING.search(tag_at(data, DECLARATION))
    if encoding and encoding[1].strip().lower() not in ENCODINGS:
        return False
    if len(PLAIN_ENTITY.findall(data)) != len(ENTITY.findall(data)):
        return False
    return not PICTURE.search(data)


def is_quick(data: bytes) -> bool:
    """Say whether a drawing's filters are few, and of kinds whose work is bounded by its pixels."""
    return not SLOW_FILTER.search(data) and len(FILTER.findall(data)) <= MOST_FILTERS


def tag_at(data: bytes, beginning: re.Pattern[bytes]) -> bytes:
    """Return the first tag that begins so, up to its end; nothing where there is none."""
    found = beginning.search(data)
    return data[found.start() : data.find(b">", found.end())] if found else b""


def longest(data: bytes) -> float:
    """Return the largest number among the lengths of the first tag."""
    lengths = LENGTHS.findall(tag_at(data, ROOT))
    numbers = (float(number) for length in lengths for number in NUMBER.findall(length))
    return max(numbers, default=0.0)
