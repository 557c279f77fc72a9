"""WebP and AVIF of photographs, as Pillow's encoders write them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from optidash_integrations import formats
from optidash_integrations.engine import pillow, vips
from optidash_integrations.engine.encode import Recipe, write
from optidash_integrations.engine.quality import encoder
from optidash_integrations.errors import ProcessorError
from optidash_integrations.formats import Format
from tests.engine.test_quality import photo

BOTH = [formats.WEBP, formats.AVIF]
ALPHA, GREY = 4, 1


def of_bands(bands: int) -> vips.pyvips.Image:
    image = photo(320, 200)
    if bands < 3:
        image = image.colourspace("b-w")
    if bands in (2, 4):
        fade = vips.pyvips.Image.identity().resize(320 / 256, vscale=200).crop(0, 0, 320, 200)
        image = image.bandjoin(fade)
    return image.copy_memory()


def pixels(content: bytes, mode: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert(mode), dtype=float)


@pytest.mark.parametrize("target", BOTH)
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_grey_colour_and_alpha_come_out_as_they_were(target: Format, bands: int) -> None:
    image = of_bands(bands)
    recipe = Recipe(target, quality=90)
    assert recipe.is_for_pillow
    content = write(image, recipe)
    mode = pillow.MODES[bands]
    wanted = np.asarray(pillow.picture(image), dtype=float)
    assert np.abs(pixels(content, mode) - wanted).mean() < 3
    assert Image.open(io.BytesIO(content)).has_transparency_data == (bands in (2, 4))


def test_a_webp_has_the_bytes_that_libvips_gives_it() -> None:
    image = photo(320, 200)
    ours = write(image, Recipe(formats.WEBP, quality=80))
    theirs = image.webpsave_buffer(Q=80, effort=4, keep="none")
    assert np.array_equal(pixels(ours, "RGB"), pixels(theirs, "RGB"))
    assert abs(len(ours) - len(theirs)) < 64


def test_an_avif_of_a_photograph_is_nearer_for_its_bytes_than_that_of_libvips() -> None:
    """The tuning is for the eye, so the metric is the engine's own."""
    from optidash_integrations.engine.quality import score_of

    image = photo(768, 512)
    ours = write(image, Recipe(formats.AVIF, quality=50))
    least = score_of(image, ours)
    for quality in range(30, 90, 4):
        theirs = write(image, Recipe(formats.AVIF, quality=quality, graphic=True))
        if score_of(image, theirs) >= least:
            assert len(ours) < len(theirs) * 1.1
            return
    pytest.fail("libvips does not come as near at all")


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(formats.AVIF, quality=60, graphic=True),
        Recipe(formats.AVIF, quality=100),
        Recipe(formats.AVIF, lossless=True),
        Recipe(formats.AVIF, quality=60, metadata="all"),
        Recipe(formats.WEBP, quality=60, keeps_colours=True),
        Recipe(formats.WEBP, quality=60, graphic=True),
        Recipe(formats.JPEG, quality=60),
    ],
)
def test_what_libvips_does_better_or_alone_is_left_to_it(recipe: Recipe) -> None:
    assert not recipe.is_for_pillow
    assert write(photo(64, 64), recipe)


def test_an_encoder_without_the_tuning_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pillow, "TUNING", {"tune": "nothing that libaom knows"})
    pillow.writes_avif.cache_clear()
    try:
        assert not pillow.writes_avif()
        recipe = Recipe(formats.AVIF, quality=60)
        assert encoder(recipe) == "avif"
        assert formats.detect(write(photo(64, 64), recipe)) is formats.AVIF
    finally:
        pillow.writes_avif.cache_clear()


def test_what_pillow_can_not_write_is_an_error_of_the_processor() -> None:
    wide = vips.pyvips.Image.black(16_400, 2, bands=3).copy(interpretation="srgb")
    with pytest.raises(ProcessorError, match="WEBP"):
        pillow.webp(wide, 80, effort=0)
