from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import quote

import pytest

from optidash_integrations.errors import OptionError
from optidash_integrations.markup import (
    Picture,
    candidate_widths,
    img,
    picture_element,
    srcset,
)

WIDTHS = (320, 640, 1280)


def address(options):
    pairs = sorted(options.items())
    return "/a.jpg" + "?" * bool(pairs) + "&".join(f"{n}={quote(str(v))}" for n, v in pairs)


def picture(width=None, height=None, **others) -> Picture:
    return Picture(address, width, height, **others)


class Elements(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names)
        self.found.append((tag, dict(attrs)))


def elements(html):
    return Elements(html).found


def attributes(html):
    [(tag, found)] = elements(html)
    assert tag == "img"
    return found


# Candidates


@pytest.mark.parametrize(
    ("widest", "expected"),
    [
        (None, [320, 640, 1280]),
        (5000, [320, 640, 1280]),
        (1280, [320, 640, 1280]),
        (1000, [320, 640, 1000]),
        (640, [320, 640]),
        (200, [200]),
    ],
)
def test_no_candidate_is_wider_than_the_source(widest, expected):
    assert candidate_widths(WIDTHS, widest) == expected


def test_candidates_ascend_and_none_comes_twice():
    assert candidate_widths([640, 320, 640], 640) == [320, 640]


def offered(picture, options):
    """Return the candidates as `w` or `w x h` of the address; it has to keep what it promises."""
    found = []
    for candidate in srcset(picture, WIDTHS, options).split(", "):
        url, descriptor = candidate.split(" ")
        query = dict(pair.split("=") for pair in url.partition("?")[2].split("&"))
        assert descriptor == f"{query['w']}w"
        found.append(f"{query['w']}x{query['h']}" if "h" in query else query["w"])
    return found


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        ((2000, 1000), {}, ["320", "640", "1280"]),
        ((1000, 500), {}, ["320", "640", "1000"]),
        ((100, 50), {}, ["100"]),
        ((None, None), {}, ["320", "640", "1280"]),
        ((2000, 1000), {"w": 400}, ["320", "400", "640", "800"]),
        ((None, None), {"w": 400}, ["320", "400", "640", "800"]),
        ((500, 250), {"w": 400}, ["320", "400", "500"]),
        ((2000, 1000), {"h": 200}, ["320", "400", "640", "800"]),
        ((2000, 1000), {"w": 800, "h": 200}, ["320", "400", "640", "800"]),
        ((2000, 1000), {"w": "100"}, ["100", "200"]),
        ((2000, 1000), {"w": 400, "dpr": 2}, ["320", "400", "640", "800"]),
    ],
)
def test_candidates_of_an_image_that_keeps_its_shape(size, options, expected):
    assert offered(picture(*size), options) == expected


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        ((2000, 2000), {"w": 400, "h": 300}, ["320x240", "400x300", "640x480", "800x600"]),
        ((2000, 450), {"w": 400, "h": 300}, ["320x240", "400x300", "600x450"]),
        ((2000, 150), {"w": 400, "h": 300}, ["200x150"]),
        ((500, 2000), {"w": 400, "h": 300}, ["320x240", "400x300", "500x375"]),
        ((None, None), {"w": 400, "h": 300}, ["320x240", "400x300", "640x480", "800x600"]),
        ((9000, 1), {"w": 400, "h": 300}, ["1x1"]),
    ],
)
@pytest.mark.parametrize("fit", ["crop", "cover", "pad", "fill"])
def test_candidates_of_a_box_keep_its_shape_and_stay_inside_the_source(
    size, options, expected, fit
):
    assert offered(picture(*size), {**options, "fit": fit}) == expected


def test_a_part_cut_out_of_the_source_is_what_there_is_of_it():
    cut = {"rect": "100,100,500,250"}
    assert offered(picture(2000, 1000), cut) == ["320", "500"]
    assert attributes(img(picture(2000, 1000), WIDTHS, alt="", options=cut))["height"] == "250"
    assert offered(picture(2000, 1000), {"rect": "1900,0,500,250"}) == ["100"]


def test_candidates_stay_below_what_a_variant_may_have():
    assert offered(picture(9000, 3000, max_width=700, max_height=700), {}) == ["320", "640", "700"]
    assert offered(picture(3000, 9000, max_width=700, max_height=700), {}) == ["233"]
    box = {"w": 400, "h": 600, "fit": "crop"}
    assert offered(picture(max_width=700, max_height=600), box) == ["320x480", "400x600"]


def test_other_options_come_along_with_each_candidate():
    found = srcset(picture(640, 480), WIDTHS, {"fm": "webp", "q": 50})
    assert found == "/a.jpg?fm=webp&q=50&w=320 320w, /a.jpg?fm=webp&q=50&w=640 640w"


@pytest.mark.parametrize(
    ("raw", "written"),
    [("/a b.jpg", "/a%20b.jpg"), (",/a,b.jpg,", "%2C/a,b.jpg%2C"), ("/a\n.jpg", "/a%0A.jpg")],
)
def test_an_address_cannot_break_the_list_of_candidates(raw, written):
    assert srcset(Picture(lambda options: raw), (320,)) == f"{written} 320w"


# <img>


def test_an_image_has_all_that_a_browser_needs_before_it_is_loaded():
    assert img(picture(1000, 500), WIDTHS, alt="A cat") == (
        '<img src="/a.jpg?w=640"'
        ' srcset="/a.jpg?w=320 320w, /a.jpg?w=640 640w, /a.jpg?w=1000 1000w"'
        ' sizes="100vw" alt="A cat" width="1000" height="500" loading="lazy" decoding="async">'
    )


@pytest.mark.parametrize(
    ("size", "options", "shown"),
    [
        ((1000, 500), {}, ("1000", "500")),
        ((1000, 500), {"w": 301}, ("301", "151")),
        ((1000, 500), {"h": 100}, ("200", "100")),
        ((1000, 500), {"w": 300, "h": 100}, ("200", "100")),
        ((1000, 500), {"w": 300, "h": 100, "fit": "crop"}, ("300", "100")),
        ((1000, 500), {"w": 300, "h": 100, "fit": "cover"}, ("300", "100")),
        ((1000, 500), {"w": 3000}, ("1000", "500")),
        ((1000, 500), {"w": 3000, "fit": "contain"}, ("3000", "1500")),
        ((1000, 500), {"w": 300, "fit": "crop"}, ("300", "150")),
        ((1000, 500), {"w": 300, "dpr": 2}, ("300", "150")),
        ((None, None), {}, (None, None)),
        ((None, None), {"w": 300}, (None, None)),
        ((None, None), {"w": 300, "h": 100}, (None, None)),
        ((None, None), {"w": 300, "h": 100, "fit": "crop"}, ("300", "100")),
    ],
)
def test_width_and_height_are_those_of_what_is_shown(size, options, shown):
    found = attributes(img(picture(*size), WIDTHS, alt="", options=options))
    assert (found.get("width"), found.get("height")) == shown


def test_what_was_asked_for_is_the_plain_source():
    asked = {"w": 300, "h": 100, "fit": "crop", "dpr": 2}
    assert attributes(img(picture(), WIDTHS, alt="", options=asked))["src"] == address(asked)


@pytest.mark.parametrize(
    ("size", "options", "sizes"),
    [
        ((1000, 500), {}, "100vw"),
        ((1000, 500), {"w": 300}, "(max-width: 300px) 100vw, 300px"),
        ((1000, 500), {"h": 100}, "(max-width: 200px) 100vw, 200px"),
        ((None, None), {"h": 100}, "100vw"),
    ],
)
def test_sizes_go_by_what_is_asked_for(size, options, sizes):
    assert attributes(img(picture(*size), WIDTHS, alt="", options=options))["sizes"] == sizes


def test_given_sizes_are_kept():
    given = "(max-width: 600px) 100vw, 50vw"
    assert attributes(img(picture(), WIDTHS, alt="", sizes=given))["sizes"] == given


def test_the_largest_image_in_view_is_loaded_at_once_and_first():
    found = attributes(img(picture(), WIDTHS, alt="", priority=True))
    assert (found["loading"], found["fetchpriority"]) == ("eager", "high")


def test_alt_is_required_and_may_be_empty():
    assert attributes(img(picture(), WIDTHS, alt=""))["alt"] == ""
    for make in (
        lambda: img(picture(), WIDTHS),
        lambda: picture_element(picture(), WIDTHS, ["webp"]),
    ):
        with pytest.raises(OptionError, match="alt takes a description of the image"):
            make()


def test_everything_is_escaped():
    sly = Picture(lambda options: "/a.jpg?x=1&y=\"><script>'", 10, 10)
    html = img(sly, WIDTHS, alt='"><script>', sizes='"<', attributes={"title": "<&'\">"})
    found = attributes(html)
    assert html.count("<") == html.count(">") == 1
    assert found["alt"] == '"><script>'
    assert found["src"] == "/a.jpg?x=1&y=\"><script>'"
    assert found["title"] == "<&'\">"


def test_further_attributes_pass_through():
    given = {"class_": "card", "data_id": 7, "hidden": True, "id": None, "loading": "eager"}
    found = attributes(img(picture(), WIDTHS, alt="", attributes=given))
    assert (found["class"], found["data-id"], found["hidden"]) == ("card", "7", None)
    assert found["loading"] == "eager"
    assert "id" not in found


def test_a_width_of_ones_own_is_not_given_a_height_of_ours():
    found = attributes(img(picture(1000, 500), WIDTHS, alt="", attributes={"width": 80}))
    assert found["width"] == "80"
    assert "height" not in found


@pytest.mark.parametrize("name", ["", "a b", 'on"', "x>", "a/b", "a=b"])
def test_an_attribute_has_a_name_that_html_has(name):
    with pytest.raises(OptionError, match="attributes takes"):
        img(picture(), WIDTHS, alt="", attributes={name: "x"})


# <picture>


def test_a_picture_offers_the_best_format_first_and_ends_in_one_that_all_browsers_show():
    html = picture_element(picture(640, 320), WIDTHS, ["avif", "webp"], alt="A cat")
    assert html == (
        "<picture>"
        '<source type="image/avif" srcset="/a.jpg?fm=avif&amp;w=320 320w, '
        '/a.jpg?fm=avif&amp;w=640 640w" sizes="100vw">'
        '<source type="image/webp" srcset="/a.jpg?fm=webp&amp;w=320 320w, '
        '/a.jpg?fm=webp&amp;w=640 640w" sizes="100vw">'
        '<img src="/a.jpg?fm=jpg&amp;w=640" srcset="/a.jpg?fm=jpg&amp;w=320 320w, '
        '/a.jpg?fm=jpg&amp;w=640 640w" sizes="100vw" alt="A cat" width="640" height="320" '
        'loading="lazy" decoding="async"></picture>'
    )


def test_a_picture_keeps_its_options_sizes_and_attributes():
    html = picture_element(
        picture(2000, 2000, fallback="png"),
        WIDTHS,
        ["webp"],
        alt="",
        sizes="50vw",
        options={"w": 400, "h": 300, "fit": "crop"},
        priority=True,
        attributes={"class_": "hero"},
    )
    [_, (_, source), (_, image)] = elements(html)
    assert source["sizes"] == image["sizes"] == "50vw"
    assert "fit=crop&fm=webp&h=240&w=320" in source["srcset"]
    assert image["src"] == "/a.jpg?fit=crop&fm=png&h=300&w=400"
    assert (image["width"], image["height"], image["class"]) == ("400", "300", "hero")
    assert image["fetchpriority"] == "high"


def test_without_formats_a_picture_holds_only_its_image():
    found = elements(picture_element(picture(), WIDTHS, [], alt=""))
    assert [tag for tag, _ in found] == ["picture", "img"]
