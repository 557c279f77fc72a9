"""Operations that bring something of their own: words, watermarks, details, and what is told."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from optidash_integrations import formats
from optidash_integrations.engine import fonts
from optidash_integrations.engine.process import process
from optidash_integrations.engine.tools import Tools
from optidash_integrations.errors import OptionError
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.variants import Variant

from .pictures import RED, WHITE, encoded, noise, quarters, seen

LIMITS = Limits()

has_font = pytest.mark.skipif(not fonts.system_default(), reason="no DejaVu Sans on this machine")


def variant_of(image: Image.Image, tools: Tools | None = None, **document: object) -> Variant:
    document = {"optimize": {"compression": "lossless"}, **document}
    operations = Operations.from_dict(document)
    return process(encoded(image), operations, formats.PNG, LIMITS, tools or Tools())


def made(image: Image.Image, tools: Tools | None = None, **document: object) -> Image.Image:
    return seen(variant_of(image, tools, **document))


def packed(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def inked(image: Image.Image, background: tuple[int, int, int] = WHITE) -> np.ndarray:
    """Return left, top, right and bottom of what is not background."""
    other = (np.asarray(image.convert("RGB")) != background).any(axis=2)
    rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1], rows[-1]])


def page(width: int = 200, height: int = 100) -> Image.Image:
    return Image.new("RGB", (width, height), WHITE)


@has_font
@pytest.mark.parametrize(
    ("gravity", "edges"),
    [("top-left", (0, 1)), ("bottom-right", (2, 3)), ("top-right", (2, 1)), ("left", (0,))],
)
def test_words_stand_at_their_padding_from_the_edges(gravity: str, edges: tuple[int, ...]) -> None:
    asked = {"text": packed("Hn"), "size": 24, "gravity": gravity, "padding": 10}
    box = inked(made(page(), text=asked))
    wanted = (10, 10, 189, 89)
    assert all(abs(box[edge] - wanted[edge]) <= 2 for edge in edges)


@has_font
def test_words_are_in_the_middle_black_and_opaque_unless_asked() -> None:
    image = made(page(), text={"text": packed("H"), "size": 60})
    left, top, right, bottom = inked(image)
    assert abs((left + right) / 2 - 99.5) <= 1
    assert abs((top + bottom) / 2 - 49.5) <= 1
    assert 38 <= bottom - top <= 48  # a capital is about seven tenths of its size
    assert image.convert("L").getextrema()[0] == 0
    faint = made(page(), text={"text": packed("H"), "size": 60, "opacity": 0.5})
    assert 120 <= faint.convert("L").getextrema()[0] <= 135


@has_font
def test_words_wrap_at_their_width_and_keep_their_lines() -> None:
    words = "one two three four"
    narrow = inked(made(page(), text={"text": packed(words), "width": 60}))
    wide = inked(made(page(), text={"text": packed(words), "width": 190}))
    lines = inked(made(page(), text={"text": packed("a\nb\nc\n")}))
    assert narrow[2] - narrow[0] <= 62 < wide[2] - wide[0]
    assert narrow[3] - narrow[1] > 2 * (wide[3] - wide[1])
    assert lines[3] - lines[1] > 50


@has_font
def test_words_that_look_like_markup_are_words() -> None:
    markup = '<span background="red" size="99999">x</span>&amp;'
    image = np.asarray(made(page(600, 60), text={"text": packed(markup), "size": 12}))
    assert (image[..., 0] == image[..., 1]).all()  # nothing red
    assert inked(Image.fromarray(image))[2] > 400


@has_font
def test_bold_takes_more_ink() -> None:
    plain, bold = (
        np.asarray(made(page(), text={"text": packed("Hello"), "size": 30, "weight": weight}))
        for weight in ("normal", "bold")
    )
    assert (255 - bold.astype(int)).sum() > 1.2 * (255 - plain.astype(int)).sum()


@has_font
def test_words_longer_than_the_picture_are_cut_at_its_edges() -> None:
    image = made(page(40, 20), text={"text": packed("W" * 50), "size": 30, "width": 2000})
    assert image.size == (40, 20)


@has_font
def test_a_font_that_is_not_registered_is_refused() -> None:
    with pytest.raises(OptionError, match=r'text.font takes one of .*DejaVu Sans.*, not "Comic"'):
        made(page(), text={"text": packed("x"), "font": "Comic"})


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_super_resolution_without_a_model_enlarges_sharply(factor: int) -> None:
    image = made(quarters(40, 20), super_resolution={"factor": factor})
    assert image.size == (40 * factor, 20 * factor)
    row = np.asarray(image)[2, :, 0].astype(int)
    plain = np.asarray(quarters(40, 20).resize(image.size, Image.Resampling.BILINEAR))
    assert np.abs(np.diff(row)).max() > np.abs(np.diff(plain[2, :, 0].astype(int))).max()


def test_what_is_detected_is_told_in_the_metadata() -> None:
    detect = {"palette": 4, "placeholder": "thumbhash"}
    told = variant_of(quarters(80, 40), detect=detect).metadata
    assert told.palette is not None
    assert {colour["color"] for colour in told.palette} == {
        "#ff0000",
        "#00ff00",
        "#0000ff",
        "#ffffff",
    } or len(told.palette) == 4
    assert sum(float(str(colour["share"])) for colour in told.palette) == pytest.approx(1, abs=0.02)
    assert told.placeholder is not None
    assert 15 <= len(base64.b64decode(told.placeholder)) <= 30
    assert told.faces is None


def test_a_placeholder_can_be_the_main_colour() -> None:
    told = variant_of(Image.new("RGB", (9, 9), RED), detect={"placeholder": "color"}).metadata
    assert told.placeholder == "#ff0000"


def test_no_face_in_noise_leaves_the_middle() -> None:
    fit = {"mode": "fit", "width": 20, "height": 40}
    source = noise(80, 40)
    plain = made(source, resize=fit)
    faced = made(source, resize={**fit, "gravity": "face"})
    assert np.array_equal(np.asarray(plain), np.asarray(faced))


def test_a_watermark_folder_s_pictures_can_be_laid_over(tmp_path: Path) -> None:
    Image.new("RGBA", (10, 6), (255, 0, 0, 255)).save(tmp_path / "logo.png")
    tools = Tools(watermarks=tmp_path)
    image = made(page(), tools, watermark={"id": "logo", "gravity": "bottom-right", "padding": 4})
    assert list(inked(image)) == [186, 90, 195, 95]
    with pytest.raises(
        OptionError, match=r'watermark.id takes the name of a registered watermark, not "other"'
    ):
        made(page(), tools, watermark={"id": "other"})


def test_a_watermark_that_can_not_be_read_is_not_the_source_s_fault(tmp_path: Path) -> None:
    whole = encoded(quarters(40, 20))
    (tmp_path / "logo.png").write_bytes(whole[:-40])
    (tmp_path / "text.png").write_bytes(b"a text")
    cases = [("logo", LIMITS, "a damaged one"), ("text", LIMITS, "a format that is not read")]
    (tmp_path / "large.png").write_bytes(encoded(noise(250, 250)))
    cases.append(("large", Limits(max_pixels=60_000), "one past the limits"))
    for name, limits, reason in cases:
        asked = Operations.from_dict({"watermark": {"id": name}})
        with pytest.raises(OptionError, match=reason) as caught:
            process(encoded(page()), asked, formats.PNG, limits, Tools(watermarks=tmp_path))
        assert caught.value.name == "watermark.id"
        assert str(tmp_path) not in str(caught.value)
    fetched = Tools(fetch=lambda url: whole[:-40])
    with pytest.raises(OptionError, match=r"watermark\.url takes .* not a damaged one"):
        made(page(), fetched, watermark={"url": "https://pictures.example/logo.png"})
