"""Registered watermarks, and where and how they lie over a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from optidash_integrations.engine.plan import PLACES
from optidash_integrations.engine.vips import pyvips
from optidash_integrations.engine.watermarks import Watermarks, laid
from optidash_integrations.errors import (
    BrokenImageError,
    ImageTooLargeError,
    OptionError,
    UnsupportedImageError,
)
from optidash_integrations.limits import Limits

from .pictures import encoded, quarters

RED, BLUE, WHITE = (255, 0, 0, 255), (0, 0, 255, 255), (255, 255, 255, 255)


def plain(width: int, height: int, *colour: int) -> pyvips.Image:
    values = np.full((height, width, len(colour)), colour, np.uint8)
    image = pyvips.Image.new_from_array(values)
    return image.copy(interpretation="srgb" if len(colour) > 2 else "b-w")


def pixels(image: pyvips.Image) -> np.ndarray:
    return image.numpy().reshape(image.height, image.width, -1)


def marked(image: pyvips.Image, colour: tuple[int, ...] = RED) -> tuple[int, int, int, int]:
    """Return the box of all pixels of a colour: left, top, right, bottom."""
    rows, columns = np.nonzero((pixels(image)[..., :3] == colour[:3]).all(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "marks"
    home.mkdir()
    (home / "logo.png").write_bytes(encoded(quarters(20, 10, "RGBA")))
    (home / "grey_1.webp").write_bytes(encoded(Image.new("L", (8, 8), 90).convert("RGB"), "webp"))
    (home / "Photo-2.jpg").write_bytes(encoded(quarters(), "jpeg"))
    (home / "palette.gif").write_bytes(encoded(quarters(mode="P"), "gif"))
    (home / "broken.png").write_bytes(encoded(quarters())[:60])
    (home / "text.png").write_text("no picture")
    (tmp_path / "secret.png").write_bytes(encoded(quarters()))
    (home / "link.png").symlink_to(tmp_path / "secret.png")
    (home / "deep").mkdir()
    (home / "deep" / "inner.png").write_bytes(encoded(quarters()))
    return home


@pytest.mark.parametrize("name", ["logo", "grey_1", "Photo-2", "palette"])
def test_a_registered_mark_is_srgb_with_alpha(folder: Path, name: str) -> None:
    mark = Watermarks(folder).load(name)
    assert (mark.bands, mark.format, mark.interpretation) == (4, "uchar", "srgb")


def test_a_mark_comes_as_it_is(folder: Path) -> None:
    with Image.open(folder / "logo.png") as file:
        assert np.array_equal(pixels(Watermarks(folder).load("logo")), np.asarray(file))


@pytest.mark.parametrize(
    "name",
    ["none", "", ".", "..", "../secret", "link", "deep/inner", "logo.png", "logo\n", "a" * 101],
)
def test_only_names_in_the_folder_lead_to_a_mark(folder: Path, name: str) -> None:
    with pytest.raises(OptionError, match=r"watermark\.id takes the name of a registered"):
        Watermarks(folder).load(name)


def test_without_a_folder_there_is_no_mark() -> None:
    with pytest.raises(OptionError, match="registered watermark"):
        Watermarks().load("logo")


def test_a_mark_is_held_to_the_limits(folder: Path) -> None:
    with pytest.raises(ImageTooLargeError):
        Watermarks(folder, Limits(max_pixels=199)).load("logo")
    with pytest.raises(ImageTooLargeError):
        Watermarks(folder, Limits(max_input_bytes=20)).load("logo")


def test_what_is_no_picture_is_refused(folder: Path) -> None:
    with pytest.raises(BrokenImageError):
        Watermarks(folder).load("broken")
    with pytest.raises(UnsupportedImageError):
        Watermarks(folder).load("text")


BOXES = {
    "center": (40, 20, 60, 40),
    "top-left": (3, 3, 23, 23),
    "top": (40, 3, 60, 23),
    "top-right": (77, 3, 97, 23),
    "right": (77, 20, 97, 40),
    "bottom-right": (77, 37, 97, 57),
    "bottom": (40, 37, 60, 57),
    "bottom-left": (3, 37, 23, 57),
    "left": (3, 20, 23, 40),
}


@pytest.mark.parametrize("gravity", PLACES)
def test_gravity_and_padding_say_where_the_mark_lies(gravity: str) -> None:
    made = laid(plain(100, 60, 255, 255, 255), plain(20, 20, *RED), gravity=gravity, padding=3)
    assert marked(made) == BOXES[gravity]
    assert (made.width, made.height, made.bands) == (100, 60, 3)


@pytest.mark.parametrize("gravity", ["center", "top-left", "bottom-right"])
def test_a_mark_larger_than_the_picture_is_cut(gravity: str) -> None:
    values = np.zeros((90, 120, 4), np.uint8)
    values[..., 2:] = (9, 255)
    values[..., 0] = np.arange(120)
    values[..., 1] = np.arange(90)[:, None]
    mark = pyvips.Image.new_from_array(values).copy(interpretation="srgb")
    made = pixels(laid(plain(40, 30, 255, 255, 255), mark, gravity=gravity))
    left, top = {"center": (40, 30), "top-left": (0, 0), "bottom-right": (80, 60)}[gravity]
    assert np.array_equal(made, values[top : top + 30, left : left + 40, :3])


def test_a_mark_pushed_out_of_the_picture_changes_nothing() -> None:
    image = plain(20, 20, 1, 2, 3)
    made = laid(image, plain(5, 5, *RED), gravity="top-left", padding=30)
    assert np.array_equal(pixels(made), pixels(image))


def test_opacity_mixes_the_mark_with_the_picture() -> None:
    made = laid(plain(10, 10, 0, 0, 0), plain(4, 4, 200, 100, 40, 255), opacity=0.5)
    assert pixels(made)[5, 5] == pytest.approx([100, 50, 20], abs=1)
    unseen = laid(plain(10, 10, 0, 0, 0), plain(4, 4, *WHITE), opacity=0.0)
    assert not pixels(unseen).any()


def test_a_mark_s_own_alpha_counts_too() -> None:
    made = laid(plain(10, 10, 0, 0, 0), plain(10, 10, 200, 200, 200, 128), opacity=0.5)
    assert pixels(made)[0, 0] == pytest.approx([50, 50, 50], abs=1)


def test_size_is_a_part_of_the_picture_s_width() -> None:
    made = laid(plain(100, 100, 255, 255, 255), plain(10, 5, *RED), size=0.5)
    assert marked(made) == (25, 37, 75, 62) or marked(made) == (25, 38, 75, 63)
    smaller = laid(plain(100, 100, 255, 255, 255), plain(400, 200, *RED), size=0.2)
    assert marked(smaller) == (40, 45, 60, 55)


def test_a_mark_made_wider_does_not_become_higher_than_the_picture() -> None:
    made = laid(plain(100, 40, 255, 255, 255), plain(10, 20, *RED), size=1)
    assert marked(made) == (40, 0, 60, 40)
    thin = laid(plain(100, 40, 255, 255, 255), plain(1, 5000, *RED), size=1)
    assert (thin.width, thin.height) == (100, 40)


def test_a_tile_repeats_the_mark_over_the_whole_picture() -> None:
    made = pixels(laid(plain(50, 30, 255, 255, 255), plain(8, 6, *RED), padding=2, tile=True))
    red = (made == RED[:3]).all(axis=2)
    columns, rows = red.any(axis=0), red.any(axis=1)
    # Centred: one mark from column 21 to 28 and one from row 12 to 17; the rest in steps.
    assert np.array_equal(columns, (np.arange(50) - 21) % 10 < 8)
    assert np.array_equal(rows, (np.arange(30) - 12) % 8 < 6)
    assert np.array_equal(red, rows[:, None] & columns[None])


def test_a_tile_starts_where_gravity_says() -> None:
    image, mark = plain(50, 30, 255, 255, 255), plain(8, 6, *RED)
    made = pixels(laid(image, mark, gravity="bottom-right", padding=2, tile=True))
    red = (made == RED[:3]).all(axis=2)
    assert red[22:28, 40:48].all()
    assert not red[28:].any()
    assert not red[:, 48:].any()


@pytest.mark.parametrize("bands", [1, 2])
def test_grey_stays_grey_under_a_grey_mark_only(bands: int) -> None:
    image = plain(20, 20, *(40, 255)[:bands])
    grey = laid(image, plain(4, 4, 200, 200, 200, 255))
    assert (grey.bands, grey.interpretation, grey(10, 10)[0]) == (bands, "b-w", 200)
    coloured = laid(image, plain(4, 4, *RED))
    assert (coloured.bands, coloured.interpretation) == (bands + 2, "srgb")
    assert coloured(10, 10)[:3] == [255, 0, 0]
    assert coloured(0, 0)[:3] == [40, 40, 40]


def test_clear_pixels_beside_the_mark_stay_as_they_are() -> None:
    image = plain(20, 20, 10, 200, 30, 0)
    made = laid(image, plain(4, 4, *BLUE))
    assert (made.bands, made.interpretation) == (4, "srgb")
    assert made(0, 0) == [10, 200, 30, 0]
    assert made(10, 10) == list(BLUE)


def test_a_mark_that_lets_through_is_seen_on_clear_ground() -> None:
    made = laid(plain(8, 8, 0, 0, 0, 0), plain(8, 8, *BLUE), opacity=0.5)
    assert made(4, 4) == [0, 0, 255, 128]
