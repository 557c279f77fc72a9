"""Making files smaller without touching a pixel: JPEG by mozjpeg's coder, PNG by oxipng.

Both libraries are optional. Without them the file comes back without its private metadata only.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from optidash_integrations import formats
from optidash_integrations.engine.strip import PNG_LOOKS, without_position


def optional(name: str) -> Any:
    """Return a module, or None where it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        return None


mozjpeg = optional("mozjpeg_lossless_optimization")
oxipng = optional("oxipng")

QUICK_LEVEL, THOROUGH_LEVEL = 1, 2
"""Effort of oxipng for pictures of any kind, and where it gains most: for graphics, and where
nobody waits. More gains next to nothing.
"""

# Chunks of metadata that stay, if they are there. What describes a palette entry by entry goes, as
# oxipng may put it into another order; the transparency of its entries is oxipng's own work.
KEPT = PNG_LOOKS - {b"hIST", b"sPLT", b"tRNS"} | {b"eXIf", b"iTXt"}
# An animation says so before its pixels begin; the depth of its samples lies in the header.
FRAMES, HEAD, DEPTH_AT = b"acTL", 65_536, 24


def jpeg(data: bytes) -> bytes:
    """Return a JPEG with the same coefficients, coded in less, without its private metadata.

    Profile, Adobe's marker and an orientation other than 1 stay. Where nothing can be gained, what
    `without_position` makes of it comes back. The file has to be whole: what a truncated one lacks
    would be made up. Raises as `without_position` does.
    """
    stripped = without_position(data, formats.JPEG)
    if mozjpeg is None:
        return stripped
    try:
        made: bytes = mozjpeg.optimize(stripped, copy=mozjpeg.COPY_MARKERS.ALL)
    except ValueError:  # of a kind that it does not code: arithmetic, 12 bits, lossless
        return stripped
    return made if len(made) < len(stripped) else stripped


def png(data: bytes, level: int = QUICK_LEVEL) -> bytes:
    """Return a PNG of the same pixels in fewer bytes, without its private metadata.

    `level` is 0 to 6. Profile and orientation stay, 16 bits stay 16, and an animation is not coded
    anew. Raises as `without_position` does.
    """
    return packed(without_position(data, formats.PNG), level)


def packed(data: bytes, level: int = QUICK_LEVEL) -> bytes:
    """Return a PNG of the same pixels in fewer bytes, its metadata kept but for what is of use
    to nobody; the very same bytes where nothing can be gained.
    """
    if oxipng is None or FRAMES in data[:HEAD]:
        return data
    try:
        made: bytes = oxipng.optimize_from_memory(
            data,
            level=level,
            strip=oxipng.StripChunks.keep(sorted(KEPT)),
            bit_depth_reduction=data[DEPTH_AT] != 16,
        )
    except oxipng.PngError:
        return data
    return made if len(made) < len(data) else data
