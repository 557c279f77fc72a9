"""Addresses and markup that templates make lead to pictures of that size."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from tests.conftest import MakeSite
from tests.sites.base import Site
from tests.sites.inner import Route
from tests.sites.photos import CHROME, OLD, photo, see_through


class Tags(HTMLParser):
    """The elements of a piece of markup, each with its attributes."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def candidates(srcset: str | None) -> list[tuple[str, int]]:
    parts = [each.split() for each in (srcset or "").split(", ")]
    return [(address, int(descriptor.removesuffix("w"))) for address, descriptor in parts]


@pytest.fixture
def gallery(make_site: MakeSite) -> Site:
    """Give a site with a photo of 700 x 500 in its folder, and the endpoint's own access rule."""
    site = make_site(widths=(100, 320, 640, 1280))
    site.keep("photo.jpg", photo(700, 500))
    return site


def test_an_address_gives_that_width(gallery: Site) -> None:
    for width in (320, 333, 700):
        address = gallery.helper("url", "photo.jpg", w=width)
        assert address.startswith(f"{gallery.mount}photo.jpg?")
        reply = gallery.get(address, CHROME)
        assert (reply.status, reply.size[0]) == (200, width)


def test_options_are_those_of_the_query(gallery: Site) -> None:
    address = gallery.helper("url", "photo.jpg", w=64, h=64, fit="crop", fm="webp", q=50)
    reply = gallery.get(address, CHROME)
    assert (reply.type, reply.size) == ("image/webp", (64, 64))


def test_each_candidate_is_as_wide_as_it_says_and_none_wider_than_the_source(
    gallery: Site,
) -> None:
    found = candidates(gallery.helper("srcset", "photo.jpg"))
    assert [width for _, width in found] == [100, 320, 640, 700]
    for address, width in found:
        reply = gallery.get(address, CHROME)
        assert (reply.status, reply.size[0]) == (200, width)
        assert "immutable" in reply.headers["cache-control"]


def test_an_img_has_everything_that_a_browser_needs(gallery: Site) -> None:
    markup = gallery.helper("img", "photo.jpg", alt='A "cat" & <dog>', sizes="50vw", id="first")
    ((tag, attributes),) = Tags(markup).found
    assert tag == "img"
    assert attributes["alt"] == 'A "cat" & <dog>'
    assert (attributes["width"], attributes["height"]) == ("700", "500")
    assert attributes["sizes"] == "50vw"
    assert attributes["id"] == "first"
    assert gallery.get(attributes["src"] or "", OLD).status == 200
    for address, width in candidates(attributes["srcset"]):
        assert gallery.get(address, CHROME).size[0] == width


def test_a_picture_offers_each_format_by_its_type(gallery: Site) -> None:
    markup = gallery.helper("picture", "photo.jpg", alt="A cat", w=320)
    tags = Tags(markup).found
    assert [tag for tag, _ in tags] == ["picture", "source", "source", "img"]
    for _, attributes in tags[1:3]:
        for address, width in candidates(attributes["srcset"]):
            reply = gallery.get(address)
            assert (reply.type, reply.size[0]) == (attributes["type"], width)
    fallback = gallery.get(tags[3][1]["src"] or "")
    assert fallback.type == "image/jpeg"


def test_a_picture_with_transparency_falls_back_to_png(gallery: Site) -> None:
    gallery.keep("logo.png", see_through())
    tags = Tags(gallery.helper("picture", "logo.png", alt="")).found
    assert gallery.get(tags[-1][1]["src"] or "").type == "image/png"


def test_alt_is_required(gallery: Site) -> None:
    with pytest.raises(Exception, match="alt"):
        gallery.helper("img", "photo.jpg")


def test_an_address_of_the_site_gets_options_and_works_through_the_middleware(
    make_site: MakeSite,
) -> None:
    site = make_site({"/shop/photo.jpg": Route(photo(700, 500))}, widths=(100, 320))
    address = site.helper("url", "/shop/photo.jpg", w=100)
    assert address == "/shop/photo.jpg?w=100"
    assert site.get(address, CHROME).size == (100, 71)
    tags = Tags(site.helper("img", "/shop/photo.jpg", alt="")).found
    assert "width" not in tags[0][1]
    for candidate, width in candidates(tags[0][1]["srcset"]):
        assert site.get(candidate, CHROME).size[0] == width


def test_an_address_elsewhere_keeps_its_query_and_fragment(gallery: Site) -> None:
    address = gallery.helper("url", "https://cdn.example/a.jpg?id=7#top", w=320)
    assert address.startswith("https://cdn.example/a.jpg?id=7&w=320")
    assert address.endswith("#top")


def test_a_name_that_is_no_image_still_gives_an_address(gallery: Site) -> None:
    assert gallery.mount in gallery.helper("url", "nothing.jpg", w=320)
    assert Tags(gallery.helper("img", "../../secret.jpg", alt="")).found[0][0] == "img"


def test_a_wrong_option_in_a_template_does_not_break_the_page(
    gallery: Site, caplog: pytest.LogCaptureFixture
) -> None:
    address = gallery.helper("url", "photo.jpg", w="wide")
    assert gallery.get(address, CHROME).status == 200
    assert "w takes" in caplog.text


def test_a_url_without_options_is_the_whole_picture(gallery: Site) -> None:
    reply = gallery.get(gallery.helper("url", "photo.jpg"), CHROME)
    assert reply.size == (700, 500)
