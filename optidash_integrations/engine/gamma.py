"""PNGs that tell their colours by gamma and primaries, not by a profile, as browsers show them.

libvips overlooks the chunks gAMA and cHRM. Such a file gets a profile that says the same, and is
then converted like any other.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from optidash_integrations.engine.strip import (
    PNG_SIGNATURE,
    Piece,
    png_chunk,
    png_pieces,
)
from optidash_integrations.errors import BrokenImageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    Matrix = Sequence[Sequence[float]]

# What says more than gAMA does, and goes before it (PNG, third edition, 13.14).
STRONGER = frozenset((b"iCCP", b"sRGB", b"cICP"))
GREY = (0, 4)

# 100,000 times gamma and chromaticities. Near enough to sRGB's they are taken for it.
UNIT = 100_000
SRGB_GAMMA, GAMMA_TOLERANCE = 45_455, 1_000
SRGB_PRIMARIES = (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
PRIMARIES_TOLERANCE = 100

D50 = (0.9642, 1.0, 0.8249)
BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))


def with_profile(png: bytes) -> bytes:
    """Return a PNG with a profile in the place of its gamma; the same bytes where it needs none."""
    told: dict[bytes, bytes] = {}
    try:
        for piece in png_pieces(png):
            if piece.kind in STRONGER:
                return png
            if piece.kind == b"IDAT":
                break
            told.setdefault(piece.kind, piece.payload)
        profile = profile_of(told)
    except (BrokenImageError, struct.error, ZeroDivisionError):
        return png
    return inserted(png, profile) if profile else png


def inserted(png: bytes, profile: bytes) -> bytes:
    """Return a PNG with a profile right after its header."""
    pieces = png_pieces(png)
    header: Piece = next(pieces)
    start = len(PNG_SIGNATURE) + len(header.whole)
    chunk = png_chunk(b"iCCP", b"gamma\0\0" + zlib.compress(profile))
    return png[:start] + chunk.whole + png[start:]


def profile_of(told: dict[bytes, bytes]) -> bytes | None:
    """Return the profile that says what gAMA and cHRM do, None where that is sRGB."""
    if b"gAMA" not in told or b"IHDR" not in told:
        return None
    (gamma,) = struct.unpack(">I", told[b"gAMA"])
    primaries = struct.unpack(">8I", told[b"cHRM"]) if b"cHRM" in told else SRGB_PRIMARIES
    is_grey = told[b"IHDR"][9] in GREY
    if is_grey:
        primaries = SRGB_PRIMARIES
    differences = (abs(a - b) for a, b in zip(primaries, SRGB_PRIMARIES, strict=True))
    if not gamma or (
        abs(gamma - SRGB_GAMMA) <= GAMMA_TOLERANCE and max(differences) <= PRIMARIES_TOLERANCE
    ):
        return None
    exponent = UNIT / gamma
    return grey_profile(exponent) if is_grey else rgb_profile(exponent, primaries)


def grey_profile(exponent: float) -> bytes:
    """Return an ICC profile for grey whose light is the value to the power of `exponent`."""
    return profile(b"GRAY", {b"wtpt": xyz(D50), b"kTRC": curve(exponent)})


def rgb_profile(exponent: float, primaries: Sequence[int]) -> bytes:
    """Return an ICC profile for RGB; `primaries` are cHRM's: x and y of white, red, green, blue.

    Raises ZeroDivisionError where they are not those of any colours.
    """
    columns = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants(primaries), strict=True))
    tags = {name: xyz(column) for name, column in columns.items()}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(exponent))
    return profile(b"RGB ", {b"wtpt": xyz(D50), **tags, **curves})


def colorants(primaries: Sequence[int]) -> Matrix:
    """Return the XYZ of red, green and blue as they are under D50."""
    places = [(primaries[at] / UNIT, primaries[at + 1] / UNIT) for at in range(0, 8, 2)]
    white, *mixed = ((x / y, 1.0, (1 - x - y) / y) for x, y in places)
    shares = times(inverse(transposed(mixed)), white)
    lights = [[share * part for part in light] for share, light in zip(shares, mixed, strict=True)]
    seen, wanted = times(BRADFORD, white), times(BRADFORD, D50)
    back = inverse(BRADFORD)
    return [
        times(
            back, [c * w / s for c, w, s in zip(times(BRADFORD, light), wanted, seen, strict=True)]
        )
        for light in lights
    ]


def times(matrix: Matrix, vector: Sequence[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def transposed(matrix: Matrix) -> list[list[float]]:
    return [list(column) for column in zip(*matrix, strict=True)]


def inverse(matrix: Matrix) -> list[list[float]]:
    """Return the inverse of a 3 x 3 matrix. Raises ZeroDivisionError where there is none."""
    (a, b, c), (d, e, f), (g, h, i) = matrix
    adjugate = [
        [e * i - f * h, c * h - b * i, b * f - c * e],
        [f * g - d * i, a * i - c * g, c * d - a * f],
        [d * h - e * g, b * g - a * h, a * e - b * d],
    ]
    determinant = a * adjugate[0][0] + b * adjugate[1][0] + c * adjugate[2][0]
    return [[value / determinant for value in row] for row in adjugate]


# --- ICC.1, version 2: a header of 128 bytes, a table, the tags


def profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return a profile for monitors."""
    tags = {b"desc": description(), b"cprt": b"text\0\0\0\0CC0\0", **tags}
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, payload in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(payload))
        body += payload + b"\0" * (-len(payload) % 4)
    size = start + len(body)
    kinds = struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x02400000, b"mntr", space, b"XYZ ")
    made = struct.pack(">6H4s", 2000, 1, 1, 0, 0, 0, b"acsp")
    light = struct.pack(">3i", *(round(part * 65536) for part in D50))
    head = kinds + made + b"\0" * 28 + light
    return head.ljust(128, b"\0") + table + body


def description() -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", 6) + b"gamma\0" + b"\0" * 78


def xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def curve(exponent: float) -> bytes:
    """Return a curve of one exponent, as far as the field reaches."""
    value = min(max(round(exponent * 256), 1), 0xFFFF)
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, value)
