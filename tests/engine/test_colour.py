"""Colours, compared by ΔE2000 with what littlecms makes of the same pixels and profiles."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from optidash_integrations import formats
from optidash_integrations.engine.gamma import (
    SRGB_PRIMARIES,
    grey_profile,
    rgb_profile,
    with_profile,
)
from optidash_integrations.engine.process import process
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations

from .pictures import encoded, opened, png_chunk, with_chunk

# cHRM's numbers: x and y of white, red, green and blue, times 100,000.
P3 = (31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000)
ADOBE = (31_270, 32_900, 64_000, 33_000, 21_000, 71_000, 15_000, 6_000)
PROFILES = {
    "p3": rgb_profile(2.2, P3),
    "adobe": rgb_profile(563 / 256, ADOBE),
    "linear": rgb_profile(1.0, SRGB_PRIMARIES),
}
PATCH = 8


def patches() -> Image.Image:
    """Return a board of 64 colours, in squares so large that no codec mixes their middles."""
    levels = (0, 90, 170, 255)
    colours = [(r, g, b) for r in levels for g in levels for b in levels]
    board = np.array(colours, dtype=np.uint8).reshape(8, 8, 3)
    return Image.fromarray(board.repeat(PATCH, axis=0).repeat(PATCH, axis=1))


def middles(image: Image.Image) -> np.ndarray:
    """Return the colours of the squares' middles."""
    return np.asarray(image.convert("RGB"))[PATCH // 2 :: PATCH, PATCH // 2 :: PATCH]


# A PNG that any result is smaller than: where it is not, the source is the result, profile and all.
LARGE = {"compress_level": 0}


def made(data: bytes, **asked: object) -> Image.Image:
    return opened(process(data, Operations.from_dict(asked), formats.PNG, Limits()))


def converted(image: Image.Image, profile: bytes) -> Image.Image:
    """Return a picture in sRGB, by littlecms."""
    result = ImageCms.profileToProfile(
        image,
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
    )
    assert result is not None
    return result


# --- the ruler


def lab(rgb: np.ndarray) -> np.ndarray:
    """Return CIELAB (D65) of sRGB."""
    values = np.asarray(rgb, dtype=float) / 255
    light = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    ratio = light @ np.transpose(to_xyz) / np.sum(to_xyz, axis=1)
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def delta_e(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return ΔE2000 of CIELAB colours (Sharma, Wu, Dalal 2005)."""
    (l1, a1, b1), (l2, a2, b2) = np.moveaxis(one, -1, 0), np.moveaxis(other, -1, 0)
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    g = 1.5 - 0.5 * np.sqrt(mean**7 / (mean**7 + 25.0**7))
    a1, a2 = a1 * g, a2 * g
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.degrees(np.arctan2(b1, a1)) % 360, np.degrees(np.arctan2(b2, a2)) % 360
    turn = (h2 - h1 + 180) % 360 - 180
    turn = np.where(c1 * c2 == 0, 0, turn)
    hue = np.where(c1 * c2 == 0, h1 + h2, (h1 + turn / 2) % 360)
    dl, dc, dh = l2 - l1, c2 - c1, 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2))
    lm, cm = (l1 + l2) / 2, (c1 + c2) / 2
    t = (
        1
        - 0.17 * np.cos(np.radians(hue - 30))
        + 0.24 * np.cos(np.radians(2 * hue))
        + 0.32 * np.cos(np.radians(3 * hue + 6))
        - 0.20 * np.cos(np.radians(4 * hue - 63))
    )
    sl = 1 + 0.015 * (lm - 50) ** 2 / np.sqrt(20 + (lm - 50) ** 2)
    sc, sh = 1 + 0.045 * cm, 1 + 0.015 * cm * t
    spread = np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2)))
    rt = -np.sin(spread) * 2 * np.sqrt(cm**7 / (cm**7 + 25.0**7))
    return np.sqrt((dl / sl) ** 2 + (dc / sc) ** 2 + (dh / sh) ** 2 + rt * dc / sc * dh / sh)


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.4900, -0.0010), (50, -2.4900, 0.0010), 7.1792),
        ((50, 2.5000, 0), (73, 25, -18), 27.1492),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ],
)
def test_the_ruler_measures_as_its_authors_do(
    one: tuple[float, ...], other: tuple[float, ...], difference: float
) -> None:
    assert delta_e(np.array(one), np.array(other)) == pytest.approx(difference, abs=1e-4)


def differences(one: Image.Image, other: Image.Image) -> np.ndarray:
    return delta_e(lab(middles(one)), lab(middles(other)))


def assert_same_colours(one: Image.Image, other: Image.Image, limit: float = 1.0) -> None:
    found = differences(one, other)
    assert found.max() <= limit, f"ΔE up to {found.max():.2f}, on average {found.mean():.2f}"


# --- profiles


@pytest.mark.parametrize("name", ["png", "webp", "tiff", "jpeg"])
@pytest.mark.parametrize("profile", ["p3", "adobe"])
def test_a_profile_is_converted_as_littlecms_does(name: str, profile: str) -> None:
    options = {"jpeg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}, "png": LARGE}
    data = encoded(patches(), name, icc_profile=PROFILES[profile], **options.get(name, {}))
    expected = converted(patches(), PROFILES[profile])
    assert differences(patches(), expected).max() > 2, "nothing was to be converted"
    # Beside rounding, a JPEG's own steps are 1 in each channel.
    assert_same_colours(made(data), expected, 2.0 if name == "jpeg" else 1.0)


@pytest.mark.parametrize(
    "asked", [{"resize": {"width": 32}}, {"crop": {"width": 32, "height": 64}}]
)
def test_a_profile_is_converted_whatever_else_is_done(asked: dict[str, object]) -> None:
    flat = Image.new("RGB", (64, 64), (200, 90, 40))
    expected = converted(flat, PROFILES["p3"]).getpixel((0, 0))
    pixel = made(encoded(flat, icc_profile=PROFILES["p3"]), **asked)
    pixel = pixel.convert("RGB").getpixel((16, 16))
    assert delta_e(lab(np.array(pixel)), lab(np.array(expected))) < 1


def test_a_result_in_srgb_carries_no_profile() -> None:
    assert "icc_profile" not in made(encoded(patches(), icc_profile=PROFILES["p3"], **LARGE)).info


def test_an_unusable_profile_is_overlooked() -> None:
    data = encoded(patches(), "jpeg", quality=100, subsampling=0, icc_profile=b"no profile" * 20)
    assert_same_colours(made(data), patches(), 2.0)


def test_linear_light_is_converted() -> None:
    expected = converted(patches(), PROFILES["linear"])
    assert_same_colours(made(encoded(patches(), icc_profile=PROFILES["linear"], **LARGE)), expected)
    assert middles(expected)[2, 4, 0] != middles(patches())[2, 4, 0]


# --- grey


def ramp() -> Image.Image:
    levels = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)
    return Image.fromarray(levels.repeat(PATCH, axis=0).repeat(PATCH, axis=1))


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_with_a_profile_is_converted_and_stays_grey(mode: str) -> None:
    profile = grey_profile(1.0)
    image = ramp().convert(mode)
    if mode == "LA":
        image.putalpha(200)
    result = made(encoded(image, icc_profile=profile))
    assert result.mode == mode
    if mode == "LA":
        assert set(np.asarray(result.getchannel("A")).flat) == {200}
    assert_same_colours(result.convert("RGB"), converted(ramp(), profile))


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_without_a_profile_stays_as_it_is(mode: str) -> None:
    result = made(encoded(ramp().convert(mode)))
    assert result.mode in ("1", "L", "LA")
    assert (np.asarray(result.convert("L")) == np.asarray(ramp().convert(mode).convert("L"))).all()


# --- CMYK


def inks() -> Image.Image:
    levels = (0, 85, 170, 255)
    colours = [(c, m, y, k) for c in levels for m in levels for y in (0, 255) for k in (0, 120)]
    board = np.array(colours, dtype=np.uint8).reshape(8, 8, 4)
    return Image.fromarray(board.repeat(PATCH, axis=0).repeat(PATCH, axis=1), "CMYK")


def press() -> bytes:
    """Return a profile of a press whose inks are all a little dirty: a table of its 16 corners."""
    rows = b""
    for corner in range(16):
        c, m, y, k = (corner >> at & 1 for at in (3, 2, 1, 0))
        lightness = max(5.0, 95 - 35 * c - 45 * m - 8 * y - 80 * k)
        a, b = (
            (1 - 0.9 * k) * (-35 * c + 70 * m - 5 * y),
            (1 - 0.9 * k) * (-45 * c - 5 * m + 85 * y),
        )
        rows += bytes((round(lightness * 2.55), round(a) + 128, round(b) + 128))
    straight = bytes(range(256))
    unit = struct.pack(">9i", *(65536 * (at % 4 == 0) for at in range(9)))
    table = struct.pack(">4sIBBBB", b"mft1", 0, 4, 3, 2, 0) + unit
    table += straight * 4 + rows + straight * 3
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    tags = {
        b"desc": b"desc\0\0\0\0\0\0\0\6press\0" + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": white,
        b"A2B0": table,
    }
    start = 132 + 12 * len(tags)
    index, body = struct.pack(">I", len(tags)), b""
    for name, payload in tags.items():
        index += struct.pack(">4sII", name, start + len(body), len(payload))
        body += payload + b"\0" * (-len(payload) % 4)
    head = struct.pack(
        ">I4sI4s4s4s", start + len(body), bytes(4), 0x02400000, b"prtr", b"CMYK", b"Lab "
    )
    head += struct.pack(">6H4s", 2000, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + white[8:]
    return head.ljust(128, b"\0") + index + body


@pytest.mark.parametrize("name", ["jpeg", "tiff"])
def test_cmyk_with_a_profile_is_converted_as_littlecms_does(name: str) -> None:
    options = {"quality": 100, "subsampling": 0} if name == "jpeg" else {}
    data = encoded(inks(), name, icc_profile=press(), **options)
    assert_same_colours(made(data), converted(inks(), press()), 2.5 if name == "jpeg" else 1.5)


def test_cmyk_without_a_profile_looks_as_printed() -> None:
    colours = {
        "paper": ((0, 0, 0, 0), (255, 255, 255)),
        "cyan": ((255, 0, 0, 0), (0, 160, 220)),
        "magenta": ((0, 255, 0, 0), (225, 0, 125)),
        "yellow": ((0, 0, 255, 0), (255, 235, 0)),
        "red": ((0, 255, 255, 0), (225, 30, 35)),
        "green": ((255, 0, 255, 0), (0, 155, 75)),
        "black": ((0, 0, 0, 255), (38, 34, 35)),
    }
    for name in ("jpeg", "tiff"):
        for ink, printed in colours.values():
            data = encoded(Image.new("CMYK", (16, 16), ink), name)
            pixel = made(data).convert("RGB").getpixel((8, 8))
            assert delta_e(lab(np.array(pixel)), lab(np.array(printed))) < 12, (ink, pixel)


# --- 16 bits


def sixteen_bits(image: Image.Image, profile: bytes | None = None) -> bytes:
    """Return a PNG of 16 bits a channel, with values between those of 8 bits."""
    values = np.asarray(image, dtype=np.uint32) * 257
    kind = {"L": 0, "RGB": 2, "LA": 4, "RGBA": 6}[image.mode]
    header = struct.pack(">IIBBBBB", *image.size, 16, kind, 0, 0, 0)
    rows = (b"\0" + row.astype(">u2").tobytes() for row in values)
    png = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
    if profile:
        png += png_chunk(b"iCCP", b"p\0\0" + zlib.compress(profile))
    pixels = png_chunk(b"IDAT", zlib.compress(b"".join(rows)))
    return png + pixels + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("target", [formats.PNG, formats.WEBP, formats.AVIF, formats.JPEG])
def test_sixteen_bits_become_eight(target: formats.Format) -> None:
    asked = Operations.from_dict({"output": {"quality": 100}})
    result = opened(process(sixteen_bits(patches()), asked, target, Limits()))
    limit = 0 if target is formats.PNG else 6
    assert differences(result, patches()).mean() <= limit


@pytest.mark.parametrize("profile", ["p3", "adobe", "linear"])
def test_sixteen_bits_with_a_profile_are_converted(profile: str) -> None:
    data = sixteen_bits(patches(), PROFILES[profile])
    assert_same_colours(made(data), converted(patches(), PROFILES[profile]))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_sixteen_bits_keep_grey_and_alpha(mode: str) -> None:
    image = (ramp() if mode[0] == "L" else patches()).convert(mode)
    if mode[-1] == "A":
        image.putalpha(130)
    result = made(sixteen_bits(image))
    assert result.mode == mode
    assert np.abs(np.asarray(result, int) - np.asarray(image, int)).max() <= 1


# --- gamma


def with_gamma(png: bytes, gamma: int, primaries: tuple[int, ...] | None = None) -> bytes:
    if primaries:
        png = with_chunk(png, b"cHRM", struct.pack(">8I", *primaries))
    return with_chunk(png, b"gAMA", struct.pack(">I", gamma))


@pytest.mark.parametrize(
    ("gamma", "primaries"), [(100_000, None), (55_556, None), (45_455, ADOBE), (100_000, P3)]
)
def test_gamma_and_primaries_of_a_png_count_as_a_profile(
    gamma: int, primaries: tuple[int, ...] | None
) -> None:
    data = with_profile(with_gamma(encoded(patches(), **LARGE), gamma, primaries))
    profile = rgb_profile(100_000 / gamma, primaries or SRGB_PRIMARIES)
    assert_same_colours(made(data), converted(patches(), profile))


def test_linear_light_by_gamma_is_what_its_definition_says() -> None:
    grey = Image.new("RGB", (8, 8), (55, 55, 55))
    pixel = made(with_profile(with_gamma(encoded(grey), 100_000))).convert("RGB").getpixel((4, 4))
    light = 55 / 255
    assert pixel == pytest.approx([255 * (1.055 * light ** (1 / 2.4) - 0.055)] * 3, abs=1.5)


def test_grey_with_a_gamma_stays_grey() -> None:
    result = made(with_profile(with_gamma(encoded(ramp()), 100_000, P3)))
    assert result.mode == "L"
    assert_same_colours(result.convert("RGB"), converted(ramp(), grey_profile(1.0)))


@pytest.mark.parametrize(
    "png",
    [
        encoded(patches()),
        with_gamma(encoded(patches()), 45_455),
        with_gamma(encoded(patches()), 45_455, SRGB_PRIMARIES),
        with_chunk(with_gamma(encoded(patches()), 100_000), b"sRGB", b"\0"),
        with_gamma(encoded(patches(), icc_profile=PROFILES["p3"]), 100_000),
        with_gamma(encoded(patches()), 0),
        with_gamma(encoded(patches()), 100_000, (0,) * 8),
        with_chunk(encoded(patches()), b"gAMA", b"\1"),
        b"\x89PNG\r\n\x1a\n",
        b"no picture",
    ],
    ids=[
        "none",
        "srgb's",
        "with primaries",
        "sRGB",
        "iCCP",
        "zero",
        "dark",
        "short",
        "cut",
        "text",
    ],
)
def test_a_gamma_that_says_nothing_changes_nothing(png: bytes) -> None:
    assert with_profile(png) == png


# --- alpha


def edge() -> Image.Image:
    """Return green beside clear pixels that are black, or white, beneath."""
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((255, 255, 255, 0), (32, 32, 64, 64))
    image.paste((0, 200, 0, 255), (0, 0, 21, 64))
    image.paste((0, 200, 0, 255), (32, 32, 53, 64))
    return image


@pytest.mark.parametrize("name", ["png", "webp", "tiff"])
@pytest.mark.parametrize(
    "asked",
    [
        {"resize": {"width": 20, "height": 20}},
        {"resize": {"width": 150, "height": 150, "upscale": True}},
        {"crop": {"width": 60, "height": 60}, "resize": {"width": 17, "height": 17}},
    ],
)
def test_hidden_colours_leave_no_fringe(name: str, asked: dict[str, object]) -> None:
    options = {"lossless": True, "exact": True} if name == "webp" else {}
    result = np.asarray(made(encoded(edge(), name, **options), **asked).convert("RGBA"), int)
    alpha = result[..., 3:]
    assert len(np.unique(alpha)) > 2, "no edge was softened"
    seen = (result[..., :3] - (0, 200, 0)) * alpha / 255
    assert seen.min() >= -3, "a dark fringe"
    assert np.abs(seen[..., (0, 2)]).max() <= 3, "a light fringe"
    assert seen.max() <= 32  # Lanczos rings, where alpha is cut off at its highest value


def test_a_profile_leaves_alpha_alone() -> None:
    image = patches().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize((64, 64)))
    result = made(encoded(image, icc_profile=PROFILES["p3"]))
    alphas = [np.asarray(picture.getchannel("A"), int) for picture in (result, image)]
    assert np.abs(alphas[0] - alphas[1]).max() <= 1
