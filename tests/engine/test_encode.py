"""Written pictures: which options take effect, and what they save."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from optidash_integrations import formats
from optidash_integrations.engine import lossless, quality, vips
from optidash_integrations.engine.encode import Recipe, encode, writable
from optidash_integrations.errors import ProcessorError
from tests.engine.test_quality import page, photo


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def test_all_formats_are_written() -> None:
    assert writable() >= {"jpg", "png", "webp", "avif", "gif"}


def test_patience_saves_bytes() -> None:
    for target in (formats.JPEG, formats.WEBP):
        sizes = [len(encode(photo(), Recipe(target, 75, patient=each))) for each in (True, False)]
        assert sizes[0] < sizes[1]


@pytest.mark.parametrize("progressive", [True, False])
@pytest.mark.parametrize("patient", [True, False])
def test_a_jpeg_is_progressive_where_asked(progressive: bool, patient: bool) -> None:
    recipe = Recipe(formats.JPEG, 75, progressive=progressive, patient=patient)
    assert bool(opened(encode(photo(64, 64), recipe)).info.get("progressive")) == progressive


def test_a_quality_that_is_given_is_not_changed() -> None:
    image = photo()
    recipe = Recipe(formats.WEBP, 33)
    assert encode(image, Recipe(formats.WEBP, 33, compression="low")) == encode(image, recipe)


@pytest.mark.parametrize("target", [formats.PNG, formats.WEBP, formats.AVIF])
def test_lossless_is(target: formats.Format) -> None:
    image = photo(120, 80)
    made = vips.pyvips.Image.new_from_buffer(encode(image, Recipe(target, lossless=True)), "")
    assert np.array_equal(made.numpy(), image.numpy())


def test_a_png_gets_a_palette_where_that_is_good_enough() -> None:
    made = opened(encode(page(), Recipe(formats.PNG, compression="medium")))
    assert made.mode == "P"


def test_a_png_of_a_photograph_on_a_plain_ground_keeps_its_colours() -> None:
    bright = (photo(400, 300) * 1.6 - 76).cast("uchar").copy(interpretation="srgb")
    image = bright.embed(100, 100, 800, 600, extend="background", background=[255, 0, 0])
    image = image.copy_memory()
    assert quality.kind_of(image).graphic
    made = vips.pyvips.Image.new_from_buffer(
        encode(image, Recipe(formats.PNG, compression="high")), ""
    )
    assert np.array_equal(made.numpy(), image.numpy())


def test_a_small_png_keeps_its_colours() -> None:
    image = page().crop(15, 15, 48, 48).copy_memory()
    made = opened(encode(image, Recipe(formats.PNG, compression="medium")))
    assert np.array_equal(np.asarray(made.convert("RGB")), image.numpy())


def test_a_png_gets_no_palette_where_colours_would_be_missed() -> None:
    hues = vips.pyvips.Image.xyz(512, 512)
    smooth = (hues[0] / 2).bandjoin([hues[1] / 2, 255 - hues[0] / 4 - hues[1] / 4]).cast("uchar")
    smooth = smooth.copy(interpretation="srgb")
    made = opened(encode(smooth, Recipe(formats.PNG, compression="low")))
    assert made.mode == "RGB"
    assert np.array_equal(np.asarray(made), smooth.numpy())


def test_a_side_that_the_format_has_not_is_an_error_of_ours() -> None:
    with pytest.raises(ProcessorError, match="WEBP"):
        encode(vips.pyvips.Image.black(17_000, 1), Recipe(formats.WEBP, 75))


def test_a_png_of_a_photograph_that_somebody_waits_for_is_not_packed() -> None:
    image = photo(640, 480)
    quick, slow = (encode(image, Recipe(formats.PNG, patient=it)) for it in (False, True))
    assert len(slow) < len(quick)
    assert lossless.packed(quick, lossless.THOROUGH_LEVEL) != quick
    drawn = page(640, 480)
    written = encode(drawn, Recipe(formats.PNG, lossless=True))
    assert lossless.packed(written, lossless.THOROUGH_LEVEL) == written


def test_a_graphic_of_many_pixels_is_not_packed_while_somebody_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = page(640, 480)
    packed = encode(drawn, Recipe(formats.PNG, lossless=True))
    monkeypatch.setattr("optidash_integrations.engine.encode.SLOW_FROM_GRAPHIC", 640 * 480)
    quick = encode(drawn, Recipe(formats.PNG, lossless=True))
    assert len(packed) < len(quick)
    assert encode(drawn, Recipe(formats.PNG, lossless=True, patient=True)) == packed
    made = opened(quick)
    assert np.array_equal(np.asarray(made.convert("RGB")), drawn.numpy())
    coarse = encode(drawn, Recipe(formats.PNG, compression="medium"))
    assert opened(coarse).mode == "P"
    assert lossless.packed(coarse, lossless.THOROUGH_LEVEL) != coarse


def test_huffman_tables_of_its_own_cost_a_baseline_jpeg_too_much_time() -> None:
    image = photo(400, 300)
    quick = Recipe(formats.JPEG, quality=80, progressive=False)
    slow = replace(quick, patient=True)
    assert len(encode(image, slow)) < len(encode(image, quick))
    usual = image.jpegsave_buffer(Q=80, quant_table=2, keep="none")
    assert encode(image, quick) == usual
