from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from optidash_integrations import formats
from optidash_integrations.engine import animation
from optidash_integrations.engine.encode import Recipe, encode
from optidash_integrations.engine.gamma import grey_profile
from optidash_integrations.engine.probe import probe
from optidash_integrations.errors import AnimatedImageError, BrokenImageError, ImageTooLargeError
from optidash_integrations.formats import Format
from optidash_integrations.limits import Limits

from .pictures import encoded, png_chunk, quarters, turned, with_chunk

NETSCAPE, ANIM = b"NETSCAPE2.0\x03\x01", b"ANIM\x06\0\0\0"
CLEAR, HALF_RED, HALF_BLUE = (0, 0, 0, 0), (255, 0, 0, 128), (0, 0, 255, 128)
RED, GREEN = (255, 0, 0, 255), (0, 255, 0, 255)


def pictures(count: int = 3, mode: str = "RGBA") -> list[Image.Image]:
    """Return pictures in which a square with a hole wanders over a clear ground."""
    made = []
    for number in range(count):
        image = Image.new("RGBA", (40, 20), CLEAR)
        image.paste((200, 40 * number, 0, 255), (4 * number, 2, 4 * number + 10, 12))
        image.paste(CLEAR, (4 * number + 4, 4, 4 * number + 7, 8))
        made.append(image.convert(mode))
    return made


def moving(
    name: str, delays: list[int] | None = None, loop: int | None = 0, mode: str = "RGBA"
) -> bytes:
    delays = delays or [100, 70, 250]
    first, *others = pictures(len(delays), mode)
    options = {} if loop is None else {"loop": loop}
    if name == "webp":
        options["lossless"] = True
    return encoded(
        first, name, save_all=True, append_images=others, duration=delays, disposal=2, **options
    )


def opened(data: bytes) -> animation.Animation:
    return animation.opened(data, probe(data, Limits()))


def remade(data: bytes, target: Format, work=lambda frame: frame) -> bytes:
    strip = animation.each_frame(opened(data), work, target)
    return encode(strip, Recipe(target, lossless=target is formats.WEBP))


def shown(data: bytes) -> Iterator[tuple[np.ndarray, int]]:
    """Yield each frame as Pillow shows it, and its delay in milliseconds."""
    with Image.open(io.BytesIO(data)) as image:
        for number in range(image.n_frames):
            image.seek(number)
            image.load()
            pixels = np.asarray(image.convert("RGBA").convert("RGBa"), dtype=int)
            yield pixels, round(image.info.get("duration", 0))


def as_array(image) -> np.ndarray:
    bands = bytes(image.write_to_memory())
    pixels = np.frombuffer(bytes(bands), np.uint8).reshape(image.height, image.width, image.bands)
    return pixels.astype(int)


def plays(data: bytes) -> int:
    """Return how often a file says that it is to be shown, 0 for ever: by its bytes."""
    if data.startswith(b"GIF"):
        at = data.find(NETSCAPE)
        if at < 0:
            return 1
        (repeats,) = struct.unpack_from("<H", data, at + len(NETSCAPE))
        return repeats + 1 if repeats else 0
    at = data.find(ANIM)
    return 1 if at < 0 else struct.unpack_from("<H", data, at + len(ANIM) + 4)[0]


# --- what is read


@pytest.mark.parametrize("name", ["gif", "webp", "png"])
def test_frames_and_delays_are_those_of_the_file(name: str) -> None:
    data = moving(name)
    found = opened(data)
    assert found.delays == (100, 70, 250)
    for frame, (expected, _) in zip(found.frames, shown(data), strict=True):
        made = frame if frame.hasalpha() else frame.addalpha()
        alike = np.where(expected[..., 3:] == 0, 0, as_array(made))
        assert np.abs(alike - expected).max() <= 1


@pytest.mark.parametrize(
    ("name", "loop", "times"),
    [
        ("gif", None, 1),  # shown once, without a word
        ("gif", 0, 0),
        ("gif", 1, 2),  # a GIF counts how often it is repeated
        ("gif", 4, 5),
        ("webp", 0, 0),
        ("webp", 1, 1),  # the others how often it is shown
        ("webp", 4, 4),
        ("png", 0, 0),
        ("png", 1, 1),
        ("png", 4, 4),
    ],
)
def test_loops_mean_the_same_in_every_format(name: str, loop: int | None, times: int) -> None:
    data = moving(name, loop=loop)
    assert opened(data).loop == times
    for target in animation.OUTPUTS:
        assert plays(remade(data, target)) == times


def test_a_still_picture_apart_is_no_frame() -> None:
    first, *others = pictures(4)
    data = encoded(first, save_all=True, append_images=others, default_image=True, duration=50)
    assert probe(data, Limits()).frames == 4
    assert opened(data).delays == (50, 50, 50)


def test_frames_of_an_avif_are_left_alone() -> None:
    data = encoded(quarters(), "avif", save_all=True, append_images=[quarters()])
    with pytest.raises(AnimatedImageError):
        opened(data)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_every_frame_is_turned_upright(orientation: int) -> None:
    still = Image.open(io.BytesIO(turned(orientation)))
    exif = still.getexif()
    for name in ("webp", "png"):
        options = {"lossless": True} if name == "webp" else {}
        data = encoded(
            still,
            name,
            save_all=True,
            append_images=[still.point(lambda v: 255 - v)],
            duration=100,
            exif=exif,
            **options,
        )
        frame, other = list(opened(data).frames)
        assert (frame.width, frame.height) == (other.width, other.height) == (80, 40)
        assert np.abs(as_array(frame)[5, 5, :3] - (255, 0, 0)).max() < 12
        assert np.abs(as_array(other)[5, 5, :3] - (0, 255, 255)).max() < 12


@pytest.mark.parametrize("name", ["gif", "webp", "png"])
def test_more_frames_or_pixels_than_allowed_are_refused_before_decoding(name: str) -> None:
    data = moving(name)
    for limits in (Limits(max_frames=2), Limits(max_pixels=40 * 20 * 3 - 1)):
        with pytest.raises(ImageTooLargeError):
            probe(data, limits)
    assert probe(data, Limits(max_frames=3, max_pixels=40 * 20 * 3)).frames == 3
    with pytest.raises(ImageTooLargeError):
        animation.check_result(4000, 4000, 4, Limits())


@pytest.mark.parametrize("name", ["webp", "png"])
def test_a_file_that_breaks_off_is_broken(name: str) -> None:
    data = moving(name, [100] * 6)
    with pytest.raises(BrokenImageError):
        list(opened(data[: len(data) * 2 // 3]).frames)


def test_a_gif_that_breaks_off_has_the_frames_before() -> None:
    data = moving("gif", [100] * 6)
    found = opened(data[: len(data) * 2 // 3])
    assert len(list(found.frames)) == len(found.delays) == 4


def test_what_the_frames_of_a_gif_leave_uncovered_is_clear() -> None:
    frames = [Image.new("P", (8, 8), colour) for colour in (0, 1)]
    for frame in frames:
        frame.putpalette((255, 0, 0, 0, 0, 255))
    data = encoded(frames[0], "gif", save_all=True, append_images=frames[1:], duration=100)
    wider = data[:6] + struct.pack("<HH", 12, 8) + data[10:]  # than its frames are
    found = opened(wider)
    assert found.delays == (100, 100)
    for frame in (as_array(frame) for frame in found.frames):
        assert frame.shape == (8, 12, 4)
        assert (frame[:, :8, 3] == 255).all()
        assert (frame[:, 8:] == CLEAR).all()


# --- APNG's own rules


def apng(*frames: tuple[tuple[int, int, int, int], Image.Image, int, int]) -> bytes:
    """Return an APNG of 8 x 4; each frame is a box, its pixels, how it is disposed of and blent."""
    header = struct.pack(">IIBBBBB", 8, 4, 8, 6, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), png_chunk(b"acTL", struct.pack(">II", len(frames), 0))]
    number = 0
    for at, (box, image, disposal, blending) in enumerate(frames):
        left, top, right, bottom = box
        size = right - left, bottom - top
        control = struct.pack(">5I2H2B", number, *size, left, top, 1, 0, disposal, blending)
        rows = (b"\0" + row.tobytes() for row in np.asarray(image.resize(size)))
        pixels = zlib.compress(b"".join(rows))
        chunks.append(png_chunk(b"fcTL", control))
        number += 1
        if at == 0:
            chunks.append(png_chunk(b"IDAT", pixels))
        else:
            chunks.append(png_chunk(b"fdAT", struct.pack(">I", number) + pixels))
            number += 1
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + png_chunk(b"IEND", b"")


def plain(colour: tuple[int, int, int, int]) -> Image.Image:
    return Image.new("RGBA", (1, 1), colour)


WHOLE, PART = (0, 0, 8, 4), (2, 1, 4, 3)
STAYS, TO_BACKGROUND, TO_PREVIOUS = 0, 1, 2
REPLACES, LIES_OVER = 0, 1


@pytest.mark.parametrize(
    ("disposal", "left_behind"),
    [(STAYS, GREEN), (TO_BACKGROUND, CLEAR), (TO_PREVIOUS, RED)],
)
def test_a_frame_is_disposed_of_as_it_says(
    disposal: int, left_behind: tuple[int, int, int, int]
) -> None:
    data = apng(
        (WHOLE, plain(RED), STAYS, REPLACES),
        (PART, plain(GREEN), disposal, REPLACES),
        ((7, 3, 8, 4), plain(RED), STAYS, REPLACES),
    )
    first, second, third = (as_array(frame) for frame in opened(data).frames)
    assert (first == RED).all()
    assert tuple(second[1, 2]) == GREEN
    assert tuple(second[0, 0]) == RED
    assert tuple(third[1, 2]) == left_behind
    assert tuple(third[0, 0]) == RED


@pytest.mark.parametrize(
    ("below", "blending", "seen"),
    [
        (RED, REPLACES, HALF_BLUE),
        (RED, LIES_OVER, (127, 0, 128, 255)),
        (HALF_RED, LIES_OVER, (85, 0, 170, 192)),
        (CLEAR, LIES_OVER, HALF_BLUE),
    ],
)
def test_a_frame_replaces_or_lies_over_what_is_there(
    below: tuple[int, int, int, int], blending: int, seen: tuple[int, int, int, int]
) -> None:
    data = apng((WHOLE, plain(below), STAYS, REPLACES), (PART, plain(HALF_BLUE), STAYS, blending))
    _, second = (as_array(frame) for frame in opened(data).frames)
    assert np.abs(second[1, 2] - seen).max() <= 1
    assert np.abs(second[0, 0] - below).max() <= 0


def test_a_delay_of_no_denominator_counts_hundredths() -> None:
    assert opened(apng((WHOLE, plain(RED), STAYS, REPLACES))).delays == (10,)


@pytest.mark.parametrize("box", [(7, 0, 9, 4), (0, 3, 8, 5)])
def test_a_frame_beyond_its_canvas_is_refused(box: tuple[int, int, int, int]) -> None:
    data = apng((WHOLE, plain(RED), STAYS, REPLACES), (box, plain(GREEN), STAYS, REPLACES))
    with pytest.raises(BrokenImageError, match="outside"):
        opened(data)


def test_an_apng_stays_grey_and_keeps_its_profile() -> None:
    images = [Image.new("L", (8, 4), value) for value in (10, 200)]
    data = encoded(images[0], save_all=True, append_images=images[1:], duration=100)
    assert [frame.bands for frame in opened(data).frames] == [2, 2]
    profile = grey_profile(1.8)
    frames = list(opened(with_chunk(data, b"iCCP", b"p\0\0" + zlib.compress(profile))).frames)
    assert [bytes(frame.get("icc-profile-data")) for frame in frames] == [profile, profile]


# --- what is made


@pytest.mark.parametrize("target", animation.OUTPUTS, ids=lambda target: target.name)
@pytest.mark.parametrize("name", ["gif", "webp", "png"])
def test_pixels_and_delays_come_out_as_they_went_in(name: str, target: Format) -> None:
    data = moving(name)
    for (made, delay), (expected, wanted) in zip(
        shown(remade(data, target)), shown(data), strict=True
    ):
        assert delay == wanted
        assert np.abs(made - expected).max() <= 1


def test_work_is_done_on_one_frame_after_the_other() -> None:
    sizes = []

    def halved(frame):
        sizes.append((frame.width, frame.height, frame.get_n_pages()))
        return frame.crop(10, 0, 20, 20).thumbnail_image(10, height=10, size="force")

    data = remade(moving("gif"), formats.WEBP, halved)
    assert sizes == [(40, 20, 1)] * 3
    with Image.open(io.BytesIO(data)) as image:
        assert (image.size, image.n_frames) == ((10, 10), 3)


def test_frames_of_different_bands_are_made_alike() -> None:
    opaque = iter([True, False, True])

    def worked(frame):
        return frame.flatten().colourspace("b-w") if next(opaque) else frame

    strip = animation.each_frame(opened(moving("webp")), worked, formats.WEBP)
    assert (strip.bands, strip.height, strip.get_page_height()) == (4, 60, 20)


def test_a_gif_is_never_late_by_more_than_a_hundredth() -> None:
    delays = (33, 33, 34, 33, 17, 45, 101)
    told = animation.timed_for(animation.Animation(iter(()), delays, 0), formats.GIF).delays
    assert all(delay % 10 == 0 for delay in told)
    for at in range(len(delays)):
        assert abs(sum(delays[:at]) - sum(told[:at])) <= 10


def test_no_frame_of_a_gif_becomes_so_short_that_browsers_slow_it_down() -> None:
    told = animation.timed_for(
        animation.Animation(iter(()), (17, 17, 17, 10, 0), 0), formats.GIF
    ).delays
    assert min(told[:3]) >= 20
    assert told[4] == 0


def test_the_first_frame_is_had_on_request() -> None:
    frame = animation.first_frame(moving("png"), probe(moving("png"), Limits()))
    assert (frame.width, frame.height) == (40, 20)


def test_a_strip_tells_of_its_frames() -> None:
    data = moving("png", loop=3)
    strip = animation.whole_strip(data, probe(data, Limits()))
    assert (strip.height, strip.get_page_height()) == (60, 20)
    assert (strip.get("loop"), strip.get("delay")) == (3, [100, 70, 250])
