"""Pictures that encoders treat like photographs, and what browsers say that they accept."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image

CHROME = {"accept": "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"}
WEBP_ONLY = {"accept": "image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"}
OLD = {"accept": "image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"}


@lru_cache
def pixels(width: int, height: int, seed: int = 1) -> Image.Image:
    """Return soft colours with some grain."""
    random = np.random.default_rng(seed)
    coarse = random.integers(30, 225, (5, 7, 3), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    grain = random.normal(0, 5, (height, width, 1))
    return Image.fromarray(np.clip(soft + grain, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, name: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


@lru_cache
def photo(width: int = 120, height: int = 80, seed: int = 1, quality: int = 95) -> bytes:
    """Return a JPEG as a camera makes it."""
    return encoded(pixels(width, height, seed), "JPEG", quality=quality)


@lru_cache
def tiny() -> bytes:
    """Return a JPEG that grows whatever is done to it."""
    return encoded(pixels(60, 40), "JPEG", quality=1, optimize=True)


@lru_cache
def see_through(width: int = 120, height: int = 80) -> bytes:
    """Return a PNG with a transparent half."""
    image = pixels(width, height).convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, width // 2, height))
    return encoded(image, "PNG")


@lru_cache
def animation() -> bytes:
    """Return a GIF of two frames."""
    frames = [pixels(40, 30, seed) for seed in (1, 2)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)


def with_exif(*, orientation: int = 1, position: bool = False, width: int = 120) -> bytes:
    """Return a JPEG with EXIF data, `width` x two thirds of it as stored."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "A camera"
    if position:
        north = {1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)}
        exif.get_ifd(0x8825).update(north)
    return encoded(pixels(width, width * 2 // 3), "JPEG", quality=95, exif=exif)


def has_position(data: bytes) -> bool:
    """Say whether a picture's metadata tells where it was taken."""
    with Image.open(io.BytesIO(data)) as image:
        return bool(image.getexif().get_ifd(0x8825))
