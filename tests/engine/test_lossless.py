"""Files become smaller, and no pixel, profile or orientation changes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from optidash_integrations.engine import lossless, vips
from optidash_integrations.errors import BrokenImageError
from tests.engine.pictures import encoded, noise, png_chunk, quarters, turned, with_chunk

pytest.importorskip("mozjpeg_lossless_optimization")
pytest.importorskip("oxipng")


def pixels(data: bytes) -> np.ndarray:
    image = vips.pyvips.Image.new_from_buffer(data, "")
    return image.numpy()


def soft(width: int = 96, height: int = 64) -> Image.Image:
    return noise(width // 8, height // 8).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_is_smaller_and_shows_the_same(mode: str) -> None:
    data = encoded(soft().convert(mode), "jpeg", quality=90)
    made = lossless.jpeg(data)
    assert len(made) < len(data)
    assert np.array_equal(pixels(made), pixels(data))


def test_a_jpeg_keeps_its_profile_and_loses_its_metadata() -> None:
    profile = bytes(vips.pyvips.Operation.call("profile_load", "p3"))
    exif = Image.Exif()
    exif[0x013B] = "somebody"
    data = encoded(soft(), "jpeg", icc_profile=profile, exif=exif, comment=b"private")
    made = lossless.jpeg(data)
    assert Image.open(io.BytesIO(made)).info["icc_profile"] == profile
    assert b"somebody" not in made
    assert b"private" not in made


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_jpeg_stays_turned(orientation: int) -> None:
    made = lossless.jpeg(turned(orientation))
    assert Image.open(io.BytesIO(made)).getexif()[0x0112] == orientation


def test_a_jpeg_of_which_nothing_can_be_saved_comes_back_as_it_is() -> None:
    data = lossless.jpeg(encoded(soft(), "jpeg"))
    assert lossless.jpeg(data) == data


def test_what_begins_as_no_jpeg_is_broken() -> None:
    with pytest.raises(BrokenImageError):
        lossless.jpeg(b"no picture")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_a_png_is_smaller_and_shows_the_same(mode: str) -> None:
    data = encoded(quarters(mode="RGB").convert(mode), "png", compress_level=0)
    made = lossless.png(data)
    assert len(made) < len(data)
    shown = [np.asarray(Image.open(io.BytesIO(each)).convert("RGBA")) for each in (made, data)]
    assert np.array_equal(*shown)


def test_colours_under_transparent_pixels_stay() -> None:
    values = np.random.default_rng(2).integers(0, 256, (32, 32, 4), dtype=np.uint8)
    values[:, :16, 3] = 0
    made = lossless.png(encoded(Image.fromarray(values)))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(made))), values)


def test_sixteen_bits_stay_sixteen() -> None:
    values = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)  # the same in 8 bits
    data = vips.pyvips.Image.new_from_array(values).pngsave_buffer(compression=0, bitdepth=16)
    made = lossless.png(data)
    assert len(made) < len(data)
    assert vips.pyvips.Image.new_from_buffer(made, "").format == "ushort"
    assert np.array_equal(pixels(made), pixels(data))


def test_a_png_keeps_what_changes_its_looks_and_loses_the_rest() -> None:
    plain = encoded(soft())
    gamma = png_chunk(b"gAMA", (45_455).to_bytes(4, "big"))
    data = with_chunk(
        with_chunk(plain, b"gAMA", (45_455).to_bytes(4, "big")), b"tEXt", b"a\0secret"
    )
    made = lossless.png(data)
    assert gamma in made
    assert b"secret" not in made


def test_an_animated_png_stays_animated() -> None:
    frames = [quarters(), quarters().rotate(180)]
    data = encoded(frames[0], "png", save_all=True, append_images=frames[1:], duration=[40, 60])
    made = Image.open(io.BytesIO(lossless.png(data)))
    assert made.n_frames == 2
    for number, frame in enumerate(frames):
        made.seek(number)
        assert np.array_equal(np.asarray(made.convert("RGB")), np.asarray(frame))


def test_without_the_libraries_only_metadata_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lossless, "mozjpeg", None)
    monkeypatch.setattr(lossless, "oxipng", None)
    jpeg, png = encoded(soft(), "jpeg", comment=b"private"), encoded(soft(), compress_level=0)
    assert b"private" not in lossless.jpeg(jpeg)
    assert lossless.png(png) == png
