"""The colours that a picture is mostly made of."""

from __future__ import annotations

import numpy as np
import pytest

from optidash_integrations.engine.palette import dominant, palette
from optidash_integrations.engine.vips import pyvips


def picture(values: np.ndarray) -> pyvips.Image:
    grey = values.ndim == 2 or values.shape[2] < 3
    image = pyvips.Image.new_from_array(np.ascontiguousarray(values, np.uint8))
    return image.copy(interpretation="b-w" if grey else "srgb")


def stripes(*parts: tuple[int, tuple[int, ...]]) -> pyvips.Image:
    """Return a picture 40 pixels high whose columns are so many of each colour."""
    columns = [np.full((40, wide, len(colour)), colour) for wide, colour in parts]
    return picture(np.concatenate(columns, axis=1))


RED, GREEN, BLUE, GREY = (200, 30, 40), (20, 160, 60), (30, 40, 180), (128, 128, 128)


def test_flat_colours_come_exactly_with_their_shares_the_most_common_first() -> None:
    image = stripes((20, RED), (12, GREEN), (8, BLUE))
    assert palette(image, 5) == [("#c81e28", 0.5), ("#14a03c", 0.3), ("#1e28b4", 0.2)]


def test_there_are_never_more_than_asked_for_and_no_more_than_there_are() -> None:
    values = np.random.default_rng(1).integers(0, 256, (60, 60, 3))
    for count in (1, 2, 5, 16):
        colours = palette(picture(values), count)
        assert len(colours) == count
        assert sum(share for _, share in colours) == pytest.approx(1, abs=0.001)
    assert len(palette(stripes((40, RED)), 16)) == 1


def test_a_large_picture_gives_the_same_as_a_small_one() -> None:
    small = stripes((24, RED), (16, BLUE))
    large = small.resize(30, kernel="nearest")
    colours = palette(large, 2)
    assert [colour for colour, _ in colours] == ["#c81e28", "#1e28b4"]
    assert [share for _, share in colours] == pytest.approx([0.6, 0.4], abs=0.03)


def test_shades_that_look_alike_are_one_colour() -> None:
    """A sky has hundreds of values; it is one blue, and the small red thing is the other."""
    values = np.zeros((40, 40, 3))
    values[...] = (90, 140, 210)
    values[..., 2] += np.linspace(-8, 8, 40)
    values[30:, 30:] = RED
    colours = palette(picture(values.round()), 8)
    assert len(colours) == 2
    assert colours[1] == ("#c81e28", pytest.approx(0.0625, abs=0.01))


def test_a_small_part_far_from_the_rest_has_a_colour_of_its_own() -> None:
    values = np.zeros((48, 48, 3))
    values[...] = np.linspace(40, 90, 48)[:, None, None]
    values[:6, :8] = (255, 220, 0)
    assert "#ffdc00" in [colour for colour, _ in palette(picture(values), 4)]


def test_transparent_pixels_have_no_share() -> None:
    image = stripes((20, (*GREEN, 0)), (10, (*RED, 255)), (10, (*BLUE, 200)))
    assert palette(image, 4) == [("#1e28b4", 0.5), ("#c81e28", 0.5)]


def test_where_nothing_is_seen_there_is_no_colour() -> None:
    clear = stripes((20, (*GREEN, 0)))
    assert palette(clear, 4) == []
    assert dominant(clear) == "#ffffff"


@pytest.mark.parametrize("bands", [1, 2])
def test_grey_pictures_have_greys(bands: int) -> None:
    image = stripes((30, (60, 255)[:bands]), (10, (200, 255)[:bands]))
    assert palette(image, 3) == [("#3c3c3c", 0.75), ("#c8c8c8", 0.25)]


def test_the_same_picture_always_gives_the_same() -> None:
    image = picture(np.random.default_rng(2).integers(0, 256, (90, 70, 3)))
    assert palette(image, 8) == palette(image.copy_memory(), 8)


def test_the_dominant_colour_is_that_of_most_pixels_not_their_mean() -> None:
    assert dominant(stripes((18, RED), (11, GREEN), (11, BLUE))) == "#c81e28"


def test_one_pixel_is_enough() -> None:
    assert palette(picture(np.full((1, 1, 3), GREY)), 3) == [("#808080", 1.0)]
