"""Files to damage: small ones made here, one or more of each format, and those of the corpus."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from optidash_integrations.probes import HAS_HEIF
from tests.corpus.corpus import Row, rows
from tests.engine.pictures import encoded, noise, quarters, turned

LONGEST_FILE = 150_000
"""Longer files of the corpus are left out, so that many are tried."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A file, what to call it, and whether it is known to be read."""

    name: str
    data: bytes
    is_good: bool = False


def samples() -> list[Sample]:
    """Return all of them, in the same order every time."""
    made = [Sample(f"made/{name}", data, True) for name, data in sorted(made_here().items())]
    return made + [
        Sample(row.name, row.path.read_bytes(), is_read(row))
        for row in rows()
        if 0 < row.path.stat().st_size <= LONGEST_FILE
    ]


def is_read(row: Row) -> bool:
    """Say whether a file of the corpus is one that the engine reads."""
    others = {"JXL"} if HAS_HEIF else {"JXL", "HEIF"}
    return row.expected == "decode" and row.format not in others and "float32" not in row.name


def made_here() -> dict[str, bytes]:
    """Return a few files of every format that is read, by name."""
    return still() | moving() | rare()


def still() -> dict[str, bytes]:
    image = noise(40, 30)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    modes = {f"png-{mode}": encoded(image.convert(mode)) for mode in ("1", "L", "LA", "P", "RGBA")}
    deep = Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 54)
    return modes | {
        "png-16": encoded(deep),
        "png-icc": encoded(image, icc_profile=profile),
        "jpeg": encoded(image, "jpeg"),
        "jpeg-progressive": encoded(image, "jpeg", progressive=True),
        "jpeg-cmyk": encoded(image.convert("CMYK"), "jpeg"),
        "jpeg-exif": turned(6),
        "jpeg-icc": encoded(image, "jpeg", icc_profile=profile),
        "webp": encoded(image, "webp"),
        "webp-lossless": encoded(image.convert("RGBA"), "webp", lossless=True),
        "avif": encoded(image, "avif"),
        "avif-alpha": encoded(image.convert("RGBA"), "avif"),
        "gif": encoded(image, "gif"),
        "tiff": encoded(image, "tiff"),
        "tiff-lzw": encoded(image.convert("P"), "tiff", compression="tiff_lzw"),
        "tiff-jpeg": encoded(image, "tiff", compression="jpeg"),
    }


def moving() -> dict[str, bytes]:
    def animated(name: str, **options: object) -> bytes:
        frames = [quarters(40, 30, "RGBA").rotate(angle) for angle in (0, 40, 90, 200)]
        return encoded(
            frames[0], name, save_all=True, append_images=frames[1:], duration=[40, 0, 5, 90],
            **options,
        )  # fmt: skip

    return {
        "gif-moving": animated("gif", disposal=2),
        "webp-moving": animated("webp"),
        "apng": animated("png", disposal=1, blend=1),
        "avif-moving": animated("avif"),
    }


def rare() -> dict[str, bytes]:
    image = noise(40, 30)
    made = {
        "bmp": encoded(image, "bmp"),
        "bmp-palette": encoded(image.convert("P"), "bmp"),
        "ico": encoded(quarters(64, 64, "RGBA"), "ico", sizes=[(16, 16), (48, 48)]),
        "ico-bitmap": encoded(
            quarters(64, 64, "RGBA"), "ico", sizes=[(16, 16), (32, 32)], bitmap_format="bmp"
        ),
        "jp2": encoded(image, "jpeg2000"),
        "j2k": encoded(image.convert("LA"), "jpeg2000", no_jp2=True),
        "psd": psd(image),
        "svg": SVG,
    }
    if HAS_HEIF:
        made["heic"] = heic(image)
    return made


def psd(image: Image.Image) -> bytes:
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, image.height, image.width, 8, 3)
    planes = b"".join(np.asarray(plane).tobytes() for plane in image.split())
    return head + struct.pack(">IIIH", 0, 0, 0, 0) + planes


def heic(image: Image.Image) -> bytes:
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file)
    return file.getvalue()


SVG = b"""<?xml version="1.0"?>
<!DOCTYPE svg [<!ENTITY ns "http://www.w3.org/2000/svg">]>
<svg xmlns="http://www.w3.org/2000/svg" width="60" height="40" viewBox="0 0 30 20">
<defs><linearGradient id="a"><stop offset="0" stop-color="red"/><stop offset="1"/></linearGradient>
<filter id="f"><feGaussianBlur stdDeviation="2"/></filter></defs>
<rect id="r" width="30" height="20" fill="url(#a)"/><use href="#r" x="3" transform="rotate(9)"/>
<g filter="url(#f)"><circle cx="9" cy="9" r="5"/><text x="2" y="9">Words</text></g></svg>"""
