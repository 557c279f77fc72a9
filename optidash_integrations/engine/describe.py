"""The metadata of an image, in the fields of the API's JSON answer."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from optidash_integrations import formats
from optidash_integrations.engine import vips
from optidash_integrations.engine.probe import integer, probe_bytes, upright
from optidash_integrations.limits import Limits
from optidash_integrations.probes import is_foreign

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.formats import Format

SPACES = {"b-w": "Gray", "grey16": "Gray", "cmyk": "CMYK"}


@dataclass(frozen=True, slots=True)
class Description:
    """What is said of an image; a field that does not apply, or is not cheaply known, is None.

    Width and height are those of the upright picture, `depth` is in bits a pixel.
    """

    name: str | None
    format: str
    width: int
    height: int
    colorspace: str
    interlaced: bool
    sampling: str | None
    depth: int
    quality: int | None
    bytes: int
    sha1: str

    def fields(self) -> dict[str, object]:
        """Return the fields by name."""
        return asdict(self)


def describe(data: bytes, quality: int | None = None) -> Description:
    """Describe a file that a probe has accepted, or that was made here at this quality."""
    found = formats.detect(data[: formats.HEAD_BYTES])
    assert found is not None
    if found is formats.SVG or is_foreign(found, data[: formats.HEAD_BYTES]):
        return foreign(data, found, quality)
    with vips.reading(found.label):
        image = vips.pyvips.Image.new_from_buffer(data, "", access="sequential")
    width, height = upright(image)
    return Description(
        name=None,
        format=found.label,
        width=width,
        height=height,
        colorspace=colorspace(image, found),
        interlaced=bool(integer(image, "interlaced", 0)),
        sampling=sampling(image),
        depth=depth(image),
        quality=quality,
        bytes=len(data),
        sha1=hashlib.sha1(data, usedforsecurity=False).hexdigest(),
    )


def foreign(data: bytes, found: Format, quality: int | None) -> Description:
    """Describe a file that libvips can't read, or only by drawing it."""
    probe = probe_bytes(data, Limits(len(data), max_pixels=sys.maxsize, svg=True))
    bands = (1 if probe.grey else 4 if probe.cmyk else 3) + probe.alpha
    return Description(
        name=None,
        format=found.label,
        width=probe.upright_width,
        height=probe.upright_height,
        colorspace="Gray" if probe.grey else "CMYK" if probe.cmyk else "sRGB",
        interlaced=False,
        sampling=None,
        depth=8 if probe.palette else 8 * bands,
        quality=quality,
        bytes=len(data),
        sha1=hashlib.sha1(data, usedforsecurity=False).hexdigest(),
    )


def depth(image: pyvips.Image) -> int:
    """Return the bits of a pixel as stored: with a palette, those of its number there."""
    bits = integer(image, "bits-per-sample", 8)
    return bits if integer(image, "palette", 0) else image.bands * bits


def colorspace(image: pyvips.Image, found: Format) -> str:
    return SPACES.get(str(image.interpretation), "YCbCr" if found is formats.JPEG else "sRGB")


def sampling(image: pyvips.Image) -> str | None:
    """Return how a JPEG with colours stores them, such as `4:2:0`."""
    name = "jpeg-chroma-subsample"
    return str(image.get(name)) if image.bands > 1 and image.get_typeof(name) else None
