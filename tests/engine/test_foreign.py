from __future__ import annotations

import io
import socket
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from optidash_integrations import formats, icons
from optidash_integrations.engine import drawings, foreign, vips
from optidash_integrations.engine.probe import probe
from optidash_integrations.errors import (
    BrokenImageError,
    ImageError,
    ImageTooLargeError,
    UnsupportedImageError,
)
from optidash_integrations.limits import Limits

from .pictures import encoded, noise, png_chunk, quarters

LIMITS = Limits()
WITH_SVG = Limits(svg=True)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def decoded(data: bytes, limits: Limits = LIMITS):
    """Decode as the engine does, after a probe that has to tell the same size."""
    found = probe(data, limits)
    image = foreign.decoded(data, found.format, limits)
    assert (image.width, image.height) == (found.upright_width, found.upright_height)
    assert image.format == "uchar"
    return image


def as_array(image) -> np.ndarray:
    pixels = np.frombuffer(bytes(image.write_to_memory()), np.uint8)
    return pixels.reshape(image.height, image.width, image.bands).astype(int)


def assert_pixels(image, expected: Image.Image, tolerance: int = 0) -> None:
    pixels = np.asarray(expected, dtype=int).reshape(image.height, image.width, -1)
    assert image.bands == pixels.shape[2]
    assert np.abs(as_array(image) - pixels).max() <= tolerance


# --- BMP, JPEG 2000


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_a_bmp_is_decoded(mode: str) -> None:
    image = quarters(mode=mode)
    seen = {"1": "L", "P": "RGB"}.get(mode, mode)
    result = decoded(encoded(image, "bmp"))
    if mode in ("1", "L"):
        result = result.colourspace("b-w") if result.bands == 1 else result[0]
    assert_pixels(result, image.convert(seen))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_a_jpeg_2000_is_decoded_as_a_file_and_as_a_codestream(mode: str) -> None:
    image = noise(40, 30).convert(mode)
    for options in ({}, {"no_jp2": True}):
        data = encoded(image, "jpeg2000", **options)
        result = decoded(data)
        assert_pixels(result, image)
        assert result.interpretation == ("b-w" if mode[0] == "L" else "srgb")
        assert probe(data, LIMITS).grey == (mode[0] == "L")


def test_sixteen_bits_of_jpeg_2000_become_eight() -> None:
    values = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    result = decoded(encoded(Image.fromarray(values), "jpeg2000"))
    assert result.bands == 1
    assert np.abs(as_array(result)[..., 0] - values / 257).max() <= 1


@pytest.mark.parametrize("name", ["bmp", "jpeg2000"])
def test_a_file_that_breaks_off_is_broken(name: str) -> None:
    data = encoded(noise(60, 60), name)
    with pytest.raises(BrokenImageError):
        decoded(data[: len(data) // 2])


def test_pixels_past_the_limit_are_never_decoded() -> None:
    data = encoded(quarters(), "bmp")
    for limits in (Limits(max_pixels=80 * 40 - 1), Limits(max_input_bytes=100)):
        with pytest.raises(ImageTooLargeError):
            probe(data, limits)
    with pytest.raises(ImageTooLargeError):
        foreign.decoded(data, formats.BMP, Limits(max_pixels=80 * 40 - 1))


@pytest.mark.parametrize("side", [10_000, 2_000_000_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_header_that_lies_costs_nothing(side: int) -> None:
    data = bytearray(encoded(quarters(), "bmp"))
    data[18:26] = struct.pack("<ii", side, side)
    for read in (lambda: probe(bytes(data), LIMITS), lambda: decoded(bytes(data))):
        with pytest.raises(ImageTooLargeError):
            read()


def test_only_the_reader_of_the_detected_format_is_asked() -> None:
    """A GIF behind the first bytes of a BMP is no picture, though Pillow reads GIF."""
    with pytest.raises(BrokenImageError):
        foreign.decoded(encoded(quarters(), "gif"), formats.BMP, LIMITS)


# --- ICO


def icon(*sides: int, bitmap: bool = False) -> bytes:
    options = {"bitmap_format": "bmp"} if bitmap else {}
    return encoded(
        quarters(256, 256, "RGBA"), "ico", sizes=[(side, side) for side in sides], **options
    )


@pytest.mark.parametrize("bitmap", [False, True])
@pytest.mark.parametrize("sides", [(16, 48, 32), (256, 16), (24,)])
def test_the_largest_picture_of_an_icon_is_decoded(sides: tuple[int, ...], bitmap: bool) -> None:
    result = decoded(icon(*sides, bitmap=bitmap))
    assert (result.width, result.bands) == (max(sides), 4)
    quarter = result.width // 4
    assert as_array(result)[quarter, quarter].tolist() == [255, 0, 0, 255]
    assert as_array(result)[quarter, -quarter].tolist() == [0, 255, 0, 255]


def test_what_an_icon_hides_is_clear() -> None:
    image = Image.new("RGBA", (32, 32), (10, 20, 30, 0))
    image.paste((200, 100, 50, 255), (0, 0, 16, 32))
    for options in ({}, {"bitmap_format": "bmp"}):
        result = as_array(decoded(encoded(image, "ico", sizes=[(32, 32)], **options)))
        assert result[5, 5].tolist() == [200, 100, 50, 255]
        assert result[5, 25, 3] == 0


def test_an_icon_is_as_large_as_its_picture_says_not_its_directory() -> None:
    data = bytearray(icon(48))
    data[6:8] = bytes((16, 16))
    found = probe(bytes(data), LIMITS)
    assert (found.format, found.width, found.height) == (formats.ICO, 48, 48)
    assert decoded(bytes(data)).width == 48


def test_of_pictures_of_one_size_the_one_with_most_colours_is_taken() -> None:
    few, many = icons.largest(icon(32, bitmap=True)), icons.largest(icon(32))
    entries, start = b"", 6 + 32
    for bits, content in ((4, few.content), (32, many.content)):
        entries += struct.pack("<BBBBHHII", 32, 32, 0, 0, 1, bits, len(content), start)
        start += len(content)
    data = struct.pack("<HHH", 0, 1, 2) + entries + few.content + many.content
    assert icons.largest(data).is_png


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\1\0",
        struct.pack("<HHH", 0, 1, 0),
        struct.pack("<HHH", 0, 1, 3) + bytes(20),
        icon(32)[:60],
        icon(32, bitmap=True)[:80],
        icons.Icon(300, 300, 32, struct.pack("<IiiHH", 40, 300, 600, 1, 32)).alone(),
        icons.Icon(9, 9, 32, struct.pack("<IiiHH", 40, 2**31 - 1, 18, 1, 32)).alone(),
    ],
    ids=["cut", "empty", "short", "cut png", "cut bitmap", "large", "huge"],
)
def test_an_icon_without_a_whole_picture_is_broken(data: bytes) -> None:
    with pytest.raises(BrokenImageError):
        decoded(data)


def test_a_bomb_in_an_icon_is_refused() -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0))
    pixels = png_chunk(b"IDAT", b"x") + png_chunk(b"IEND", b"")
    data = icons.Icon(9, 9, 0, b"\x89PNG\r\n\x1a\n" + header + pixels).alone()
    with pytest.raises(ImageTooLargeError):
        probe(data, LIMITS)
    with pytest.raises(ImageTooLargeError):
        foreign.decoded(data, formats.ICO, LIMITS)


# --- PSD


def psd(image: Image.Image, mode: int, bits: int = 8, profile: bytes = b"") -> bytes:
    """Return a Photoshop file with a merged picture and no layers."""
    planes = [np.asarray(plane) for plane in image.split()]
    if mode == 4:  # inks are stored the other way round
        planes = [255 - plane for plane in planes]
    head = struct.pack(
        ">4sH6xHIIHH", b"8BPS", 1, len(planes), image.height, image.width, bits, mode
    )
    resource = b""
    if profile:
        resource = b"8BIM" + struct.pack(">H2xI", 1039, len(profile)) + profile
        resource += b"\0" * (len(profile) % 2)
    sections = struct.pack(">I", 0) + struct.pack(">I", len(resource)) + resource
    pixels = b"".join(plane.tobytes() for plane in planes)
    return head + sections + struct.pack(">IH", 0, 0) + pixels


def test_the_merged_picture_of_a_psd_is_decoded() -> None:
    assert_pixels(decoded(psd(quarters(), 3)), quarters())
    assert_pixels(decoded(psd(quarters(mode="L"), 1)), quarters(mode="L"))


def test_a_psd_in_cmyk_keeps_its_inks_and_profile() -> None:
    inks = Image.new("CMYK", (20, 10), (200, 100, 50, 25))
    result = decoded(psd(inks, 4, profile=PROFILE))
    assert_pixels(result, inks)
    assert result.interpretation == "cmyk"
    assert bytes(result.get("icc-profile-data")) == PROFILE
    assert probe(psd(inks, 4), LIMITS).cmyk


@pytest.mark.parametrize(("mode", "bits"), [(3, 16), (3, 32), (9, 8), (7, 8)])
def test_other_kinds_of_psd_are_refused_by_type(mode: int, bits: int) -> None:
    with pytest.raises(UnsupportedImageError):
        probe(psd(quarters(), mode, bits), LIMITS)


def test_a_psd_that_breaks_off_is_broken() -> None:
    for length in (20, 40, 500):
        with pytest.raises(ImageError):
            decoded(psd(quarters(), 3)[:length])


# --- AVIF sequences, HEIC


def test_the_first_frame_of_an_avif_sequence_is_decoded() -> None:
    other = Image.new("RGB", (80, 40))
    data = encoded(
        quarters(),
        "avif",
        quality=100,
        subsampling="4:4:4",
        save_all=True,
        append_images=[other] * 2,
    )
    found = probe(data, LIMITS)
    assert (found.format, found.frames, found.is_animated) == (formats.AVIF, 3, True)
    assert_pixels(decoded(data), quarters(), tolerance=12)
    with pytest.raises(ImageTooLargeError):
        probe(data, Limits(max_frames=2))


def test_an_avif_that_pillow_decodes_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    result = as_array(decoded(encoded(quarters(), "avif", exif=exif)))
    assert result.shape[:2] == (80, 40)
    assert np.abs(result[5, 35] - (255, 0, 0)).max() < 40


def heic(image: Image.Image, **options: object) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=-1, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_heic_is_decoded(mode: str) -> None:
    data = heic(quarters(mode=mode))
    assert probe(data, LIMITS).format is formats.HEIC
    assert_pixels(decoded(data), quarters(mode=mode), tolerance=8)


def test_a_heic_keeps_its_profile_and_leaves_pillow_as_it_was() -> None:
    image = quarters()
    image.info["icc_profile"] = PROFILE
    data = heic(image)
    assert probe(data, LIMITS).has_profile
    assert bytes(decoded(data).get("icc-profile-data")) == PROFILE
    assert "HEIF" not in Image.OPEN


def test_a_heic_that_breaks_off_is_broken() -> None:
    data = heic(noise(64, 64))
    for length in (40, len(data) // 2):
        with pytest.raises(ImageError):
            decoded(data[:length])


# --- SVG


def svg(inside: str, head: str = "", **attributes: object) -> bytes:
    told = {"width": 20, "height": 10} | attributes
    lengths = " ".join(f'{name}="{value}"' for name, value in told.items())
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    ground = '<rect width="100%" height="100%" fill="#00f"/>'
    return f"{head}<svg {names} {lengths}>{ground}{inside}</svg>".encode()


def test_a_drawing_is_refused_unless_it_is_allowed() -> None:
    with pytest.raises(UnsupportedImageError):
        probe(svg(""), LIMITS)
    with pytest.raises(UnsupportedImageError):
        drawings.rendered(svg(""), LIMITS)
    found = probe(svg(""), WITH_SVG)
    assert (found.format, found.width, found.height, found.alpha) == (formats.SVG, 20, 10, True)


@pytest.mark.parametrize("scale", [0.5, 1, 3])
def test_a_drawing_is_rendered_in_the_size_asked_for(scale: float) -> None:
    image = drawings.rendered(svg(""), WITH_SVG, scale)
    assert (image.width, image.height) == (20 * scale, 10 * scale)
    assert as_array(image)[2, 2].tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize(
    ("data", "scale"),
    [
        (svg("", width=8000, height=8000), 1.0),
        (svg("", width="1e9", height="1e9"), 1.0),
        (svg("", width="100%", height="100%", viewBox="0 0 2e9 2000000000"), 1.0),
        (svg(""), 900.0),
        (svg(""), 1e9),
        (svg(" " * drawings.MOST_BYTES), 1.0),
    ],
    ids=["pixels", "lengths", "view box", "scale", "far too much", "bytes"],
)
def test_a_drawing_of_too_many_pixels_or_bytes_is_refused(data: bytes, scale: float) -> None:
    with pytest.raises(ImageTooLargeError):
        drawings.rendered(data, WITH_SVG, scale)


@pytest.mark.parametrize("data", [b"<svg", svg("<g>"), svg("", width=0), b"<html><svg></html>"])
def test_a_drawing_that_is_none_is_broken(data: bytes) -> None:
    with pytest.raises(BrokenImageError):
        probe(data, WITH_SVG)


XINCLUDE = "http://www.w3.org/2001/XInclude"


def references(address: str) -> list[bytes]:
    """Return drawings that name something elsewhere, which is red, or 20 pixels of text."""
    return [
        svg(f'<image width="20" height="10" href="{address}"/>'),
        svg(f'<image width="20" height="10" xlink:href="{address}"/>'),
        svg(f'<use href="{address}#a"/>'),
        svg(f'<style>@import url("{address}"); rect {{ fill: url("{address}#a"); }}</style>'),
        svg("", head=f'<?xml-stylesheet type="text/css" href="{address}"?>'),
        svg(
            "<text y='9'>&amp;a;</text>".replace("&amp;", "&"),
            head=f'<!DOCTYPE svg [<!ENTITY a SYSTEM "{address}">]>',
        ),
        svg("", head=f'<!DOCTYPE svg SYSTEM "{address}">'),
        svg(f'<xi:include xmlns:xi="{XINCLUDE}" href="{address}" parse="text"/>'),
        svg(f'<filter id="f"><feImage href="{address}"/></filter><g filter="url(#f)"/>'),
    ]


@pytest.mark.parametrize("number", range(len(references(""))))
@pytest.mark.parametrize("spelling", ["{}", "file://{}", "file:{}", "../../../../../..{}"])
def test_a_drawing_reads_no_file(
    number: int, spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    red = tmp_path / "red.png"
    red.write_bytes(encoded(Image.new("RGB", (20, 10), (255, 0, 0))))
    (tmp_path / "red.svg").write_bytes(svg('<rect id="a" width="99" height="99" fill="red"/>'))
    monkeypatch.chdir(tmp_path)
    for name in (red, tmp_path / "red.svg"):
        for address in (spelling.format(name), name.name):
            assert_only_blue(references(address)[number])


def assert_only_blue(data: bytes) -> None:
    try:
        with vips.reading("SVG"):
            pixels = as_array(drawings.rendered(data, WITH_SVG))
    except ImageError:
        return
    assert {tuple(pixel) for pixel in pixels.reshape(-1, 4)} <= {(0, 0, 255, 255), (0, 0, 0, 0)}


def test_a_drawing_opens_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/red.png"
        for data in references(address):
            assert_only_blue(data)
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize(
    "data",
    [
        svg('<image href="data:image/png;base64,{}"/>'),
        svg('<svg:IMAGE href="data:,"/>'),
        svg('<filter id="f"><feImage href="data:,"/></filter>'),
        svg("&a;", head="<!DOCTYPE svg [<!ENTITY a \"<image href='data:,'/>\">]>"),
        svg("&a;", head="<!DOCTYPE svg [<!ENTITY a \"&#60;&#105;mage href='data:,'/>\">]>"),
        svg("&a;", head="<!DOCTYPE svg [<!ENTITY a \"> &#60;image href='data:,'/>\">]>"),
        svg("&a;", head="<!DOCTYPE svg [<!ENTITY a '<b/>&#60;image href=\"data:,\"/>'>]>"),
        svg("&a;", head="<!DOCTYPE svg [<!ENTITY a \"<feOffset dx='1'/>\">]>"),
        svg("&a;", head="<!DOCTYPE svg [<!ENTITY  a\n'> <feOffset dx=\"1\"/>'>]>"),
        svg("+ADw-image+AD4-", head='<?xml version="1.0" encoding="UTF-7"?>'),
        b"\xff\xfe" + svg('<image href="data:,"/>').decode().encode("utf-16-le") + b"<svg",
    ],
    ids=[
        "image",
        "other case",
        "filter",
        "entity",
        "hidden entity",
        "entity with an end in it",
        "entity with markup",
        "entity with a filter",
        "entity with an end and a filter",
        "encoding",
        "wide letters",
    ],
)
def test_a_drawing_with_a_picture_inside_is_refused(data: bytes) -> None:
    """Sixteen kilobytes of PNG would take a gigabyte."""
    with pytest.raises(UnsupportedImageError, match="pictures inside"):
        probe(data, WITH_SVG)


@pytest.mark.parametrize(
    "data",
    [
        svg('<filter id="f"><feTurbulence baseFrequency="0.0001" numOctaves="500"/></filter>'),
        svg('<filter id="f"><s:FEMORPHOLOGY radius="10000"/></filter>'),
        svg('<filter id="f">' + "<feGaussianBlur stdDeviation='9'/>" * 101 + "</filter>"),
        svg('<g filter="url(#f)">' * 101 + "</g>" * 101),
    ],
    ids=["turbulence", "morphology", "many", "many uses"],
)
def test_a_drawing_whose_filters_may_take_minutes_is_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedImageError, match="filters that may take very long"):
        drawings.rendered(data, WITH_SVG)


@pytest.mark.parametrize(
    "unit", [b"<svg ", b"<?xml ", b"<!ENTITY ", b'<!ENTITY a "', b"< ", b"<fe:"]
)
def test_a_drawing_is_looked_at_once_however_often_something_begins(unit: bytes) -> None:
    """Looked at from each beginning to the end, two megabytes would take hours."""
    with pytest.raises(ImageError):
        probe(b"<svg " + unit * (2_000_000 // len(unit)), WITH_SVG)


def test_a_drawing_with_a_shadow_is_rendered() -> None:
    shadow = (
        '<filter id="f"><feGaussianBlur in="SourceAlpha" stdDeviation="1"/><feOffset dx="1"/>'
        '<feMerge><feMergeNode/><feMergeNode in="SourceGraphic"/></feMerge></filter>'
    )
    assert_only_blue(svg(shadow))
    head = '<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY ns "http://a.invalid/">]>'
    assert_only_blue(svg(shadow, head=head))


def test_a_drawing_with_names_for_addresses_is_rendered() -> None:
    head = '<?xml version="1.0" encoding="utf-8"?><!DOCTYPE svg [<!ENTITY ns "http://a.invalid/">]>'
    assert_only_blue(svg("", head=head))
    assert probe(svg("", head=head), WITH_SVG).width == 20


def test_drawings_are_rendered_in_threads() -> None:
    results: list[int] = []

    def render() -> None:
        results.append(int(as_array(drawings.rendered(svg(""), WITH_SVG))[0, 0, 2]))

    threads = [threading.Thread(target=render) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [255] * 4
