"""Pictures a few pixels wide, and how to look at results."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from optidash_integrations.variants import Variant

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quarters(width: int = 80, height: int = 40, mode: str = "RGB") -> Image.Image:
    """Return a picture of four colours: red, green; blue, white."""
    image = Image.new("RGB", (width, height), WHITE)
    image.paste(RED, (0, 0, width // 2, height // 2))
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    return image.convert(mode)


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def encoded(image: Image.Image, name: str = "png", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format=name, **options)
    return file.getvalue()


def turned(orientation: int) -> bytes:
    """Return a JPEG that EXIF turns upright into `quarters()`."""
    back = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    image = quarters() if back is None else quarters().transpose(back)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, "jpeg", quality=95, subsampling=0, exif=exif)


def opened(variant: Variant) -> Image.Image:
    image = Image.open(io.BytesIO(variant.content))
    image.load()
    return image


def seen(variant: Variant) -> Image.Image:
    """Return the pixels, of a palette their colours."""
    image = opened(variant)
    if image.mode != "P":
        return image
    return image.convert("RGBA" if "transparency" in image.info else "RGB")


def is_near(pixel: object, colour: tuple[int, ...], tolerance: int = 12) -> bool:
    difference = np.abs(np.subtract(np.asarray(pixel, dtype=int), colour))
    return bool(difference.max() <= tolerance)


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """Return the pixels a tenth of a side away from each corner: row by row."""
    rgb = image.convert("RGB")
    x, y = rgb.width // 10, rgb.height // 10
    right, bottom = rgb.width - 1 - x, rgb.height - 1 - y
    return [rgb.getpixel(at) for at in ((x, y), (right, y), (x, bottom), (right, bottom))]


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    return (
        struct.pack(">I4s", len(payload), kind)
        + payload
        + struct.pack(">I", zlib.crc32(kind + payload))
    )


def with_chunk(png: bytes, kind: bytes, payload: bytes) -> bytes:
    """Return a PNG with a chunk after its header."""
    return png[:33] + png_chunk(kind, payload) + png[33:]
