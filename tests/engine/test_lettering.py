"""Text as a picture, and the fonts it may be in."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from optidash_integrations.colours import Colour
from optidash_integrations.engine import fonts as registry
from optidash_integrations.engine.fonts import Fonts, family_name, read_family
from optidash_integrations.engine.lettering import LONGEST_TEXT, printable, written
from optidash_integrations.engine.vips import pyvips
from optidash_integrations.errors import OptionError, ProcessorMissingError
from optidash_integrations.limits import Limits

BLACK: Colour = (0, 0, 0, 255)
BUNDLED = Fonts()


def draw(text: str, **options: object) -> pyvips.Image:
    given = {"size": 20, "colour": BLACK, "width": 1000, "fonts": BUNDLED} | options
    return written(text, **given)


def ink(image: pyvips.Image) -> float:
    """Return how much of a picture's alpha there is, in pixels."""
    return image[3].avg() / 255 * image.width * image.height


def pixels(image: pyvips.Image) -> np.ndarray:
    return image.numpy()


def rows_with_ink(image: pyvips.Image) -> int:
    """Return how many lines of text a picture has: runs of rows with ink."""
    has = (image.numpy()[:, :, 3] > 60).any(axis=1)
    return int(np.sum(has & ~np.concatenate(([False], has[:-1]))))


def test_text_is_srgb_with_alpha_in_the_colour_asked_for() -> None:
    image = draw("Hello", colour=(200, 30, 60, 255))
    assert (image.bands, image.interpretation, image.format) == (4, "srgb", "uchar")
    drawn = pixels(image)
    assert (drawn[..., :3] == (200, 30, 60)).all()
    assert drawn[..., 3].max() == 255
    assert drawn[..., 3].min() == 0


def test_a_colour_that_lets_through_gives_ink_that_does() -> None:
    assert pixels(draw("Hello", colour=(0, 0, 0, 128)))[..., 3].max() == 128


def test_the_size_is_in_pixels() -> None:
    # A capital of DejaVu Sans is 0.729 of its size high.
    heights = {size: draw("H", size=size).height for size in (20, 100, 400)}
    assert heights == pytest.approx({20: 15, 100: 73, 400: 292}, abs=1)


def test_weights_and_styles_differ_in_ink() -> None:
    light, normal, bold = (
        ink(draw("Word", size=60, weight=w)) for w in ("light", "normal", "bold")
    )
    assert light < normal < bold
    assert ink(draw("Word", size=60, weight="ultralight")) < normal
    assert ink(draw("Word", size=60, weight="heavy")) >= bold
    assert ink(draw("Word", size=60, weight="ultrabold")) >= bold
    upright, italic = draw("Hill", size=60), draw("Hill", size=60, style="italic")
    assert not np.array_equal(pixels(upright)[:, :20], pixels(italic)[:, :20])


def test_lines_break_where_asked_and_at_the_width() -> None:
    assert rows_with_ink(draw("H\nH\nH")) == 3
    assert rows_with_ink(draw("H H H H", width=22)) == 4
    assert rows_with_ink(draw("H H H H")) == 1


def test_a_word_longer_than_the_width_is_broken() -> None:
    assert draw("H" * 60, width=100).width <= 101


@pytest.mark.parametrize(("alignment", "place"), [("left", 0.0), ("center", 0.5), ("right", 1.0)])
def test_short_lines_lie_where_the_alignment_says(alignment: str, place: float) -> None:
    drawn = pixels(draw("HHHHHHHHHH\nI", size=40, alignment=alignment))[..., 3]
    columns = np.nonzero(drawn[-10:].any(axis=0))[0]
    free = drawn.shape[1] - (columns[-1] - columns[0] + 1)
    assert columns[0] / free == pytest.approx(place, abs=0.03)


@pytest.mark.parametrize(
    "text",
    [
        "<b>H</b>",
        "a & b",
        "&lt;",
        '<span font="/etc/passwd" size="999999">H</span>',
        "<img src='http://127.0.0.1:9/x'/>",
        "file:///etc/passwd",
        "<!-- H -->",
        "]]>",
    ],
)
def test_markup_is_text(text: str) -> None:
    """Every character of it is drawn: without the first and the last the picture is narrower."""
    whole = draw(text, width=4000)
    assert whole.height < 40
    assert whole.width > draw(text[1:-1], width=4000).width + 4


def test_control_characters_are_dropped_and_lines_are_lines() -> None:
    assert printable("a\x00b\x1b[0m\u0085c\ud800\r\nd\re\tf\n\n") == "ab[0mc\nd\ne f"


def test_accents_do_not_pile_up() -> None:
    assert printable("a" + "\u0301" * 1000 + "b") == "a" + "\u0301" * 4 + "b"
    assert draw("a" + "\u0301" * 1000).height < 100


@pytest.mark.parametrize("text", ["", "  ", "\n\n", "\x00"])
def test_nothing_to_see_is_one_clear_pixel(text: str) -> None:
    image = draw(text)
    assert (image.width, image.height, image(0, 0)[3]) == (1, 1, 0)


def test_a_text_too_long_is_refused() -> None:
    assert draw("i" * LONGEST_TEXT).width <= 1001
    with pytest.raises(OptionError, match=r"text\.text takes up to 2000 characters"):
        draw("i" * (LONGEST_TEXT + 1))


def test_a_text_of_too_many_pixels_is_refused_before_it_is_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[str] = []
    text = pyvips.Image.text

    def noted(*given: object, **options: object) -> pyvips.Image:
        sizes.append(str(options["font"]).rpartition(" ")[2])
        return text(*given, **options)

    BUNDLED.family(None)
    monkeypatch.setattr(pyvips.Image, "text", staticmethod(noted))
    with pytest.raises(OptionError, match=r"text\.size takes a size at which the text fits"):
        draw("W" * 1000, size=1000, width=4096)
    assert sizes == ["4"]


def test_a_size_above_the_longest_side_is_refused() -> None:
    with pytest.raises(OptionError, match=r"text\.size"):
        draw("i", size=500, limits=Limits(max_height=400))


def test_the_family_of_the_system_is_there_unasked_for() -> None:
    assert BUNDLED.family(None) == "DejaVu Sans"
    assert BUNDLED.family("dejavu sans") == "DejaVu Sans"
    assert "DejaVu Sans" in BUNDLED.families


@pytest.mark.parametrize(
    "name", ["DejaVu Serif", "Sans", "/etc/passwd", "DejaVu Sans Bold 900", ""]
)
def test_a_family_that_is_not_registered_is_refused(name: str) -> None:
    """Also one that the system has: the result must not depend on what is installed."""
    with pytest.raises(OptionError, match=r"text\.font takes one of DejaVu Sans, not"):
        draw("H", font=name)


def renamed(source: Path, family: str) -> bytes:
    """Return a font with a family of another name, as long as the old one."""
    data = source.read_bytes()
    old = family_name(source)
    assert len(old) == len(family)
    return data.replace(old.encode("utf-16-be"), family.encode("utf-16-be"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with a family of the site's own, and with files that are no fonts."""
    bold = next(path for path in BUNDLED.families["DejaVu Sans"] if "-Bold.ttf" in path.name)
    (tmp_path / "own.ttf").write_bytes(renamed(bold, "Quokka Face"))
    (tmp_path / "broken.ttf").write_bytes(b"\x00\x01\x00\x00\x00")
    (tmp_path / "empty.otf").write_bytes(b"")
    (tmp_path / "readme.txt").write_text("no font")
    return tmp_path


def test_the_fonts_of_a_folder_are_registered_by_their_family(folder: Path) -> None:
    fonts = Fonts(folder)
    assert list(fonts.families) == ["Quokka Face", "DejaVu Sans"]
    own = draw("Word", size=60, font="quokka face", fonts=fonts)
    assert ink(own) == pytest.approx(ink(draw("Word", size=60, weight="bold")), rel=0.01)


def test_without_the_system_s_family_the_folder_s_first_is_the_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "system_default", dict)
    assert Fonts(folder).family(None) == "Quokka Face"


def test_without_any_font_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "system_default", dict)
    for fonts in (Fonts(), Fonts(tmp_path), Fonts(tmp_path / "missing")):
        with pytest.raises(ProcessorMissingError, match="fonts-dejavu-core"):
            fonts.family(None)


def test_a_typographic_family_wins_over_one_of_four_styles() -> None:
    records = [(3, 0x409, 1, "Quokka Thin"), (3, 0x407, 16, "Kwokka"), (3, 0x409, 16, "Quokka")]
    assert read_family(font(records)) == "Quokka"
    assert read_family(font([(3, 0x409, 2, "Bold")])) == ""


def font(records: list[tuple[int, int, int, str]]) -> bytes:
    """Return a font file that holds names only."""
    texts = [name.encode("utf-16-be") for _, _, _, name in records]
    table = struct.pack(">HHH", 0, len(records), 6 + 12 * len(records))
    offset = 0
    for (system, language, kind, _), text in zip(records, texts, strict=True):
        table += struct.pack(">6H", system, 1, language, kind, len(text), offset)
        offset += len(text)
    table += b"".join(texts)
    return (
        struct.pack(">IHHHH", 0x10000, 1, 0, 0, 0)
        + struct.pack(">4sIII", b"name", 0, 28, len(table))
        + table
    )
