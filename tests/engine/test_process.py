from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, ImageSequence

from optidash_integrations import formats
from optidash_integrations.engine.heap import Heap
from optidash_integrations.engine.process import process
from optidash_integrations.errors import (
    AnimatedImageError,
    BrokenImageError,
    ForkedTooLateError,
    ImageTooLargeError,
    OptionError,
    ProcessorError,
)
from optidash_integrations.formats import Format
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.variants import ImageInfo, Variant

from .pictures import (
    BLUE,
    GREEN,
    RED,
    WHITE,
    corners,
    encoded,
    is_near,
    noise,
    opened,
    quarters,
    seen,
    turned,
)

LIMITS = Limits()
ALL = [formats.JPEG, formats.PNG, formats.WEBP, formats.AVIF, formats.GIF, formats.JP2]


def made(
    source: bytes | Path,
    document: dict[str, object] | None = None,
    output: Format | None = None,
    limits: Limits = LIMITS,
) -> Variant:
    return process(source, Operations.from_dict(document or {}), output, limits)


@pytest.mark.parametrize("output", ALL, ids=lambda output: output.name)
@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "gif", "tiff", "avif", "bmp", "jpeg2000"])
def test_every_format_read_becomes_every_format_written(name: str, output: Format) -> None:
    variant = made(encoded(quarters(), name), {"resize": {"width": 40}}, output)
    assert formats.detect(variant.content) is output
    assert variant.content_type == output.media_type
    assert (variant.width, variant.height) == opened(variant).size == (40, 20)
    for pixel, colour in zip(corners(opened(variant)), (RED, GREEN, BLUE, WHITE), strict=True):
        assert is_near(pixel, colour, 40)


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("jpeg", "jpg"),
        ("png", "png"),
        ("webp", "webp"),
        ("gif", "gif"),
        ("avif", "avif"),
        ("tiff", "jpg"),
    ],
)
def test_the_format_stays_where_browsers_show_it(name: str, output: str) -> None:
    variant = made(encoded(quarters(), name), {"resize": {"width": 20}})
    assert formats.detect(variant.content) is formats.BY_NAME[output]


def test_the_format_given_by_the_caller_wins_over_the_operations() -> None:
    png = encoded(quarters())
    document = {"output": {"format": "webp"}}
    assert made(png, document).content_type == "image/webp"
    assert made(png, document, formats.JPEG).content_type == "image/jpeg"


def test_a_format_that_is_not_written_is_an_option_error() -> None:
    with pytest.raises(OptionError, match=r"output\.format"):
        made(encoded(quarters()), {}, formats.HEIC)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "document",
    [
        {},
        {"resize": {"width": 40}},
        {"resize": {"mode": "exact", "width": 40, "height": 40}},
        {"crop": {"x": 0, "y": 0, "width": 80, "height": 40}, "resize": {"width": 60}},
    ],
    ids=["as it is", "resized", "exact", "cropped"],
)
def test_all_eight_orientations_come_out_upright(
    orientation: int, document: dict[str, object]
) -> None:
    image = opened(made(turned(orientation), document, formats.PNG))
    assert image.width >= image.height
    for pixel, colour in zip(corners(image), (RED, GREEN, BLUE, WHITE), strict=True):
        assert is_near(pixel, colour, 24)


@pytest.mark.parametrize(
    ("gravity", "colours"),
    [
        ("top-left", {RED}),
        ("top-right", {GREEN}),
        ("bottom-left", {BLUE}),
        ("bottom-right", {WHITE}),
    ],
)
def test_a_crop_takes_the_part_that_its_gravity_names(
    gravity: str, colours: set[tuple[int, int, int]]
) -> None:
    document = {"crop": {"width": 30, "height": 15, "gravity": gravity}}
    image = opened(made(encoded(quarters()), document))
    assert image.size == (30, 15)
    assert {image.convert("RGB").getpixel((x, y)) for x in (0, 29) for y in (0, 14)} == colours


@pytest.mark.parametrize(
    ("gravity", "colour"), [("left", RED), ("right", GREEN), ("bottom-left", BLUE)]
)
def test_a_fit_cuts_what_does_not_fit_by_gravity(
    gravity: str, colour: tuple[int, int, int]
) -> None:
    tall = {"mode": "fit", "width": 10, "height": 40, "gravity": gravity}
    image = opened(made(encoded(quarters()), {"resize": tall}))
    assert image.size == (10, 40)
    y = 38 if "bottom" in gravity else 1
    assert image.convert("RGB").getpixel((1, y)) == colour


@pytest.mark.parametrize("gravity", ["smart", "entropy"])
def test_a_search_finds_the_part_with_something_in_it(gravity: str) -> None:
    image = Image.new("RGB", (300, 100), (240, 240, 240))
    image.paste(noise(60, 60), (230, 20))
    resize = {"mode": "fit", "width": 100, "height": 100, "gravity": gravity}
    found = opened(made(encoded(image), {"resize": resize}))
    assert found.size == (100, 100)
    assert np.asarray(found.convert("L"), dtype=float).std() > 20


@pytest.mark.parametrize("output", ALL, ids=lambda output: output.name)
def test_bars_are_transparent_or_white_unless_a_colour_is_given(output: Format) -> None:
    box = {"mode": "pad", "width": 80, "height": 80}
    image = opened(made(encoded(quarters()), {"resize": box}, output)).convert("RGBA")
    assert image.size == (80, 80)
    if output.alpha:
        assert image.getpixel((40, 2))[3] < 3
    else:
        assert is_near(image.getpixel((40, 2)), (*WHITE, 255), 3)
    coloured = {"resize": {**box, "background": "0000ff"}}
    image = opened(made(encoded(quarters()), coloured, output)).convert("RGBA")
    assert is_near(image.getpixel((40, 2)), (*BLUE, 255), 12)
    assert is_near(image.getpixel((2, 24)), (*RED, 255), 40)


def test_a_grey_picture_gets_coloured_bars_where_asked() -> None:
    box = {"mode": "pad", "width": 80, "height": 80, "background": "ff0000"}
    image = opened(made(encoded(quarters(mode="L")), {"resize": box}))
    assert is_near(image.convert("RGB").getpixel((40, 2)), RED)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_white_or_the_background_where_there_is_none(mode: str) -> None:
    clear = Image.new(mode, (20, 20))
    assert is_near(
        opened(made(encoded(clear), {}, formats.JPEG)).convert("RGB").getpixel((5, 5)), WHITE, 2
    )
    document = {"output": {"background": "ff0000"}}
    image = opened(made(encoded(clear), document, formats.JPEG)).convert("RGB")
    assert is_near(image.getpixel((5, 5)), RED, 4)


def test_transparent_pixels_do_not_bleed_into_their_neighbours() -> None:
    image = Image.new("RGBA", (64, 64), (0, 255, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 31, 64))
    small = np.asarray(opened(made(encoded(image), {"resize": {"width": 16}})).convert("RGBA"))
    seen = small[small[..., 3] > 16]
    assert seen[:, 1].max() < 16


def test_an_alpha_channel_that_hides_nothing_is_dropped() -> None:
    assert seen(made(encoded(quarters(mode="RGBA")))).mode == "RGB"


def test_grey_stays_grey() -> None:
    for output in (formats.JPEG, formats.PNG):
        assert opened(made(encoded(quarters(mode="L")), {}, output)).mode == "L"


def test_sixteen_bits_become_eight() -> None:
    image = Image.fromarray(np.full((8, 8), 0x8080, dtype=np.uint16))
    result = opened(made(encoded(image), {"resize": {"width": 6}}))
    assert result.mode == "L"
    assert result.getpixel((4, 4)) == 0x80


def test_cmyk_becomes_rgb() -> None:
    result = opened(made(encoded(quarters(mode="CMYK"), "jpeg", quality=95)))
    assert result.mode == "RGB"
    red, green, blue, white = corners(result)
    assert red[0] > 150 > red[2]
    assert green[1] > 120 > green[0]
    assert blue[2] > 100 > blue[0]
    assert is_near(white, WHITE, 4)


def test_a_profile_is_converted_and_dropped() -> None:
    xyz = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    result = opened(made(encoded(quarters(), "jpeg", icc_profile=xyz, quality=95), {}, formats.PNG))
    assert "icc_profile" not in result.info
    assert is_near(corners(result)[0], RED)


def test_metadata_does_not_survive() -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif[0x8825] = {1: "N", 2: (48.0, 51.0, 29.0)}
    source = encoded(quarters(), "jpeg", exif=exif, comment=b"Maker")
    for output in ALL:
        content = made(source, {"resize": {"width": 40}}, output).content
        assert b"Maker" not in content
        assert not opened(made(source, {}, output)).getexif()


def moving(name: str) -> bytes:
    """Return three frames: four colours, black, and four colours mirrored."""
    mirrored = quarters().transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    frames = [Image.new("RGB", (80, 40)), mirrored]
    options = {"lossless": True} if name == "webp" else {}
    return encoded(
        quarters(), name, save_all=True, append_images=frames, duration=[70, 200, 40], **options
    )


def frames_of(variant: Variant) -> list[Image.Image]:
    image = opened(variant)
    return [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]


@pytest.mark.parametrize("name", ["gif", "webp", "png"])
@pytest.mark.parametrize("output", [formats.JPEG, formats.PNG, formats.AVIF], ids=lambda f: f.name)
def test_an_animation_is_never_flattened(name: str, output: Format) -> None:
    with pytest.raises(AnimatedImageError):
        made(moving(name), {"resize": {"width": 40}}, output)


@pytest.mark.parametrize("name", ["gif", "webp", "png"])
@pytest.mark.parametrize("output", [formats.GIF, formats.WEBP], ids=lambda f: f.name)
def test_an_animation_stays_one(name: str, output: Format) -> None:
    variant = made(moving(name), {"resize": {"width": 40}}, output)
    assert (variant.width, variant.height) == (40, 20)
    first, second, third = frames_of(variant)
    assert all(map(is_near, corners(first), [RED, GREEN, BLUE, WHITE], [30] * 4))
    assert all(is_near(pixel, (0, 0, 0), 30) for pixel in corners(second))
    assert all(map(is_near, corners(third), [GREEN, RED, WHITE, BLUE], [30] * 4))
    told = opened(variant)
    durations = []
    for frame in ImageSequence.Iterator(told):
        frame.load()  # Pillow tells a WebP's time only then
        durations.append(frame.info["duration"])
    assert durations == [70, 200, 40]


@pytest.mark.parametrize("name", ["gif", "webp", "png"])
@pytest.mark.parametrize("output", [formats.JPEG, formats.WEBP], ids=lambda f: f.name)
def test_only_who_asks_for_a_still_picture_gets_the_first_frame(name: str, output: Format) -> None:
    document = {"output": {"animated": False}, "resize": {"width": 40}}
    result = opened(made(moving(name), document, output))
    assert getattr(result, "n_frames", 1) == 1
    assert all(map(is_near, corners(result), [RED, GREEN, BLUE, WHITE], [30] * 4))


def test_every_operation_is_done_to_every_frame() -> None:
    document = {
        "resize": {"mode": "fit", "width": 30, "height": 30, "gravity": "smart"},
        "rotate": {"angle": 90},
        "auto": {"enhance": True},
        "border": {"size": 2, "color": "lime"},
        "filter": {"grayscale": True},
    }
    variant = made(moving("webp"), document)
    assert (variant.width, variant.height) == (34, 34)
    for frame in frames_of(variant):
        assert is_near(frame.getpixel((0, 17)), (0, 255, 0), 30)
        red, green, blue = frame.getpixel((12, 12))
        assert max(red, green, blue) - min(red, green, blue) < 20


@pytest.mark.parametrize(
    "document",
    [{}, {"resize": {"width": 100}}, {"crop": {"width": 300, "height": 300, "gravity": "bottom"}}],
    ids=["as it is", "resized", "cropped"],
)
@pytest.mark.parametrize(("name", "progressive"), [("jpeg", False), ("jpeg", True), ("png", False)])
def test_a_file_that_breaks_off_is_broken(
    name: str, progressive: bool, document: dict[str, object]
) -> None:
    whole = encoded(noise(400, 300), name, progressive=progressive)
    with pytest.raises(BrokenImageError):
        made(whole[: len(whole) // 2], document)


def test_a_jpeg_that_only_lacks_its_end_marker_is_whole() -> None:
    source = encoded(quarters(), "jpeg")
    assert source.endswith(b"\xff\xd9")
    assert made(source[:-2]).width == 80


def test_limits_hold_before_and_after() -> None:
    png = encoded(quarters())
    with pytest.raises(ImageTooLargeError):
        made(png, {}, None, Limits(max_pixels=3199))
    variant = made(png, {}, None, Limits(max_width=40, max_height=40))
    assert (variant.width, variant.height) == (40, 20)


def test_a_side_that_the_format_can_not_have_is_scaled_down() -> None:
    limits = Limits(max_width=20_000, max_height=20_000)
    variant = made(encoded(Image.new("RGB", (20_000, 4))), {}, formats.WEBP, limits)
    assert variant.width == 16_383


@pytest.mark.parametrize("output", [formats.WEBP, formats.AVIF, formats.PNG])
@pytest.mark.parametrize(
    "document", [{"output": {"lossless": True}}, {"optimize": {"compression": "lossless"}}]
)
def test_lossless_changes_no_pixel(output: Format, document: dict[str, object]) -> None:
    image = noise(40, 30)
    variant = made(encoded(image), document, output)
    assert np.array_equal(np.asarray(opened(variant).convert("RGB")), np.asarray(image))


def test_lossless_compression_keeps_the_profile() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = encoded(quarters(), icc_profile=profile)
    variant = made(source, {"optimize": {"compression": "lossless"}}, formats.WEBP)
    assert opened(variant).info["icc_profile"] == profile


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("orientation", [1, 6, 8])
@pytest.mark.parametrize(
    "size", [(960, 640), (1176, 784), (1199, 801), (1180, 787), (2384, 1592), (4784, 3184)]
)
def test_a_jpeg_that_its_decoder_makes_smaller_shows_the_same(
    size: tuple[int, int], orientation: int, mode: str
) -> None:
    """Sizes that can be divided and such that can't, below four, eight and sixteen results."""
    coarse = noise(12, 8).resize(size, Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = encoded(coarse.convert(mode), "jpeg", quality=95, exif=exif)
    document: dict[str, object] = {"resize": {"width" if orientation == 1 else "height": 300}}
    result = opened(made(source, document, formats.PNG))
    with Image.open(io.BytesIO(source)) as image:
        upright = ImageOps.exif_transpose(image).convert(result.mode)
    wanted = upright.resize(result.size, Image.Resampling.LANCZOS)
    assert max(result.size) == 300
    assert result.mode == mode
    assert np.abs(np.asarray(result, float) - np.asarray(wanted, float)).mean() < 1


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_made_lossless_keeps_its_coded_pixels(orientation: int) -> None:
    source = turned(orientation)
    variant = made(source, {"optimize": {"compression": "lossless"}})
    stored = [np.asarray(Image.open(io.BytesIO(each))) for each in (source, variant.content)]
    assert np.array_equal(*stored)
    assert len(variant.content) <= len(source)
    assert (variant.width, variant.height) == (80, 40)


def test_a_lower_target_gives_fewer_bytes_and_quality_beats_it() -> None:
    source = encoded(noise(100, 100))
    for output in (formats.JPEG, formats.WEBP, formats.AVIF):
        sizes = [
            len(made(source, {"optimize": {"compression": level}}, output).content)
            for level in ("low", "medium", "high")
        ]
        assert sizes == sorted(sizes, reverse=True)
        forced = {"optimize": {"compression": "low"}, "output": {"quality": 10}}
        assert len(made(source, forced, output).content) < sizes[-1]


def test_jpegs_are_progressive_unless_baseline_is_asked_for() -> None:
    source = encoded(quarters())
    assert opened(made(source, {}, formats.JPEG)).info.get("progressive")
    baseline = made(source, {"output": {"encoding": "baseline"}}, formats.JPEG)
    assert not opened(baseline).info.get("progressive")


def test_the_metadata_of_source_and_result_are_told() -> None:
    source = turned(6)
    variant = made(source, {"resize": {"width": 40}})
    told = variant.metadata
    assert told.input == ImageInfo(
        format="JPEG",
        width=80,
        height=40,
        colorspace="YCbCr",
        interlaced=False,
        sampling="4:4:4",
        depth=24,
        bytes=len(source),
        sha1=hashlib.sha1(source).hexdigest(),
    )
    assert told.output.sampling == "4:2:0"
    assert told.output.interlaced is True
    assert 50 < told.output.quality < 95
    assert (told.output.width, told.output.height) == (40, 20)
    assert told.output.sha1 == hashlib.sha1(variant.content).hexdigest()
    exact = {"optimize": {"compression": "lossless"}}
    png = made(encoded(noise(40, 40)), exact, formats.PNG).metadata.output
    assert (png.colorspace, png.depth, png.quality) == ("sRGB", 24, None)
    assert png.sampling is None


def test_a_file_is_processed_under_its_own_name(tmp_path: Path) -> None:
    file = tmp_path / "a[shrink=8].jpg"
    file.write_bytes(encoded(quarters(), "jpeg"))
    assert made(file).width == 80
    with pytest.raises(ImageTooLargeError):
        made(file, {}, None, Limits(max_input_bytes=100))


@pytest.mark.parametrize("fails", [False, True])
def test_memory_is_counted_when_the_picture_no_longer_needs_it(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    order: list[str] = []

    def written(*_: object) -> bytes:
        order.append("written")
        if fails:
            raise ProcessorError("no pixels")
        return encoded(quarters())

    monkeypatch.setattr("optidash_integrations.engine.process.encode", written)
    heap = Heap(lambda _: order.append("given back"), between=1)
    monkeypatch.setattr("optidash_integrations.engine.process.HEAP", heap)
    with pytest.raises(ProcessorError) if fails else nullcontext():
        made(encoded(quarters()), {})
    assert order == ["written", "given back"]


def test_threads_get_the_same_bytes_as_one_alone() -> None:
    source = encoded(noise(200, 150), "jpeg")
    documents = [{"resize": {"width": width}} for width in range(40, 56)]
    alone = [made(source, document).content for document in documents]
    with ThreadPoolExecutor(4) as pool:
        assert [v.content for v in pool.map(lambda d: made(source, d), documents)] == alone


def fork_and_process(before: bool, pipe: object) -> None:
    """Process in a child forked from here, after pixels were worked on or only a header read."""
    from optidash_integrations.engine.probe import probe

    source = encoded(quarters())
    if before:
        made(source)
    else:
        probe(source, Limits())
    child = os.fork()
    if child == 0:
        code = 1
        try:
            made(source)
            code = 10
        except ForkedTooLateError:
            code = 20
        finally:
            os._exit(code)
    pipe.send(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


@pytest.mark.parametrize(("before", "code"), [(False, 10), (True, 20)])
def test_a_child_forked_after_pixels_were_worked_on_says_so(before: bool, code: int) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=fork_and_process, args=(before, theirs), daemon=True)
    process.start()
    try:
        assert ours.poll(60)
        assert ours.recv() == code
    finally:
        process.kill()
        process.join()
