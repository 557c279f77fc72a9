from __future__ import annotations

import pytest

from optidash_integrations.colours import NAMED, Colour, colour_text, parse_colour


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        ("f00", (255, 0, 0, 255)),
        ("#f00", (255, 0, 0, 255)),
        ("f008", (255, 0, 0, 136)),
        ("#FF0000", (255, 0, 0, 255)),
        ("ff000080", (255, 0, 0, 128)),
        ("red", (255, 0, 0, 255)),
        ("RebeccaPurple", (102, 51, 153, 255)),
        ("transparent", (0, 0, 0, 0)),
    ],
)
def test_a_colour_is_hex_of_four_lengths_or_a_css_name(text: str, colour: Colour) -> None:
    assert parse_colour(text) == colour


@pytest.mark.parametrize("text", ["", "#", "f", "ff", "fffff", "fffffff", "ggg", "#red", "##fff"])
def test_anything_else_is_no_colour(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        parse_colour(text)


def test_all_names_of_css_are_known() -> None:
    assert len(NAMED) == 148 + len(["transparent"])
    assert {parse_colour(name)[3] for name in NAMED.keys() - {"transparent"}} == {255}


@pytest.mark.parametrize("text", ["ffffff", "ffffff00", "0000ff", "00ffff", "12345678"])
def test_a_colour_has_one_spelling_that_reads_as_the_same(text: str) -> None:
    assert colour_text(parse_colour(text)) == text


def test_full_alpha_is_left_out_of_the_spelling() -> None:
    assert colour_text(parse_colour("#FFF")) == "ffffff"
    assert colour_text(parse_colour("0000ffff")) == "0000ff"
