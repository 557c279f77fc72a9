from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFilter, ImageOps

from optidash_integrations import formats
from optidash_integrations.engine.process import process
from optidash_integrations.errors import OptionError
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations

from .pictures import BLUE, GREEN, RED, WHITE, corners, encoded, is_near, noise, quarters, seen

LIMITS = Limits()
CLEAR = (0, 0, 0, 0)
GREY = (128, 128, 128)


def made(
    image: Image.Image, output: formats.Format = formats.PNG, **document: object
) -> Image.Image:
    """Do operations, and return the result's pixels as they were written, without loss."""
    document = {"optimize": {"compression": "lossless"}, **document}
    return seen(process(encoded(image), Operations.from_dict(document), output, LIMITS))


def at_corners(image: Image.Image) -> list[object]:
    """Return the pixels in the very corners, with their alpha."""
    right, bottom = image.width - 1, image.height - 1
    return [image.getpixel(at) for at in ((0, 0), (right, 0), (0, bottom), (right, bottom))]


def flat(colour: tuple[int, ...], width: int = 16, height: int = 16) -> Image.Image:
    mode = "RGBA" if len(colour) == 4 else "RGB"
    return Image.new(mode, (width, height), colour)


def ramp() -> Image.Image:
    """A grey ramp in colour: 256 pixels from black to white."""
    row = np.arange(256, dtype=np.uint8)[None, :, None]
    return Image.fromarray(np.repeat(np.repeat(row, 8, 0), 3, 2))


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), dtype=float)


def lab(image: Image.Image) -> np.ndarray:
    """Return lightness and the two axes of colour, as littlecms has them, in bytes."""
    convert = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    found = np.asarray(ImageCms.applyTransform(image.convert("RGB"), convert))
    axes = found[..., 1:].astype(np.int8).astype(float)
    return np.concatenate([found[..., :1].astype(float), axes], axis=2)


# --- rotate


@pytest.mark.parametrize(
    ("angle", "expected"),
    [
        (90, [BLUE, RED, WHITE, GREEN]),
        (180, [WHITE, BLUE, GREEN, RED]),
        (270, [GREEN, WHITE, RED, BLUE]),
        (-90, [GREEN, WHITE, RED, BLUE]),
        (450, [BLUE, RED, WHITE, GREEN]),
        (360, [RED, GREEN, BLUE, WHITE]),
    ],
)
def test_quarter_turns_go_clockwise_and_change_no_pixel(
    angle: int, expected: list[tuple[int, ...]]
) -> None:
    image = made(quarters(80, 40), rotate={"angle": angle})
    assert image.size == ((40, 80) if angle % 180 else (80, 40))
    assert corners(image) == expected


def test_a_slanted_turn_grows_and_leaves_clear_corners() -> None:
    image = made(flat(RED, 60, 40), rotate={"angle": 45})
    assert image.size == (71, 71)
    assert [pixel[3] for pixel in at_corners(image)] == [0, 0, 0, 0]
    assert is_near(image.getpixel((35, 35)), (*RED, 255))


def test_a_slanted_turn_goes_clockwise() -> None:
    image = made(quarters(80, 80), rotate={"angle": 45, "background": "black"})
    middle = image.width // 2
    assert is_near(image.getpixel((middle, 20)), RED)  # the left top quarter comes to the top
    assert is_near(image.getpixel((image.width - 20, middle)), GREEN)


def test_the_corners_of_a_turn_get_its_background_and_a_picture_s_own_holes_do_not() -> None:
    image = made(flat((0, 0, 0, 0), 40, 40), rotate={"angle": 30, "background": "blue"})
    assert at_corners(image) == [(*BLUE, 255)] * 4
    assert image.getpixel((image.width // 2, image.height // 2))[3] == 0


def test_the_corners_are_white_where_nothing_can_be_clear() -> None:
    image = made(flat(RED, 40, 40), formats.JPEG, rotate={"angle": 45})
    assert all(is_near(pixel, WHITE) for pixel in corners(image))


# --- flip


@pytest.mark.parametrize(
    ("flip", "expected"),
    [
        ({"horizontal": True}, [GREEN, RED, WHITE, BLUE]),
        ({"vertical": True}, [BLUE, WHITE, RED, GREEN]),
        ({"horizontal": True, "vertical": True}, [WHITE, BLUE, GREEN, RED]),
        ({}, [RED, GREEN, BLUE, WHITE]),
    ],
)
def test_a_mirror_image_changes_sides(flip: dict[str, bool], expected: list[object]) -> None:
    assert corners(made(quarters(), flip=flip)) == expected


# --- auto


def test_enhance_stretches_a_dull_picture_and_keeps_its_hues() -> None:
    dull = Image.fromarray((levels(noise(64, 64)) * 0.3 + 90).astype(np.uint8))
    better = levels(made(dull, auto={"enhance": True}))
    assert np.ptp(better.mean(axis=2)) > 1.3 * np.ptp(levels(dull).mean(axis=2))
    before, after = lab(dull), lab(Image.fromarray(better.astype(np.uint8)))
    assert np.abs(before[..., 1:] - after[..., 1:]).mean() < 6


def test_enhance_leaves_a_flat_and_a_full_picture_as_they_are() -> None:
    assert corners(made(flat(GREY), auto={"enhance": True})) == [GREY] * 4
    full = ramp()
    assert np.abs(levels(made(full, auto={"enhance": True})) - levels(full)).mean() < 3


# --- adjust


@pytest.mark.parametrize(
    ("adjust", "before", "after"),
    [
        ({"brightness": 50}, (100, 40, 200), (150, 60, 255)),
        ({"brightness": -100}, (100, 40, 200), (0, 0, 0)),
        ({"contrast": 100}, (100, 128, 200), (73, 129, 255)),
        ({"contrast": -100}, (100, 40, 200), (128, 128, 128)),
        ({"gamma": 2.0}, (64, 128, 255), (128, 181, 255)),
        ({"gamma": 0.5}, (128, 0, 255), (64, 0, 255)),
        ({"saturation": -100}, (255, 0, 0), (54, 54, 54)),
        ({"saturation": 100}, (150, 100, 100), (189, 89, 89)),
        ({"saturation": 50}, GREY, GREY),
        ({"hue": 120}, GREY, GREY),
        ({"hue": 180, "saturation": -100}, (0, 255, 0), (182, 182, 182)),
    ],
)
def test_an_adjustment_does_what_its_formula_says(
    adjust: dict[str, float], before: tuple[int, ...], after: tuple[int, ...]
) -> None:
    assert is_near(made(flat(before), adjust=adjust).convert("RGB").getpixel((8, 8)), after, 1)


def test_a_turn_of_the_hue_keeps_how_light_a_colour_looks() -> None:
    weights = np.array([0.2126, 0.7152, 0.0722])
    before = np.array([120, 90, 60])
    after = np.array(made(flat(tuple(before)), adjust={"hue": 90}).getpixel((8, 8)))
    assert abs((after - before) @ weights) < 1.5
    assert after[1] > after[0]  # from orange towards green


def test_unsharp_makes_edges_steeper_and_leaves_flat_parts_alone() -> None:
    soft = ImageOps.expand(flat(GREY, 20, 20), 20, (90, 90, 90)).filter(ImageFilter.GaussianBlur(2))
    sharp = levels(made(soft, adjust={"unsharp": 60}))
    assert np.abs(np.diff(sharp, axis=1)).max() > 1.2 * np.abs(np.diff(levels(soft), axis=1)).max()
    assert np.abs(sharp[2, 2] - levels(soft)[2, 2]).max() <= 1


def test_adjustments_leave_what_is_clear_alone() -> None:
    image = made(flat((100, 40, 200, 77)), adjust={"brightness": 50, "hue": 10, "unsharp": 20})
    assert image.getpixel((3, 3))[3] == 77


# --- filter


def test_blur_is_as_wide_as_asked() -> None:
    point = flat((0, 0, 0), 61, 61)
    point.paste(WHITE, (30, 0, 31, 61))
    row = levels(made(point, filter={"blur": {"value": 4}}))[30, :, 0]
    places = np.arange(61) - 30
    assert abs(np.sqrt((row * places**2).sum() / row.sum()) - 4) < 0.4


def test_blur_lends_no_colour_from_what_is_clear() -> None:
    image = Image.new("RGBA", (40, 40), (0, 255, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 20, 40))
    blurred = made(image, filter={"blur": {"mode": "gaussian", "value": 3}})
    red, green, _, alpha = blurred.getpixel((20, 20))
    assert 60 < alpha < 200
    assert (red, green) == (255, 0)


def test_pixelate_makes_squares_of_mean_colours() -> None:
    source = noise(20, 20)
    blocks = levels(made(source, filter={"pixelate": 8}))
    assert (blocks[:8, :8] == blocks[0, 0]).all()
    assert np.abs(blocks[0, 0] - levels(source)[:8, :8].mean(axis=(0, 1))).max() <= 1
    assert blocks.shape == (20, 20, 3)


def test_grayscale_sepia_and_invert() -> None:
    grey = made(flat((200, 30, 60)), filter={"grayscale": True})
    assert grey.mode == "L"
    brown = made(flat((100, 100, 100)), filter={"sepia": True}).getpixel((1, 1))
    assert is_near(brown, (135, 120, 94), 1)
    assert made(flat((200, 30, 60, 9)), filter={"invert": True}).getpixel((1, 1)) == (
        55,
        225,
        195,
        9,
    )


def test_a_duotone_goes_from_the_dark_to_the_light_colour() -> None:
    tones = made(ramp(), stylize={"duotone": {"dark": "navy", "light": "ffd700"}})
    assert is_near(tones.getpixel((0, 4)), (0, 0, 128), 1)
    assert is_near(tones.getpixel((255, 4)), (255, 215, 0), 1)
    assert is_near(tones.getpixel((128, 4)), (128, 108, 64), 2)


def test_a_tint_gives_its_hue_and_keeps_lightness() -> None:
    source = noise(32, 32)
    before, after = lab(source), lab(made(source, filter={"tint": "704214"}))
    inner = (before[..., 0] > 60) & (before[..., 0] < 180)
    assert np.abs(before[..., 0] - after[..., 0])[inner].mean() < 8
    assert after[..., 2][inner].std() < 6


def test_a_vignette_darkens_the_corners_and_not_the_middle() -> None:
    image = levels(made(flat((200, 200, 200), 80, 60), filter={"vignette": 60}))
    assert image[30, 40, 0] == 200
    assert 60 < image[0, 0, 0] < 120
    assert image[0, 0, 0] == image[-1, -1, 0]
    assert levels(made(flat(WHITE, 80, 60), filter={"vignette": 100}))[0, 0, 0] < 12


def test_a_grey_picture_can_become_coloured() -> None:
    grey = Image.new("L", (16, 16), 100)
    assert made(grey, filter={"sepia": True}).mode == "RGB"
    assert made(grey, adjust={"saturation": 40, "hue": 50}).mode == "L"


# --- mask


def test_an_ellipse_touches_the_edges_and_leaves_clear_corners() -> None:
    image = made(flat(RED, 80, 40), mask={"shape": "ellipse"})
    alpha = np.asarray(image)[..., 3] / 255
    assert abs(alpha.sum() - np.pi * 40 * 20) < 8
    assert [pixel[3] for pixel in at_corners(image)] == [0, 0, 0, 0]
    assert alpha[20, 0] > 0.4
    assert alpha[0, 40] > 0.4
    assert ((alpha > 0.05) & (alpha < 0.95)).any()


def test_round_corners_have_their_radius() -> None:
    alpha = (
        np.asarray(made(flat(RED, 60, 40), mask={"shape": "rounded", "radius": 10}))[..., 3] / 255
    )
    assert abs(alpha.sum() - (60 * 40 - (4 - np.pi) * 100)) < 3
    assert alpha[0, 30] == 1
    assert alpha[20, 0] == 1


def test_a_radius_past_half_of_a_side_makes_round_ends() -> None:
    alpha = np.asarray(made(flat(RED, 60, 40), mask={"shape": "rounded", "radius": 999}))[..., 3]
    assert alpha[20, 0] > 200
    assert alpha[0, 0] == 0


def test_outside_of_a_mask_is_its_background() -> None:
    image = made(flat((0, 0, 0, 0)), mask={"shape": "ellipse", "background": "blue"})
    assert at_corners(image) == [(*BLUE, 255)] * 4
    assert image.getpixel((8, 8))[3] == 0
    jpeg = made(flat(RED), formats.JPEG, mask={"shape": "ellipse"})
    assert all(is_near(pixel, WHITE, 30) for pixel in corners(jpeg))


# --- border and padding


def test_a_border_grows_the_picture() -> None:
    image = made(flat(RED, 20, 10), border={"size": 5, "color": "blue"})
    assert image.size == (30, 20)
    assert corners(image) == [BLUE] * 4
    assert (image.getpixel((4, 10)), image.getpixel((5, 10))) == (BLUE, RED)


def test_a_border_s_corners_are_round_inside_and_outside() -> None:
    image = made(flat(RED, 60, 60), border={"size": 5, "radius": 20, "color": "blue"})
    assert image.size == (70, 70)
    assert image.getpixel((0, 0))[3] == 0
    assert image.getpixel((35, 2)) == (*BLUE, 255)
    assert is_near(image.getpixel((7, 7)), (*BLUE, 255), 40)  # the picture's own corner is covered
    assert image.getpixel((35, 35)) == (*RED, 255)


def test_without_a_size_a_border_only_rounds() -> None:
    image = made(flat(RED, 40, 40), border={"radius": 12, "background": "00ff0080"})
    assert image.size == (40, 40)
    assert image.getpixel((0, 0)) == (0, 255, 0, 128)
    assert image.getpixel((20, 0)) == (*RED, 255)


def test_padding_is_as_wide_as_each_side_says() -> None:
    image = made(flat(RED, 10, 10), padding={"size": 3, "left": 7, "color": "blue"})
    assert image.size == (20, 16)
    assert (image.getpixel((6, 5)), image.getpixel((7, 5))) == (BLUE, RED)
    assert (image.getpixel((16, 5)), image.getpixel((17, 5))) == (RED, BLUE)
    assert made(flat(RED), padding={"size": 2}).getpixel((0, 0))[3] == 0


def test_a_grey_picture_gets_a_coloured_frame() -> None:
    image = made(Image.new("L", (10, 10), 100), padding={"size": 2, "color": "red"})
    assert (image.mode, image.getpixel((0, 0)), image.getpixel((5, 5))) == ("RGB", RED, (100,) * 3)


# --- together


def test_the_order_is_that_of_the_engine_whatever_the_document_s() -> None:
    image = made(
        quarters(80, 40),
        padding={"size": 2, "color": "black"},
        border={"size": 3, "color": "white"},
        flip={"horizontal": True},
        rotate={"angle": 90},
        resize={"width": 40},
    )
    assert image.size == (20 + 10, 40 + 10)
    assert image.getpixel((0, 0)) == (0, 0, 0)
    assert image.getpixel((3, 3)) == WHITE
    inner = image.crop((5, 5, 25, 45))
    assert corners(inner) == [RED, BLUE, GREEN, WHITE]


def test_a_result_with_its_frame_fits_the_limits() -> None:
    limits = Limits(max_width=100, max_height=100)
    document = {"border": {"size": 10}, "padding": {"size": 5}, "rotate": {"angle": 30}}
    variant = process(encoded(quarters(400, 300)), Operations.from_dict(document), None, limits)
    assert max(variant.width, variant.height) == 100
    with pytest.raises(OptionError, match="at most 100 x 100 pixels with the image"):
        process(encoded(quarters()), Operations.from_dict({"padding": {"size": 50}}), None, limits)
