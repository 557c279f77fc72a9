"""Settings for a quality: how near they come, which pictures are graphics, what a sample holds."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageDraw

from optidash_integrations import formats
from optidash_integrations.engine import quality, vips
from optidash_integrations.engine.encode import Recipe, encode, write
from optidash_integrations.engine.ssimulacra import Metric

FORMATS = (formats.JPEG, formats.WEBP, formats.AVIF)


def photo(width: int = 640, height: int = 480, bands: int = 3) -> vips.pyvips.Image:
    """Return soft shapes with grain, as photographs have them."""

    def band(seed: int) -> vips.pyvips.Image:
        shapes = vips.pyvips.Image.perlin(width, height, cell_size=128, seed=seed) * 90
        detail = vips.pyvips.Image.perlin(width, height, cell_size=8, seed=seed + 7) * 40
        return shapes + detail + 128

    grain = vips.pyvips.Image.gaussnoise(width, height, mean=0, sigma=6, seed=1).gaussblur(0.8)
    image = band(1).bandjoin([band(2), band(3)]) + grain if bands == 3 else band(1) + grain
    return image.cast("uchar").copy(interpretation="srgb" if bands == 3 else "b-w").copy_memory()


def page(width: int = 900, height: int = 700) -> vips.pyvips.Image:
    """Return text on white, as on a screen."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for row in range(20, height - 20, 18):
        draw.text(
            (20, row),
            f"Row {row}: the quick brown fox jumps over it. " * 3,
            fill=(20, 30, row % 200),
        )
    draw.rectangle((500, 200, 860, 420), fill=(230, 60, 40))
    return vips.pyvips.Image.new_from_array(np.asarray(image)).copy(interpretation="srgb")


def score(image: vips.pyvips.Image, content: bytes) -> float:
    metric = Metric()
    return metric.score(
        metric.scales(quality.opaque(image)), quality.opaque(quality.opened(content))
    )


@pytest.mark.parametrize("target", FORMATS, ids=lambda target: target.name)
@pytest.mark.parametrize("compression", ["low", "medium"])
def test_what_looks_like_a_photograph_comes_near_its_target(
    target: formats.Format, compression: str
) -> None:
    image = photo()
    content = encode(image, Recipe(target, compression=compression))
    assert abs(score(image, content) - quality.TARGETS[compression]) < 6


@pytest.mark.parametrize("target", [formats.WEBP, formats.JPEG], ids=lambda target: target.name)
def test_samples_of_a_large_photograph_put_a_wrong_prediction_right(
    target: formats.Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = photo(2000, 1100)
    monkeypatch.setattr(quality, "predicted", lambda recipe, kind: 70)
    recipe = Recipe(target, compression="medium", patient=True)
    wrong = replace(recipe, quality=70, settled=True)
    before, after = (
        abs(score(image, encode(image, each)) - quality.TARGETS["medium"])
        for each in (wrong, recipe)
    )
    assert after < before * 0.75


def test_for_a_jpeg_that_somebody_waits_for_nothing_is_measured() -> None:
    written: list[vips.pyvips.Image] = []

    def watched(image: vips.pyvips.Image, recipe: Recipe) -> bytes:
        written.append(image)
        return write(image, recipe)

    quality.settle(photo(2000, 1100), Recipe(formats.JPEG, compression="medium"), watched)
    assert not written


@pytest.mark.parametrize("target", FORMATS, ids=lambda target: target.name)
def test_text_does_not_fall_far_below_its_target(target: formats.Format) -> None:
    image = page()
    assert score(image, encode(image, Recipe(target, compression="medium"))) > 66


def test_more_is_kept_of_a_picture_that_is_to_be_better() -> None:
    sizes = [
        len(encode(photo(), Recipe(formats.WEBP, compression=each))) for each in quality.TARGETS
    ]
    assert all(better > worse for better, worse in pairwise(sizes))


def test_text_is_told_from_photographs() -> None:
    assert quality.kind_of(page()).graphic
    assert not quality.kind_of(photo()).graphic


def test_foliage_is_no_graphic() -> None:
    """Fine grain compresses as text does, but hardly a pixel of it equals the next."""
    grain = vips.pyvips.Image.gaussnoise(900, 700, mean=0, sigma=30, seed=3).gaussblur(0.6)
    image = (photo(900, 700) + grain).cast("uchar").copy(interpretation="srgb").copy_memory()
    assert not quality.kind_of(image).graphic


def test_of_a_grainy_photograph_avif_keeps_a_little_less() -> None:
    clean, grainy = (
        quality.Kind(graphic=False, features=quality.spread((fine, -1.1, -2.0)))
        for fine in (quality.CLEAN, quality.GRAINY)
    )
    assert (quality.grain(clean), quality.grain(grainy)) == (0, 1)
    recipe = Recipe(formats.AVIF, compression="medium")
    table = quality.learned.PHOTOS[quality.encoder(recipe)]
    plain = quality.dot(table[75], grainy.features)
    assert quality.predicted(recipe, grainy) == round(plain - quality.SPARED[75])


def test_a_drawing_of_few_colours_becomes_lossless_where_that_is_smaller() -> None:
    drawing = vips.pyvips.Image.black(400, 300, bands=3).copy(interpretation="srgb") + 255
    drawing = drawing.cast("uchar").draw_rect([200, 30, 30], 40, 40, 100, 80, fill=True)
    recipe = quality.settle(drawing, Recipe(formats.WEBP, compression="medium"), write)
    assert recipe.lossless
    assert recipe.quality is None


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(lambda: photo(1, 1), id="one pixel"),
        pytest.param(lambda: photo(3000, 9), id="low"),
        pytest.param(lambda: photo(9, 3000), id="narrow"),
        pytest.param(lambda: photo(200, 100, bands=1), id="grey"),
        pytest.param(lambda: page(1200, 800).bandjoin(128), id="transparent"),
        pytest.param(lambda: page(1200, 800).colourspace("b-w"), id="grey page"),
    ],
)
@pytest.mark.parametrize("target", FORMATS[:2], ids=lambda target: target.name)
def test_every_shape_of_picture_is_settled(image: object, target: formats.Format) -> None:
    made = image()
    if not target.alpha and made.hasalpha():
        made = made.flatten(background=[255])
    with Image.open(io.BytesIO(encode(made, Recipe(target, compression="high")))) as result:
        assert result.size == (made.width, made.height)


def test_the_same_picture_is_settled_alike_each_time() -> None:
    recipe = Recipe(formats.WEBP, compression="medium")
    assert len({quality.settle(page(), recipe, write).quality for _ in range(3)}) == 1


def test_frames_stay_frames() -> None:
    strip = photo(64, 256).copy()
    strip.set_type(vips.pyvips.GValue.gint_type, "page-height", 64)
    with Image.open(io.BytesIO(encode(strip, Recipe(formats.WEBP, compression="medium")))) as made:
        assert (made.size, made.n_frames) == ((64, 64), 4)


def test_samples_come_from_all_over_the_picture_and_are_not_larger_than_asked() -> None:
    image = photo(1600, 1200)
    assert quality.strips(image).height * 1600 <= quality.PROBED * 1.3
    sample = quality.tiles(image, quality.SAMPLED)
    assert sample.width * sample.height <= quality.SAMPLED
    assert sample.width % quality.TILE == sample.height % quality.TILE == 0


def test_an_unchanged_picture_scores_a_hundred_and_a_worse_one_less() -> None:
    image, metric = photo(), Metric()
    original = metric.scales(image)
    scores = [metric.score(original, image.gaussblur(sigma).cast("uchar")) for sigma in (0.6, 1, 2)]
    assert metric.score(original, image) == 100
    assert 100 > scores[0] > scores[1] > scores[2]


def test_the_metric_agrees_with_the_reference() -> None:
    reference = pytest.importorskip("ssimulacra2").compute_ssimulacra2
    for image in (photo(), page()):
        for setting in (50, 85):
            content = image.jpegsave_buffer(Q=setting)
            expected = reference(io.BytesIO(image.pngsave_buffer()), io.BytesIO(content))
            assert score(image, content) == pytest.approx(expected, abs=3.5)
