from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from optidash_integrations import formats
from optidash_integrations.engine.probe import probe
from optidash_integrations.errors import (
    BrokenImageError,
    ImageError,
    ImageTooLargeError,
    SourceNotFoundError,
    UnsupportedImageError,
)
from optidash_integrations.limits import Limits

from .pictures import encoded, png_chunk, quarters, turned


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "gif", "tiff", "avif"])
def test_a_header_tells_format_and_size(name: str) -> None:
    data = encoded(quarters(), name)
    found = probe(data, Limits())
    assert found.format is formats.BY_NAME[name]
    assert (found.width, found.height, found.frames, found.bytes) == (80, 40, 1, len(data))
    assert not found.has_profile
    assert not found.has_position


@pytest.mark.parametrize("name", ["bmp", "ico", "jpeg2000"])
def test_a_header_of_what_pillow_reads_is_told_too(name: str, tmp_path: Path) -> None:
    data = encoded(quarters(), name, sizes=[(80, 40)])
    file = tmp_path / "picture.png"
    file.write_bytes(data)
    for source in (data, file):
        found = probe(source, Limits())
        assert found.format is formats.BY_NAME.get(name, formats.JP2)
        assert (found.width, found.height, found.frames, found.bytes) == (80, 40, 1, len(data))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_upright_size_follows_the_orientation(orientation: int) -> None:
    found = probe(turned(orientation), Limits())
    assert found.orientation == orientation
    assert (found.upright_width, found.upright_height) == (80, 40)


def test_a_header_tells_alpha_palette_grey_and_profile() -> None:
    assert probe(encoded(quarters(mode="RGBA")), Limits()).alpha
    assert probe(encoded(quarters(mode="P")), Limits()).palette
    assert probe(encoded(quarters(mode="L")), Limits()).grey
    assert probe(encoded(quarters(mode="CMYK"), "jpeg"), Limits()).cmyk
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert probe(encoded(quarters(), icc_profile=profile), Limits()).has_profile


@pytest.mark.parametrize("name", ["gif", "webp", "png"])
def test_frames_are_counted_also_of_an_animated_png(name: str) -> None:
    others = [Image.new("RGB", (80, 40), (n, 0, 0)) for n in (10, 90)]
    data = encoded(quarters(), name, save_all=True, append_images=others)
    assert probe(data, Limits()).frames == 3
    with pytest.raises(ImageTooLargeError, match="3 frames"):
        probe(data, Limits(max_frames=2))


def test_an_animated_png_of_one_frame_counts_its_still_picture_too() -> None:
    png = encoded(quarters())
    control = png_chunk(b"acTL", (1).to_bytes(4, "big") + bytes(4))
    assert probe(png[:33] + control + png[33:], Limits()).frames == 2


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(max_input_bytes=50), "max_input_bytes"),
        (Limits(max_pixels=3199), "max_pixels"),
    ],
)
def test_what_is_past_a_limit_is_refused(limits: Limits, says: str, tmp_path: Path) -> None:
    data = encoded(quarters())
    file = tmp_path / "quarters.png"
    file.write_bytes(data)
    for source in (data, file):
        with pytest.raises(ImageTooLargeError, match=says):
            probe(source, limits)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", BrokenImageError),
        (b"<!doctype html>", UnsupportedImageError),
        (b'<svg xmlns="http://www.w3.org/2000/svg" width="5" height="5"/>', UnsupportedImageError),
        (b"\0\0\0\x0cJXL \r\n\x87\n", UnsupportedImageError),
        (b"BM, the beginning of a sentence", BrokenImageError),
        (encoded(quarters())[:30], BrokenImageError),
        (encoded(quarters(), "webp")[:40], BrokenImageError),
        (b"\xff\xd8\xff\xe0 no picture", BrokenImageError),
    ],
    ids=["empty", "html", "svg", "jxl", "bmp", "cut png", "cut webp", "jpeg"],
)
def test_what_is_no_image_for_the_engine_is_refused_by_type(
    data: bytes, error: type[ImageError]
) -> None:
    with pytest.raises(error):
        probe(data, Limits())


def test_a_size_is_refused_before_anything_is_decoded() -> None:
    png = encoded(Image.new("1", (20_000, 20_000)))
    with pytest.raises(ImageTooLargeError, match="20000 x 20000"):
        probe(png, Limits())


def test_a_file_is_opened_under_its_own_name(tmp_path: Path) -> None:
    file = tmp_path / "a[page=7].png"
    file.write_bytes(encoded(quarters()))
    assert probe(file, Limits()).width == 80
    with pytest.raises(SourceNotFoundError):
        probe(tmp_path / "b.png", Limits())


def test_a_position_in_the_metadata_is_told() -> None:
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (48.0, 51.0, 29.0), 3: "E", 4: (2.0, 17.0, 40.0)}
    assert probe(encoded(quarters(), "jpeg", exif=exif), Limits()).has_position
