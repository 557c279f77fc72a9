"""WebP and AVIF of photographs, as Pillow's encoders write them."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from optidash_integrations import formats
from optidash_integrations.engine import pillow, vips
from optidash_integrations.engine.encode import Recipe, write
from optidash_integrations.engine.quality import encoder
from optidash_integrations.errors import ProcessorError
from optidash_integrations.formats import Format
from tests.engine.test_quality import page, photo

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
    ours = write(image, Recipe(formats.WEBP, quality=80, compression="low"))
    theirs = image.webpsave_buffer(Q=80, effort=4, keep="none")
    assert np.array_equal(pixels(ours, "RGB"), pixels(theirs, "RGB"))
    assert abs(len(ours) - len(theirs)) < 64


def test_an_avif_of_a_photograph_is_nearer_for_its_bytes_than_that_of_libvips() -> None:
    """The tuning is for the eye, so the metric is the engine's own."""
    from optidash_integrations.engine.quality import score_of

    image = photo(768, 512)
    ours = write(image, Recipe(formats.AVIF, quality=50))
    assert len(ours) < as_near(image, score_of(image, ours)) * 1.1


def as_near(image: vips.pyvips.Image, least: float) -> int:
    """Return how many bytes an AVIF of libvips takes for a score."""
    from optidash_integrations.engine.quality import score_of

    for quality in range(30, 90, 2):
        made = image.heifsave_buffer(
            Q=quality, compression="av1", effort=3, subsample_mode="off", keep="none"
        )
        if score_of(image, made) >= least:
            return len(made)
    pytest.fail("libvips does not come as near at all")


@pytest.mark.parametrize(
    "recipe",
    [
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


# JPEGs made smaller by their decoder


def jpeg(width: int, height: int, *, bands: int = 3, **options: object) -> bytes:
    image = photo(width, height)
    return bytes((image if bands == 3 else image.colourspace("b-w")).jpegsave_buffer(**options))


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("by", [2, 4, 8])
@pytest.mark.parametrize("size", [(640, 480), (641, 483), (1001, 37)])
def test_a_jpeg_is_halved_as_libvips_does_it(size: tuple[int, int], by: int, bands: int) -> None:
    data = jpeg(*size, bands=bands)
    ours = pillow.shrunk(data, by)
    theirs = vips.pyvips.Image.jpegload_buffer(data, shrink=by)
    assert ours is not None
    assert (ours.width, ours.height) == (size[0] // by, size[1] // by)
    assert (ours.bands, ours.interpretation) == (theirs.bands, theirs.interpretation)
    assert (ours - theirs).abs().max() <= 2


def test_what_libvips_has_to_read_or_to_refuse_is_left_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = jpeg(640, 480)
    assert pillow.shrunk(whole, 2) is not None
    cmyk = photo(640, 480).colourspace("cmyk").jpegsave_buffer()
    scan = whole[whole.index(pillow.SCAN) :].removesuffix(b"\xff\xd9")
    many = whole.removesuffix(b"\xff\xd9") + scan * 4 + b"\xff\xd9"
    others = jpeg(640, 480, interlace=True), cmyk, many, whole[:-3000], whole[:400], b"", b"GIF89a"
    for other in others:
        assert pillow.shrunk(other, 2) is None
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 640 * 480 - 1)
    assert pillow.shrunk(whole, 2) is None
    monkeypatch.undo()
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    assert pillow.shrunk(whole[:-3000], 2) is None


def test_what_follows_a_scan_of_all_components_is_refused_not_decoded() -> None:
    whole = jpeg(640, 480)
    assert pillow.is_one_scan(whole)
    scan = whole[whole.index(pillow.SCAN) :].removesuffix(b"\xff\xd9")
    assert pillow.shrunk(whole.removesuffix(b"\xff\xd9") + scan + b"\xff\xd9", 2) is None


def test_headers_that_promise_more_scans_or_nothing_are_not_of_one_scan() -> None:
    whole = jpeg(640, 480)
    at = whole.index(pillow.SCAN)
    of_one_component = whole[: at + 4] + b"\x01" + whole[at + 5 :]
    others = jpeg(640, 480, interlace=True), of_one_component, whole[:at], whole[: at + 4], b""
    for other in (*others, b"\xff\xd8\xff\xe0\0\0" + whole[2:], b"\xff\xd8\xff\xc0\0\x0b"):
        assert not pillow.is_one_scan(other)


@pytest.mark.parametrize("code", [0x01, 0xD0, 0xD8, 0xFF])
def test_scans_can_not_be_hidden_behind_a_marker_without_a_length(code: int) -> None:
    """libjpeg goes on right after it; who took what follows for a length would look elsewhere."""
    whole = jpeg(640, 480)
    hidden = bytes([0xFF, code]) + (len(whole) + 2).to_bytes(2, "big")
    assert not pillow.is_one_scan(pillow.SOI + hidden + bytes(len(whole)) + whole[2:])


def soft(width: int, height: int) -> vips.pyvips.Image:
    bands = [vips.pyvips.Image.perlin(width, height, cell_size=64, seed=n) for n in range(3)]
    image = bands[0].bandjoin(bands[1:]) * 90 + 128
    return image.cast("uchar").copy(interpretation="srgb")


@pytest.mark.parametrize("size", [(2041, 1361), (1999, 3001), (2040, 1360), (1000, 1504)])
@pytest.mark.parametrize("factor", [3.1, 3.9, 6.3, 7.9, 13.0])
def test_a_shrunk_jpeg_lies_where_the_whole_one_does(
    size: tuple[int, int], factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What sides that can't be divided lose is too little to be seen."""
    from optidash_integrations.engine import load
    from optidash_integrations.engine.process import process
    from optidash_integrations.limits import Limits
    from optidash_integrations.operations import Operations

    data = soft(*size).jpegsave_buffer(Q=95)
    asked = Operations.from_dict({"resize": {"width": round(size[0] / factor)}})

    def made() -> np.ndarray:
        result = process(data, asked, formats.PNG, Limits())
        return np.asarray(Image.open(io.BytesIO(result.content)), dtype=float)

    small = made()
    monkeypatch.setattr(load, "shrink_of", lambda job: 1)
    whole = made()
    assert small.shape == whole.shape
    assert np.abs(small - whole).mean() < 1.2
    for edge in (np.s_[:, -8:], np.s_[-8:, :], np.s_[:8], np.s_[:, :8]):
        assert np.abs(small[edge] - whole[edge]).mean() < 2


def test_an_avif_of_a_graphic_takes_fewer_bytes_than_that_of_libvips() -> None:
    from optidash_integrations.engine.quality import score_of

    image = page(960, 640)
    recipe = Recipe(formats.AVIF, quality=60, graphic=True)
    assert recipe.is_for_pillow
    ours = write(image, recipe)
    assert len(ours) < as_near(image, score_of(image, ours))


def test_a_small_webp_of_a_given_quality_is_made_in_less_time() -> None:
    image = photo(320, 200)
    asked = Recipe(formats.WEBP, quality=80)
    assert write(image, asked) == pillow.webp(image, 80, 2)
    assert write(image, replace(asked, patient=True)) == pillow.webp(image, 80, 6)
    assert write(image, replace(asked, compression="low")) == pillow.webp(image, 80, 4)
    large = photo(500, 500)
    assert write(large, asked) == pillow.webp(large, 80, 4)


def test_a_smooth_picture_gets_the_slower_search() -> None:
    smooth = soft(400, 300)
    noise = vips.pyvips.Image.gaussnoise(400, 300, mean=0, sigma=25, seed=5)
    grainy = (smooth + noise).cast("uchar").copy(interpretation="srgb").copy_memory()
    for quality in (50, 59, 60, 80):
        recipe, halved = Recipe(formats.AVIF, quality=quality), quality < 60
        assert write(smooth, recipe) == pillow.avif(smooth, quality, 6, halved=halved)
        assert write(grainy, recipe) == pillow.avif(grainy, quality, 7)
    assert write(grainy, Recipe(formats.AVIF, quality=50, patient=True)) == pillow.avif(
        grainy, 50, 6
    )
