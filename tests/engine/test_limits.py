"""What a picture may cost: nothing that a file says of itself makes the engine take more."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable, Iterator

import pytest

from optidash_integrations import formats, icons
from optidash_integrations.engine.process import process
from optidash_integrations.engine.vips import pyvips
from optidash_integrations.errors import (
    ImageTooLargeError,
    OptionError,
    TooSlowError,
    UnsupportedImageError,
)
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.variants import Variant
from tests.fuzz.cases import Case
from tests.fuzz.mutations import PNG_SIGNATURE
from tests.fuzz.samples import SVG, made_here, psd
from tests.fuzz.worker import Worker

from .pictures import encoded, noise, png_chunk, quarters

MIB = 1024 * 1024
MOST_MEMORY = 400 * MIB
"""What the process that meets all bombs may have taken in the end; libraries are 150 MiB of it."""


def made(data: bytes, document: dict[str, object] | None = None, **limits: object) -> Variant:
    kept = Limits(**limits)
    return process(data, Operations.from_dict(document or {}, limits=kept), None, kept)


def moving(frames: int, name: str = "gif") -> bytes:
    others = [quarters().rotate(3 * number) for number in range(1, frames)]
    return encoded(quarters(), name, save_all=True, append_images=others, duration=50)


# --- Before decoding


def test_a_source_may_have_so_many_bytes_and_no_more() -> None:
    data = encoded(noise(30, 30))
    assert made(data, max_input_bytes=len(data)).width == 30
    with pytest.raises(ImageTooLargeError, match="max_input_bytes"):
        made(data, max_input_bytes=len(data) - 1)


@pytest.mark.parametrize("name", ["gif", "webp", "png"])
def test_pixels_are_counted_in_all_frames(name: str) -> None:
    data, pixels = moving(5, name), 80 * 40 * 5
    still = {"output": {"animated": False, "format": "png"}}
    assert made(data, still, max_pixels=pixels).width == 80
    with pytest.raises(ImageTooLargeError, match="max_pixels"):
        made(data, still, max_pixels=pixels - 1)
    with pytest.raises(ImageTooLargeError, match="max_frames"):
        made(data, still, max_frames=4)


STRANGERS = {
    "ppm": b"P6 2 2 255 " + bytes(12),
    "pfm": b"PF\n2 2\n-1.0\n" + bytes(48),
    "radiance": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 2 +X 2\n" + bytes(16),
    "vips": bytes.fromhex("b6a6f208") + bytes(80),
    "pdf": b"%PDF-1.4\n%%EOF",
    "exr": bytes.fromhex("762f3101") + bytes(80),
    "fits": b"SIMPLE  =                    T" + bytes(80),
    "matlab": b"MATLAB 5.0 MAT-file" + bytes(120),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "svg": SVG,
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_loader_that_is_not_allowed_is_never_asked(name: str) -> None:
    with pytest.raises(UnsupportedImageError):
        made(STRANGERS[name])


@pytest.mark.parametrize("name", ["ppm", "pfm", "radiance", "vips"])
def test_libvips_itself_knows_no_format_whose_loader_is_blocked(name: str) -> None:
    with pytest.raises(pyvips.Error, match="not in a known format"):
        pyvips.Image.new_from_buffer(STRANGERS[name], "")


# --- Files that lie, or grow


def zeros(count: int) -> bytes:
    """Return so many zero bytes, deflated, without having them in memory."""
    packer = zlib.compressobj(9)
    block = bytes(MIB)
    parts = [packer.compress(block) for _ in range(count // MIB)]
    return b"".join([*parts, packer.compress(bytes(count % MIB)), packer.flush()])


def png(width: int, height: int, *chunks: bytes, bits: int = 1, pixels: bytes = b"") -> bytes:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    body = png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    return PNG_SIGNATURE + head + b"".join(chunks) + body


def frame_control(number: int, width: int, height: int) -> bytes:
    return png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, 0, 0, 1, 9, 0, 0))


def apng_of_many_pixels() -> bytes:
    """Return a small file of 40 frames of 9 megapixels."""
    side, frames = 3000, 40
    pixels = zeros(side * (side // 8 + 1))
    chunks = [png_chunk(b"acTL", struct.pack(">II", frames, 0)), frame_control(0, side, side)]
    later = b"".join(
        frame_control(2 * n - 1, side, side) + png_chunk(b"fdAT", struct.pack(">I", 2 * n) + pixels)
        for n in range(1, frames)
    )
    whole = png(side, side, *chunks, pixels=pixels)
    return whole[:-12] + later + whole[-12:]


def patched(data: bytes, mark: bytes, offset: int, value: bytes) -> bytes:
    """Return a file with other bytes at a distance from where a mark first stands."""
    at = data.index(mark) + offset
    return data[:at] + value + data[at + len(value) :]


def lying_tiff(width: int, height: int) -> bytes:
    data = encoded(noise(40, 30), "tiff")
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, at)
        if tag in (256, 257):
            value = struct.pack("<HHII", tag, 4, 1, width if tag == 256 else height)
            data = data[:at] + value + data[at + 12 :]
    return data


def icon_with(content: bytes, size: int | None = None) -> bytes:
    """Return an icon whose directory tells of a picture of 16 x 16, and of so many bytes."""
    length = len(content) if size is None else size
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, length, 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + content


def laughs(levels: int) -> bytes:
    entities = "".join(
        f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "ha"}">' for n in range(levels)
    )
    return (
        f'<?xml version="1.0"?><!DOCTYPE svg [{entities}]>'
        f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">'
        f"<text>&a{levels - 1};</text></svg>"
    ).encode()


BOMBS: dict[str, Callable[[], bytes]] = {
    "png of 40000 x 40000": lambda: png(40_000, 40_000, pixels=zeros(40_000 * 5001)),
    "apng": apng_of_many_pixels,
    "webp canvas": lambda: patched(moving(2, "webp"), b"VP8X", 12, b"\x7f\x3e\0\x7f\x3e\0"),
    "avif": lambda: patched(made_here()["avif"], b"ispe", 8, struct.pack(">II", 65_536, 65_536)),
    "jpeg": lambda: patched(
        encoded(noise(40, 30), "jpeg"), b"\xff\xc0", 5, struct.pack(">HH", 65_500, 65_500)
    ),
    "tiff of 40000 x 40000": lambda: lying_tiff(40_000, 40_000),
    "bmp": lambda: patched(
        encoded(noise(40, 30), "bmp"), b"BM", 18, struct.pack("<ii", 2_000_000_000, 2_000_000_000)
    ),
    "jp2": lambda: patched(
        encoded(noise(40, 30), "jpeg2000", no_jp2=True),
        b"\xff\x51",
        6,
        struct.pack(">II", 100_000, 100_000),
    ),
    "psd": lambda: patched(psd(noise(40, 30)), b"8BPS", 14, struct.pack(">II", 30_000, 30_000)),
    "ico": lambda: icon_with(png(40_000, 40_000, pixels=zeros(100))),
    "svg": lambda: SVG.replace(b'width="60" height="40"', b'width="90000" height="90000"'),
}

# Refused, though not always as too large, or read by what is true in them.
ODD: dict[str, Callable[[], bytes]] = {
    "tiff": lambda: lying_tiff(1_000_000_000, 1_000_000_000),
    "gif canvas": lambda: patched(encoded(quarters(), "gif"), b"GIF8", 6, b"\xff\xff\xff\xff"),
    "png of 2^31 x 2^31": lambda: png(2**31 - 1, 2**31 - 1, pixels=zeros(100)),
    "ico of no bytes": lambda: icon_with(b"", 0),
    "ico of 4 GB": lambda: icon_with(png(16, 16, pixels=zeros(48)), 2**32 - 1),
    "ico of a bitmap": lambda: icons.Icon(
        256, 256, 32, struct.pack("<IiiHH", 40, 256, 512, 1, 32)
    ).alone(),
    "laughs": lambda: laughs(12),
}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    worker = Worker(tmp_path_factory.mktemp("limits") / "errors.log")
    yield worker
    worker.stop()


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_too_large_before_it_takes_any_memory(name: str, worker: Worker) -> None:
    case = Case(name, BOMBS[name](), {"resize": {"width": 64}}, "jpg", {"svg": True, **SECONDS})
    outcome = worker.outcome(case)
    assert (outcome.kind, outcome.detail.partition(":")[0]) == ("refused", "ImageTooLargeError")
    assert outcome.seconds < 5
    assert outcome.peak < MOST_MEMORY


@pytest.mark.parametrize("name", ODD)
def test_what_lies_inside_ends_in_an_error_of_ours_or_a_picture(name: str, worker: Worker) -> None:
    outcome = worker.outcome(Case(name, ODD[name](), {}, "png", {"svg": True, **SECONDS}))
    assert outcome.is_good, outcome.detail
    assert outcome.peak < MOST_MEMORY


SECONDS = {"max_seconds": 10.0}


# --- What comes out


@pytest.mark.parametrize(
    "document",
    [
        {"scale": {"size": 1e6}},
        {"scale": {"size": 1, "ratio": 1e6}},
        {"resize": {"mode": "exact", "width": 200, "height": 200}, "scale": {"size": 50}},
        {"super_resolution": {"factor": 4}, "scale": {"size": 3}},
        {"rotate": {"angle": 45}, "scale": {"size": 4}},
        {"border": {"size": 40}, "padding": {"size": 40}, "scale": {"size": 9}},
    ],
)
def test_no_result_has_longer_sides_than_allowed(document: dict[str, object]) -> None:
    variant = made(encoded(quarters()), document, max_width=200, max_height=200)
    assert 1 <= variant.width <= 200
    assert 1 <= variant.height <= 200


def test_room_around_a_picture_that_leaves_none_for_it_is_refused() -> None:
    with pytest.raises(OptionError, match=r"border\.size and padding"):
        made(encoded(quarters()), {"padding": {"size": 100}}, max_width=200, max_height=200)


def test_an_animation_may_not_grow_beyond_the_pixels_allowed() -> None:
    grown = {"resize": {"width": 200, "upscale": True}}
    data = moving(5)
    assert made(data, grown, max_pixels=200 * 100 * 5).width == 200
    with pytest.raises(ImageTooLargeError, match="max_pixels"):
        made(data, grown, max_pixels=200 * 100 * 5 - 1)


def test_a_format_that_can_not_be_as_large_gets_less() -> None:
    wide = {"scale": {"size": 1000, "ratio": 0.001}, "output": {"format": "webp"}}
    variant = made(encoded(noise(40, 40)), wide, max_width=40_000, max_height=40_000)
    assert formats.detect(variant.content) is formats.WEBP
    assert variant.width <= 16_383


# --- Time


@pytest.mark.parametrize(
    "document",
    [
        {"filter": {"blur": {"value": 250}}, "scale": {"size": 20}},
        {"rotate": {"angle": 33}, "adjust": {"unsharp": 100}, "scale": {"size": 20}},
    ],
)
def test_work_that_takes_too_long_is_stopped(document: dict[str, object]) -> None:
    began = time.monotonic()
    with pytest.raises(TooSlowError):
        made(encoded(noise(200, 200)), document, max_seconds=0.1)
    assert time.monotonic() - began < 8
