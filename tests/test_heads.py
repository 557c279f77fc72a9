from __future__ import annotations

import gc
import io
import struct
import warnings
import zlib
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from optidash_integrations import formats
from optidash_integrations.errors import (
    BrokenImageError,
    ImageError,
    ImageTooLargeError,
    SourceNotFoundError,
    UnsupportedImageError,
)
from optidash_integrations.heads import probe
from optidash_integrations.limits import Limits
from optidash_integrations.probes import Probe
from tests.engine.pictures import encoded, noise, png_chunk, quarters, turned, with_chunk

engine_probe = pytest.importorskip("optidash_integrations.engine.probe").probe

NAMES = ("jpeg", "png", "webp", "gif", "tiff", "avif")
LIMITS = Limits()
GPS = {1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)}
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF>%s</rdf:RDF></x:xmpmeta>'


def differences(data: bytes) -> dict[str, tuple[object, object]]:
    """Return what libvips says of an image and Pillow says otherwise."""
    one, other = engine_probe(data, LIMITS), probe(data, LIMITS)
    pairs = {
        spec.name: (getattr(one, spec.name), getattr(other, spec.name)) for spec in fields(Probe)
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def frames(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (80, 40), (n * 40, 0, 200)) for n in range(count)]


def moving(name: str, count: int = 3, **options: object) -> bytes:
    first, *others = frames(count)
    return encoded(first, name, save_all=True, append_images=others, **options)


def exif_of(orientation: int = 1, gps: dict[int, object] | None = None) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    if gps is not None:
        exif[0x8825] = gps
    return exif


def png_head(width: int, height: int) -> bytes:
    """Return a PNG that has hardly more than a header."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", b"x"), png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


# The same answers as the engine's


@pytest.mark.parametrize("name", NAMES)
def test_a_header_tells_format_and_size(name: str) -> None:
    data = encoded(quarters(), name)
    found = probe(data, LIMITS)
    assert found.format is formats.BY_NAME[name]
    assert (found.width, found.height, found.frames, found.bytes) == (80, 40, 1, len(data))
    assert differences(data) == {}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_of_a_jpeg_are_told_alike(orientation: int) -> None:
    found = probe(turned(orientation), LIMITS)
    assert found.orientation == orientation
    assert (found.upright_width, found.upright_height) == (80, 40)
    assert differences(turned(orientation)) == {}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["png", "webp", "tiff", "avif"])
def test_all_orientations_of_other_formats_are_told_alike(name: str, orientation: int) -> None:
    """Pillow turns the size of a TIFF by itself, and tells an AVIF's rotation as EXIF's."""
    data = encoded(quarters(), name, exif=exif_of(orientation))
    assert differences(data) == {}
    assert probe(data, LIMITS).orientation == (1 if name == "avif" else orientation)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_not_defined_counts_as_none(orientation: int) -> None:
    for name in ("jpeg", "png", "tiff"):
        data = encoded(quarters(), name, exif=exif_of(orientation))
        assert probe(data, LIMITS).orientation == 1


def test_an_orientation_of_xmp_alone_does_not_count() -> None:
    xmp = XMP % b'<rdf:Description tiff:Orientation="6"/>'
    assert probe(encoded(quarters(), "jpeg", xmp=xmp), LIMITS).orientation == 1


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("png", "1"),
        ("png", "L"),
        ("png", "LA"),
        ("png", "P"),
        ("png", "RGB"),
        ("png", "RGBA"),
        ("png", "I;16"),
        ("gif", "L"),
        ("gif", "P"),
        ("gif", "1"),
        ("jpeg", "L"),
        ("jpeg", "RGB"),
        ("jpeg", "CMYK"),
        ("webp", "RGBA"),
        ("webp", "L"),
        ("tiff", "1"),
        ("tiff", "L"),
        ("tiff", "P"),
        ("tiff", "RGBA"),
        ("tiff", "CMYK"),
        ("tiff", "I;16"),
        ("avif", "RGBA"),
        ("avif", "L"),
    ],
)
def test_colours_and_transparency_are_told_alike(name: str, mode: str) -> None:
    image = Image.new("I;16", (80, 40)) if mode == "I;16" else quarters(mode=mode)
    found = differences(encoded(image, name))
    if (name, mode) in {("avif", "L"), ("tiff", "P")}:
        found.pop("grey", None)  # libvips and Pillow decode these into other colours
        found.pop("palette", None)
    assert found == {}


def test_a_transparent_colour_of_a_palette_is_transparency() -> None:
    for name in ("png", "gif"):
        image = quarters(mode="P")
        data = encoded(image, name, transparency=image.getpixel((0, 0)))
        assert probe(data, LIMITS).alpha
        assert differences(data) == {}


def test_a_16_bit_grey_png_with_transparency_is_grey() -> None:
    header = struct.pack(">IIBBBBB", 1, 1, 16, 4, 0, 0, 0)
    pixels = png_chunk(b"IDAT", zlib.compress(b"\0" * 5))
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + pixels + png_chunk(b"IEND", b"")
    assert (probe(data, LIMITS).grey, probe(data, LIMITS).alpha) == (True, True)
    assert differences(data) == {}


@pytest.mark.parametrize("name", ["gif", "webp", "png"])
def test_frames_are_counted_alike(name: str) -> None:
    data = moving(name)
    assert probe(data, LIMITS).frames == 3
    assert probe(data, LIMITS).is_animated
    assert differences(data) == {}
    with pytest.raises(ImageTooLargeError, match="3 frames"):
        probe(data, Limits(max_frames=2))


def test_an_animated_png_counts_its_still_picture_too() -> None:
    data = moving("png", default_image=True)
    assert probe(data, LIMITS).frames == 3
    assert differences(data) == {}


def test_pages_of_a_tiff_are_no_frames() -> None:
    data = moving("tiff", 4)
    assert (probe(data, LIMITS).frames, probe(data, LIMITS).pages) == (1, 4)
    assert differences(data) == {}


def test_frames_of_an_avif_sequence_are_told_alike() -> None:
    data = moving("avif")
    assert (probe(data, LIMITS).frames, probe(data, LIMITS).is_animated) == (3, True)
    assert differences(data) == {}


def test_a_profile_is_told_alike() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name in ("jpeg", "png", "webp", "tiff", "avif"):
        data = encoded(quarters(), name, icc_profile=profile)
        assert probe(data, LIMITS).has_profile
        assert differences(data) == {}


def test_a_damaged_profile_is_none() -> None:
    data = with_chunk(encoded(quarters()), b"iCCP", b"name\0\0no zlib")
    assert differences(data) == {}


@pytest.mark.parametrize("name", ["jpeg", "png", "webp"])
def test_a_position_in_exif_or_xmp_is_told_alike(name: str) -> None:
    data = encoded(quarters(), name, exif=exif_of(gps=GPS))
    assert probe(data, LIMITS).has_position
    assert differences(data) == {}
    data = encoded(quarters(), name, exif=exif_of(gps={29: "2026:11:21"}))
    assert not probe(data, LIMITS).has_position
    assert differences(data) == {}
    if name != "png":
        data = encoded(quarters(), name, xmp=XMP % b"<exif:GPSLatitude>52,31N</exif:GPSLatitude>")
        assert probe(data, LIMITS).has_position
        assert differences(data) == {}


def test_a_path_is_read_as_bytes_are(tmp_path: Path) -> None:
    for name in NAMES:
        path = tmp_path / f"a[n=-1].{name}"
        path.write_bytes(encoded(quarters(), name))
        assert probe(path, LIMITS) == probe(path.read_bytes(), LIMITS)


# What is no image to read


def test_a_path_that_leads_nowhere_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "none.png", tmp_path, tmp_path / "file" / "a.png"):
        for reader in (probe, engine_probe):
            with pytest.raises(SourceNotFoundError, match=str(tmp_path)):
                reader(path, LIMITS)


def test_a_path_through_a_loop_of_links_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(SourceNotFoundError):
        probe(tmp_path / "loop", LIMITS)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", BrokenImageError),
        (b"<html>", UnsupportedImageError),
        (b"BM" + bytes(100), BrokenImageError),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", UnsupportedImageError),
        (b"\xff\xd8\xff", BrokenImageError),
        (b"\x89PNG\r\n\x1a\n", BrokenImageError),
        (b"GIF89a", BrokenImageError),
        (b"RIFF\x04\0\0\0WEBP", BrokenImageError),
        (b"II*\0", BrokenImageError),
        (b"MM\0*\xff\xff\xff\xff", BrokenImageError),
        (b"\0\0\0\x14ftypavif\0\0\0\0avif", BrokenImageError),
    ],
)
def test_what_has_no_header_is_refused_as_the_engine_does(
    data: bytes, kind: type[ImageError]
) -> None:
    for reader in (probe, engine_probe):
        with pytest.raises(kind) as caught:
            reader(data, LIMITS)
        assert "0x" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_head_that_ends_early_is_broken_or_still_tells_the_size(name: str) -> None:
    data = encoded(noise(80, 40), name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of some damage
        for length in (*range(1, 200, 7), *range(200, len(data), 97)):
            try:
                found = probe(data[:length], LIMITS)
            except ImageError:
                continue
            assert (found.width, found.height) == (80, 40)


@pytest.mark.parametrize("name", NAMES)
def test_damage_anywhere_in_a_head_raises_nothing_but_image_errors(name: str) -> None:
    data = moving(name) if name in ("gif", "png", "tiff", "webp") else encoded(quarters(), name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for at in range(min(len(data), 400)):
            for value in (0x00, 0x7F, 0xFF):
                damaged = bytearray(data)
                damaged[at] = value
                with suppress(ImageError):
                    probe(bytes(damaged), LIMITS)


def test_damaged_exif_data_do_not_spoil_an_image() -> None:
    for exif in (
        b"Exif\0\0",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0nonsense",
        b"\xff" * 60,
    ):
        data = encoded(quarters(), "jpeg", exif=exif)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = probe(data, LIMITS)
        assert (found.width, found.orientation, found.has_position) == (80, 1, False)


def test_a_tiff_of_floating_samples_is_of_a_kind_not_read() -> None:
    for mode in ("F", "I"):
        data = encoded(quarters(mode="L").convert(mode), "tiff")
        for reader in (probe, engine_probe):
            with pytest.raises(UnsupportedImageError):
                reader(data, LIMITS)


# Limits, and no pixels


@pytest.mark.parametrize("name", NAMES)
def test_what_is_past_a_limit_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(encoded(quarters(), name))
    for source in (path, path.read_bytes()):
        with pytest.raises(ImageTooLargeError, match="max_input_bytes"):
            probe(source, Limits(max_input_bytes=50))
        with pytest.raises(ImageTooLargeError, match="max_pixels"):
            probe(source, Limits(max_pixels=3199))
        assert probe(source, Limits(max_pixels=3200)).width == 80


def test_more_pixels_than_pillow_reads_are_too_many() -> None:
    """Its own bound is no warning here, whatever the settings allow."""
    with pytest.raises(ImageTooLargeError, match="more pixels than Pillow reads"):
        probe(png_head(2**31 - 1, 2**31 - 1), Limits(max_pixels=2**62))


def test_pillows_warning_as_an_error_is_an_image_that_is_too_large() -> None:
    large = Image.MAX_IMAGE_PIXELS
    assert large is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageTooLargeError):
            probe(png_head(1, large + 1), Limits(max_pixels=2**62))


def test_no_pixel_is_decoded(tmp_path: Path) -> None:
    """The pixels of these are no pixels; only whoever looks at them notices."""
    assert probe(png_head(5, 4), LIMITS).width == 5
    jpeg = encoded(noise(80, 40), "jpeg")
    start = jpeg.index(b"\xff\xda") + 20
    assert probe(jpeg[:start] + b"\xff\xd9", LIMITS).height == 40
    for name in ("webp", "tiff"):
        data = bytearray(encoded(noise(80, 40), name))
        data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
        assert probe(bytes(data), LIMITS).width == 80


def test_the_file_is_closed_again(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    path.write_bytes(moving("tiff"))
    probe(path, LIMITS)
    path.write_bytes(b"II*\0")
    with pytest.raises(BrokenImageError):
        probe(path, LIMITS)
    # An unclosed file is a warning, and so an error, when it is collected.
    gc.collect()


def test_a_source_in_memory_is_not_changed() -> None:
    data = encoded(quarters())
    before = io.BytesIO(data).read()
    probe(data, LIMITS)
    assert data == before
