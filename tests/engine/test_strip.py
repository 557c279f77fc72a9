from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from optidash_integrations import formats
from optidash_integrations.engine.strip import has_position, png_pictures, without_position
from optidash_integrations.errors import BrokenImageError, UnsupportedImageError
from optidash_integrations.formats import Format

from .pictures import encoded, png_chunk, quarters

THREE = [formats.JPEG, formats.PNG, formats.WEBP]
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><exif:GPSLatitude>48,51N</exif:GPSLatitude>'


def private_exif(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Private"
    exif[0x8825] = {1: "N", 2: (48.0, 51.0, 29.0), 3: "E", 4: (2.0, 17.0, 40.0)}
    return exif


def private(output: Format, orientation: int = 1) -> bytes:
    options: dict[str, object] = {"exif": private_exif(orientation), "icc_profile": PROFILE}
    if output is formats.PNG:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("Comment", "Private")
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    else:
        options["xmp"] = XMP
    if output is formats.JPEG:
        options["comment"] = b"Private"
    return encoded(quarters(), "jpeg" if output is formats.JPEG else output.name, **options)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


@pytest.mark.parametrize("image_format", THREE, ids=lambda f: f.name)
@pytest.mark.parametrize("orientation", [1, 6])
def test_private_metadata_goes_and_the_picture_stays(
    image_format: Format, orientation: int
) -> None:
    source = private(image_format, orientation)
    assert has_position(source, image_format)
    stripped = without_position(source, image_format)
    assert not has_position(stripped, image_format)
    assert b"Private" not in stripped
    assert b"GPSLatitude" not in stripped
    assert np.array_equal(pixels(stripped), pixels(source))
    image = Image.open(io.BytesIO(stripped))
    assert image.info["icc_profile"] == PROFILE
    assert dict(image.getexif()) == ({0x0112: orientation} if orientation != 1 else {})


@pytest.mark.parametrize("image_format", THREE, ids=lambda f: f.name)
def test_a_file_without_private_metadata_comes_back_as_it_is(image_format: Format) -> None:
    source = encoded(quarters(), "jpeg" if image_format is formats.JPEG else image_format.name)
    assert without_position(source, image_format) == source
    stripped = without_position(private(image_format, 6), image_format)
    assert without_position(stripped, image_format) == stripped


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_all_scans_of_a_jpeg_and_adobes_marker_are_kept(mode: str, progressive: bool) -> None:
    source = encoded(
        quarters(mode=mode), "jpeg", exif=private_exif(), progressive=progressive, quality=95
    )
    stripped = without_position(source, formats.JPEG)
    assert np.array_equal(pixels(stripped), pixels(source))
    assert (b"Adobe" in stripped) == (b"Adobe" in source)


def test_what_lies_behind_a_jpeg_goes_too() -> None:
    plain = encoded(quarters(), "jpeg")
    assert without_position(plain + b"film with a position", formats.JPEG) == plain


@pytest.mark.parametrize("kind", [b"APP1", b"APP13"])
def test_iptc_and_empty_segments_go(kind: bytes) -> None:
    plain = encoded(quarters(), "jpeg")
    marker = {b"APP1": 0xE1, b"APP13": 0xED}[kind]
    segment = struct.pack(">BBH", 0xFF, marker, 2 + 14) + b"Photoshop 3.0\0"
    assert without_position(plain[:2] + segment + plain[2:], formats.JPEG) == plain


def test_an_animated_png_keeps_its_frames() -> None:
    other = Image.new("RGB", (80, 40))
    source = encoded(quarters(), "png", save_all=True, append_images=[other], exif=private_exif())
    stripped = without_position(source, formats.PNG)
    assert png_pictures(source) == png_pictures(stripped) == 2
    assert Image.open(io.BytesIO(stripped)).n_frames == 2


def test_an_animated_webp_keeps_its_frames() -> None:
    other = Image.new("RGB", (80, 40))
    source = encoded(
        quarters(), "webp", save_all=True, append_images=[other], exif=private_exif().tobytes()
    )
    stripped = without_position(source, formats.WEBP)
    assert b"Private" not in stripped
    assert Image.open(io.BytesIO(stripped)).n_frames == 2


@pytest.mark.parametrize("image_format", THREE, ids=lambda f: f.name)
def test_a_file_cut_anywhere_comes_back_as_far_as_it_goes_or_is_broken(
    image_format: Format,
) -> None:
    source = private(image_format, 6)
    for length in range(len(source)):
        try:
            stripped = without_position(source[:length], image_format)
        except BrokenImageError:
            continue
        assert b"Private" not in stripped


@pytest.mark.parametrize("image_format", THREE, ids=lambda f: f.name)
def test_damaged_bytes_never_end_in_another_error(image_format: Format) -> None:
    source = private(image_format, 6)
    generator = np.random.default_rng(1)
    for _ in range(300):
        damaged = bytearray(source)
        for at in generator.integers(0, len(source), 5):
            damaged[at] = generator.integers(0, 256)
        for look in (without_position, has_position):
            try:
                look(bytes(damaged), image_format)
            except BrokenImageError:
                continue


def test_a_cut_scan_keeps_every_byte_of_it() -> None:
    source = private(formats.JPEG)
    scan = source.index(b"\xff\xda")
    cut = source[: scan + 60]
    assert without_position(cut, formats.JPEG).endswith(source[scan : scan + 60])


def test_an_unknown_chunk_of_a_png_goes() -> None:
    plain = encoded(quarters())
    source = plain[:33] + png_chunk(b"prVt", b"Private") + plain[33:]
    assert without_position(source, formats.PNG) == plain


def test_other_formats_are_refused_by_type() -> None:
    for look in (without_position, has_position):
        with pytest.raises(UnsupportedImageError, match="AVIF"):
            look(encoded(quarters(), "avif"), formats.AVIF)


def test_a_file_in_very_many_pieces_is_refused_at_once() -> None:
    comments = b"\xff\xfe\x00\x02" * 100_000
    with pytest.raises(BrokenImageError, match="pieces"):
        without_position(b"\xff\xd8" + comments + b"\xff\xd9", formats.JPEG)
