"""Placeholders, read again by decoders of others or by small ones here."""

from __future__ import annotations

import math
from base64 import b64decode

import numpy as np
import pytest

from optidash_integrations.engine.placeholders import DIGITS, blurhash, color, thumbhash
from optidash_integrations.engine.vips import pyvips


def picture(values: np.ndarray) -> pyvips.Image:
    grey = values.ndim == 2 or values.shape[2] < 3
    image = pyvips.Image.new_from_array(np.ascontiguousarray(values, np.uint8))
    return image.copy(interpretation="b-w" if grey else "srgb")


def halves(width: int, height: int, bands: int = 3) -> np.ndarray:
    """Return a picture that is red on its left and blue on its right."""
    values = np.full((height, width, bands), 255)
    values[:, : width // 2, :3] = (220, 40, 30)
    values[:, width // 2 :, :3] = (30, 50, 200)
    return values


def seen(text: str, side: int = 24) -> np.ndarray:
    """Return what a ThumbHash shows, 0 to 255, red, green, blue and alpha, as a square."""
    data = b64decode(text)
    head = int.from_bytes(data[:5], "little")
    clear, wide, shorter = head >> 23 & 1, head >> 39 & 1, head >> 24 & 7
    most = 5 if clear else 7
    across, down = (max(3, each) for each in ((most, shorter) if wide else (shorter, most)))
    levels = iter([half for byte in data[5:] for half in (byte & 15, byte >> 4)])
    mean, strength = (next(levels) / 15, next(levels) / 15) if clear else (1.0, 0.0)

    def plane(start: float, scale: float, nx: int, ny: int) -> np.ndarray:
        at = (np.arange(side) + 0.5) * np.pi / side
        result = np.full((side, side), start)
        for y in range(ny):
            for x in range(nx):
                if (x or y) and x * ny < nx * (ny - y):
                    wave = (next(levels) / 7.5 - 1) * scale * 2
                    result += wave * np.outer(np.cos(at * y), np.cos(at * x))
        return result

    light = plane((head & 63) / 63, (head >> 18 & 31) / 31, across, down)
    warm = plane((head >> 6 & 63) / 31.5 - 1, (head >> 27 & 63) / 63, 3, 3)
    green = plane((head >> 12 & 63) / 31.5 - 1, (head >> 33 & 63) / 63, 3, 3)
    alpha = plane(mean, strength, 5, 5) if clear else np.ones((side, side))
    b = light - warm * 2 / 3
    r = (3 * light - b + green) / 2
    return np.stack([r, r - green, b, alpha], axis=2).clip(0, 1) * 255


def shown(text: str, width: int, height: int) -> np.ndarray:
    """Return what a BlurHash shows, 0 to 255."""
    down, across = (each + 1 for each in divmod(number(text[0]), 9))
    assert len(text) == 4 + 2 * across * down
    strongest = (number(text[1]) + 1) / 166
    mean = number(text[2:6])
    waves = [[light(mean >> shift & 255) for shift in (16, 8, 0)]]
    for start in range(6, len(text), 2):
        packed = number(text[start : start + 2])
        parts = [(packed // 19**power % 19 - 9) / 9 for power in (2, 1, 0)]
        waves.append([math.copysign(part**2, part) * strongest for part in parts])
    grid = np.array(waves).reshape(down, across, 3)
    x = np.cos(np.pi * np.outer(np.arange(width), np.arange(across)) / width)
    y = np.cos(np.pi * np.outer(np.arange(height), np.arange(down)) / height)
    lights = np.einsum("xi,yj,jic->yxc", x, y, grid).clip(0, 1)
    return np.where(lights <= 0.0031308, lights * 12.92, 1.055 * lights ** (1 / 2.4) - 0.055) * 255


def number(text: str) -> int:
    value = 0
    for digit in text:
        value = value * 83 + DIGITS.index(digit)
    return value


def light(value: int) -> float:
    part = value / 255
    return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4


def test_base_83_has_83_digits() -> None:
    assert len(set(DIGITS)) == len(DIGITS) == 83


@pytest.mark.parametrize(("width", "height"), [(60, 40), (40, 60), (2000, 1000), (32, 32), (4, 3)])
def test_both_hashes_show_where_the_colours_are(width: int, height: int) -> None:
    image = picture(halves(width, height))
    for result in (seen(thumbhash(image))[..., :3], shown(blurhash(image), 24, 24)):
        wide = result.shape[1]
        left, right = (
            part.mean(axis=(0, 1)) for part in (result[:, : wide // 4], result[:, -wide // 4 :])
        )
        assert left == pytest.approx([220, 40, 30], abs=50)
        assert right == pytest.approx([30, 50, 200], abs=50)


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (200, 100, 50), (12, 200, 240)])
def test_one_colour_is_that_colour(colour: tuple[int, int, int]) -> None:
    image = picture(np.full((20, 30, 3), colour))
    assert shown(blurhash(image), 8, 8).mean(axis=(0, 1)) == pytest.approx(colour, abs=10)
    assert seen(thumbhash(image))[..., :3].mean(axis=(0, 1)) == pytest.approx(colour, abs=8)
    assert color(image) == "#" + bytes(colour).hex()


def test_a_thumbhash_keeps_alpha_and_what_is_clear_lends_no_colour() -> None:
    values = halves(64, 64, 4)
    values[:, 32:, 3] = 0
    result = seen(thumbhash(picture(values)))
    wide = result.shape[1]
    assert result[:, : wide // 4, 3].mean() > 200
    assert result[:, -wide // 4 :, 3].mean() < 55
    assert result[:, : wide // 4, :3].mean(axis=(0, 1)) == pytest.approx([220, 40, 30], abs=25)


def test_a_thumbhash_tells_the_ratio() -> None:
    for width, height, ratio in ((70, 50, 7 / 5), (50, 70, 5 / 7), (64, 64, 1)):
        data = b64decode(thumbhash(picture(halves(width, height))))
        wide, shorter = data[4] >> 7, data[3] & 7
        assert (7 / shorter if wide else shorter / 7) == ratio


def test_a_thumbhash_is_what_other_encoders_make() -> None:
    """Made once with the package thumbhash 0.1.2 from these pixels."""
    y, x = np.mgrid[0:24, 0:32]
    values = np.stack([x * x * 7 + y * 31, y * y * 5 + x * 17, x * y * 3], axis=2) % 256
    assert thumbhash(picture(values)) == "XggGHYAhElVAVqRhdyZ1ct6fvv+c"


def test_a_blurhash_is_what_other_encoders_make() -> None:
    """Made once with the package blurhash 1.1.5 from these pixels."""
    y, x = np.mgrid[0:32, 0:32]
    values = np.stack([x * 8, y * 8, 255 - x * 4 - y * 4], axis=2)
    assert blurhash(picture(values)) == "LxH2cm2xw#X9m3WHjue?gMfkfQfk"
    assert len(blurhash(picture(values.transpose(1, 0, 2)))) == 28


def test_a_blurhash_has_white_behind_what_is_clear() -> None:
    clear = np.zeros((20, 20, 4))
    assert shown(blurhash(picture(clear)), 8, 8).mean() == pytest.approx(255, abs=10)


@pytest.mark.parametrize("bands", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (50, 40)])
def test_grey_pictures_and_thin_ones_have_placeholders(bands: int, size: tuple[int, int]) -> None:
    values = np.full((*size, bands), 255)
    values[..., 0] = 90
    image = picture(values)
    assert shown(blurhash(image), 8, 8).mean() == pytest.approx(90, abs=5)
    assert seen(thumbhash(image))[..., :3].mean() == pytest.approx(90, abs=8)
    assert color(image) == "#5a5a5a"


def test_nothing_but_clear_pixels_has_a_thumbhash() -> None:
    assert seen(thumbhash(picture(np.zeros((10, 10, 4)))))[..., 3].max() < 10
