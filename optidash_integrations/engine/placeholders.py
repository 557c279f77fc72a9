"""Placeholders: a picture in about thirty characters, shown until it is there.

ThumbHash and BlurHash are cosine transforms of a small copy. Their encoders are here: BlurHash's
libraries want numpy, and that of ThumbHash fails on pictures with alpha.
"""

from __future__ import annotations

import math
from base64 import b64encode
from dataclasses import dataclass
from itertools import zip_longest
from operator import mul
from typing import TYPE_CHECKING

from optidash_integrations.engine.palette import dominant

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyvips

LEAST_SIDE, SMALL_SIDE = 8, 32
"""Of the copy that is transformed: more pixels change nothing that would be seen."""

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"
LONGER, SHORTER = 4, 3
"""How many waves of BlurHash lie along the picture's longer side and along the shorter one."""
STEPS = 82
"""Into how many the strongest wave's strength is divided, less one."""
LEVELS = 9
"""How many levels a wave has to each side of none."""

Triple = tuple[float, float, float]


def thumbhash(image: pyvips.Image) -> str:
    """Return the ThumbHash of a picture, in base64."""
    longer = max(image.width, image.height)
    # Over fewer pixels than waves these don't cancel out, and one colour would not be one.
    sides = (max(LEAST_SIDE, level(SMALL_SIDE * side / longer)) for side in size_of(image))
    small = shrunk(image, *sides)
    values = bytes((small if small.hasalpha() else small.addalpha()).write_to_memory())
    return b64encode(thumb(values, small.width, size_of(image))).decode()


def blurhash(image: pyvips.Image) -> str:
    """Return the BlurHash of a picture, with white behind what is transparent."""
    small = shrunk(image, SMALL_SIDE, SMALL_SIDE)
    if small.hasalpha():
        small = small.flatten(background=[255])
    wide = image.width >= image.height
    across, down = (LONGER, SHORTER) if wide else (SHORTER, LONGER)
    waves = strengths(bytes(small.write_to_memory()), small.width, small.height, across, down)
    return encoded(waves, across, down)


def color(image: pyvips.Image) -> str:
    """Return the dominant colour of a picture, as `#rrggbb`."""
    return dominant(image)


def size_of(image: pyvips.Image) -> tuple[int, int]:
    return image.width, image.height


def shrunk(image: pyvips.Image, width: int, height: int) -> pyvips.Image:
    """Return a small copy in sRGB of 8 bits, of a tiny picture an enlarged one."""
    small = image.thumbnail_image(width, height=height, size="force", no_rotate=True)
    return small.colourspace("srgb").cast("uchar")


@dataclass(frozen=True, slots=True)
class Channel:
    """What ThumbHash keeps of one channel: its mean, its strongest wave, and each as 0 to 15."""

    mean: float
    strongest: float
    waves: tuple[int, ...]

    @classmethod
    def of(cls, plane: Sequence[float], width: int, across: int, down: int) -> Channel:
        """Transform a channel; of the waves those in a triangle of these sides are kept."""
        height = len(plane) // width
        columns, rows = cosines(across, width, 0.5), cosines(down, height, 0.5)
        all_waves = along(plane, columns, rows, width)
        mean, *waves = (
            all_waves[y * across + x] / len(plane)
            for y in range(down)
            for x in range(across)
            if x * down < across * (down - y)
        )
        strongest = max(abs(wave) for wave in waves)
        parts = (wave / strongest if strongest else -1 for wave in waves)
        return cls(mean, strongest, tuple(level(7.5 + 7.5 * part) for part in parts))


def thumb(values: bytes, width: int, size: tuple[int, int]) -> bytes:
    """Return the ThumbHash of pixels with alpha, of a picture of some size, as bytes."""
    light, warm, green, alpha = thumb_planes(values)
    clear = min(alpha) < 1
    most = 5 if clear else 7
    across, down = (max(1, level(most * side / max(size))) for side in size)
    one = Channel.of(light, width, max(3, across), max(3, down))
    two, three = (Channel.of(plane, width, 3, 3) for plane in (warm, green))
    wide = size[0] > size[1]
    head = (
        level(63 * one.mean)
        | level(31.5 + 31.5 * two.mean) << 6
        | level(31.5 + 31.5 * three.mean) << 12
        | level(31 * one.strongest) << 18
        | clear << 23
        | (down if wide else across) << 24
        | level(63 * two.strongest) << 27
        | level(63 * three.strongest) << 33
        | wide << 39
    )
    waves = [*one.waves, *two.waves, *three.waves]
    if clear:
        four = Channel.of(alpha, width, 5, 5)
        waves = [level(15 * four.mean), level(15 * four.strongest), *waves, *four.waves]
    pairs = zip_longest(waves[0::2], waves[1::2], fillvalue=0)
    return head.to_bytes(5, "little") + bytes(low | high << 4 for low, high in pairs)


def thumb_planes(values: bytes) -> tuple[list[float], list[float], list[float], list[float]]:
    """Return lightness, yellow against blue, red against green, and alpha.

    What is clear gets the mean colour of what is not, so that it adds nothing.
    """
    alpha = [value / 255 for value in values[3::4]]
    weight = sum(alpha) or 1.0
    planes = [[value / 255 for value in values[band::4]] for band in range(3)]
    means = [dot(plane, alpha) / weight for plane in planes]
    red, green, blue = (
        [mean + (value - mean) * part for value, part in zip(plane, alpha, strict=True)]
        for plane, mean in zip(planes, means, strict=True)
    )
    colours = list(zip(red, green, blue, strict=True))
    return (
        [(r + g + b) / 3 for r, g, b in colours],
        [(r + g) / 2 - b for r, g, b in colours],
        [r - g for r, g, _ in colours],
        alpha,
    )


def level(value: float) -> int:
    """Return the whole number next to a value, of halves the upper one."""
    return math.floor(value + 0.5)


def strengths(values: bytes, width: int, height: int, across: int, down: int) -> list[Triple]:
    """Return how strong each wave is in the picture's light, row by row; the first is its mean."""
    light = [linear(value / 255) for value in range(256)]
    planes = [[light[value] for value in values[band::3]] for band in range(3)]
    columns, rows = cosines(across, width), cosines(down, height)
    found = [along(plane, columns, rows, width) for plane in planes]
    scale = 1 / (width * height)
    return [
        (red * scale * part, green * scale * part, blue * scale * part)
        for place, (red, green, blue) in enumerate(zip(*found, strict=True))
        for part in (2 if place else 1,)
    ]


def along(
    plane: Sequence[float],
    columns: Sequence[Sequence[float]],
    rows: Sequence[Sequence[float]],
    width: int,
) -> list[float]:
    """Return the sums of one band times each wave, first along the lines, then across them."""
    lines = [plane[start : start + width] for start in range(0, len(plane), width)]
    by_line = [[dot(line, wave) for line in lines] for wave in columns]
    return [dot(sums, wave) for wave in rows for sums in by_line]


def dot(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(map(mul, one, other))


def cosines(count: int, length: int, shift: float = 0.0) -> list[list[float]]:
    """Return the waves along a side, in its pixels, taken at `shift` of each."""
    step = math.pi / length
    places = [step * (at + shift) for at in range(length)]
    return [[math.cos(wave * place) for place in places] for wave in range(count)]


def encoded(waves: Sequence[Triple], across: int, down: int) -> str:
    """Return the waves as BlurHash writes them: counts, the strongest, the mean, the others."""
    mean, others = waves[0], waves[1:]
    strongest = max(abs(value) for wave in others for value in wave)
    step = max(0, min(STEPS, math.floor(strongest * (STEPS + 1) * 2 - 0.5)))
    limit = (step + 1) / ((STEPS + 1) * 2)
    red, green, blue = (byte(value) for value in mean)
    head = in_base_83(across - 1 + (down - 1) * 9, 1) + in_base_83(step, 1)
    colour = in_base_83((red << 16) + (green << 8) + blue, 4)
    return head + colour + "".join(in_base_83(packed(wave, limit), 2) for wave in others)


def packed(wave: Triple, limit: float) -> int:
    """Return a wave's three strengths as one number, each with as many levels as there are."""
    number = 0
    for value in wave:
        part = math.copysign(math.sqrt(abs(value / limit)), value)
        number = number * (2 * LEVELS + 1)
        number += max(0, min(2 * LEVELS, level(part * LEVELS + LEVELS)))
    return number


def in_base_83(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(DIGITS))
        digits.append(DIGITS[digit])
    return "".join(reversed(digits))


def linear(value: float) -> float:
    """Return the light of a value of sRGB, both 0 to 1 (IEC 61966-2-1)."""
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def byte(light: float) -> int:
    """Return the value of sRGB, 0 to 255, of some light."""
    light = max(0.0, min(1.0, light))
    value = light * 12.92 if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055
    return int(value * 255 + 0.5)
