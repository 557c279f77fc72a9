"""Image delivery: sizes and formats (SRV-46 to SRV-58)."""

from __future__ import annotations

import io

import pytest
from PIL import Image, ImageChops, ImageOps, ImageStat

from tests.conftest import MakeSite
from tests.sites.base import Reply, Site
from tests.sites.inner import Route
from tests.sites.photos import (
    CHROME,
    OLD,
    WEBP_ONLY,
    animation,
    encoded,
    photo,
    pixels,
    see_through,
    with_exif,
)
from tests.sites.processor import HandProcessor


@pytest.fixture
def endpoint(make_site: MakeSite) -> Site:
    """Give a site whose endpoint is open to all, with pictures of several kinds."""
    site = make_site({"/photo.jpg": Route(photo())}, access="public")
    site.keep("photo.jpg", photo())
    site.keep("large.jpg", photo(640, 480))
    site.keep("logo.png", see_through())
    site.keep("turned.jpg", with_exif(orientation=6, position=True))
    site.keep("cat.gif", animation())
    return site


def ask(site: Site, name: str, browser: dict[str, str] = WEBP_ONLY) -> Reply:
    return site.get(site.mount + name, browser)


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return by how much two pictures differ, from 0 to 255."""
    return max(ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other)).mean)


@pytest.mark.srv("SRV-46")
def test_a_crop_has_exactly_the_size_and_is_not_distorted(endpoint: Site) -> None:
    reply = ask(endpoint, "large.jpg?w=400&h=300&fit=crop&fm=png")
    assert reply.size == (400, 300)
    square = ask(endpoint, "large.jpg?w=200&h=200&fit=crop&fm=png")
    whole = Image.open(io.BytesIO(photo(640, 480)))
    cut, squeezed = ImageOps.fit(whole, (200, 200)), whole.resize((200, 200))
    assert square.size == (200, 200)
    assert difference(square.picture, cut) < 4 < difference(square.picture, squeezed)


@pytest.mark.srv("SRV-47")
@pytest.mark.parametrize(("query", "size"), [("w=320", (320, 240)), ("h=120", (160, 120))])
def test_one_side_alone_keeps_the_ratio(endpoint: Site, query: str, size: tuple) -> None:
    assert ask(endpoint, f"large.jpg?{query}").size == size


@pytest.mark.srv("SRV-48")
@pytest.mark.parametrize(
    ("query", "name"),
    [
        *[(f"{name}={value}", name) for name in ("w", "h") for value in ("0", "-1", "x", "99999")],
        *[(f"q={value}", "q") for value in ("0", "101", "best")],
        ("dpr=9", "dpr"),
        ("w=", "w"),
        ("w=1.5", "w"),
        ("w=60&w=60", "w"),
        ("h=60&height=60", "h"),
    ],
)
def test_a_wrong_value_is_400_and_names_the_parameter(
    endpoint: Site, query: str, name: str
) -> None:
    reply = ask(endpoint, f"photo.jpg?{query}")
    assert reply.status == 400
    assert name in reply.body.decode().split(" takes")[0]


# On an address of the site's own a query may mean something else, so design.md makes no error.
@pytest.mark.srv("SRV-48")
def test_on_an_intercepted_address_a_wrong_value_is_no_error(endpoint: Site) -> None:
    reply = endpoint.get("/photo.jpg?w=0", WEBP_ONLY)
    assert (reply.status, reply.size) == (200, (120, 80))
    assert "w takes" in reply.cache


@pytest.mark.srv("SRV-49")
@pytest.mark.parametrize(
    ("query", "size"),
    [
        ("w=600", (120, 80)),
        ("w=600&h=600", (120, 80)),
        ("w=600&fit=clip", (120, 80)),
        ("w=600&h=600&fit=contain", (600, 400)),
        ("w=240&h=240&fit=fill", (240, 240)),
        ("w=240&h=240&fit=crop", (240, 240)),
    ],
)
def test_nothing_is_enlarged_unless_asked(endpoint: Site, query: str, size: tuple) -> None:
    assert ask(endpoint, f"photo.jpg?{query}").size == size


@pytest.mark.srv("SRV-49")
def test_bars_are_put_around_what_is_small(endpoint: Site) -> None:
    reply = ask(endpoint, "photo.jpg?w=240&h=240&fit=pad&bg=ff0000&fm=png")
    assert reply.size == (240, 240)
    whole = Image.open(io.BytesIO(photo())).convert("RGB")
    assert difference(whole, reply.picture.convert("RGB").crop((60, 80, 180, 160))) < 4
    assert reply.picture.convert("RGB").getpixel((57, 120)) == (255, 0, 0)


@pytest.mark.srv("SRV-50")
def test_a_turned_photo_is_upright_before_it_is_resized(endpoint: Site) -> None:
    for browser in (CHROME, WEBP_ONLY, OLD):
        reply = ask(endpoint, "turned.jpg?w=40", browser)
        assert reply.size == (40, 60)
        assert dict(reply.picture.getexif()) == {}
        assert "icc_profile" not in reply.picture.info


@pytest.mark.srv("SRV-51")
@pytest.mark.parametrize(
    ("accept", "photos", "logos"),
    [
        ("image/avif,image/webp", "avif", "avif"),
        ("image/avif;q=0.1,image/webp", "webp", "webp"),
        ("image/avif;q=0,image/webp;q=0.2", "webp", "webp"),
        ("image/webp;q=0", "jpeg", "png"),
        ("image/*", "jpeg", "png"),
        ("*/*", "jpeg", "png"),
        ("", "jpeg", "png"),
    ],
)
def test_accept_chooses_the_format(endpoint: Site, accept: str, photos: str, logos: str) -> None:
    for name, expected in (("photo.jpg", photos), ("logo.png", logos)):
        assert ask(endpoint, name, {"accept": accept}).type == f"image/{expected}"
        assert ask(endpoint, f"{name}?fm=auto", {"accept": accept}).type == f"image/{expected}"


@pytest.mark.srv("SRV-52")
def test_what_is_negotiated_varies_and_what_is_explicit_does_not(endpoint: Site) -> None:
    for name in ("photo.jpg", "photo.jpg?w=60", "photo.jpg?fm=auto", "cat.gif"):
        assert ask(endpoint, name).vary == {"accept"}
    for name in ("photo.jpg?fm=webp", "photo.jpg?fm=jpg&w=60"):
        assert ask(endpoint, name).vary == set()


@pytest.mark.srv("SRV-53")
def test_an_old_browser_gets_jpeg_or_png(endpoint: Site) -> None:
    old = {"accept": "image/png,image/*"}
    for name in ("photo.jpg", "logo.png", "turned.jpg", "large.jpg?w=60"):
        assert ask(endpoint, name, old).type in ("image/jpeg", "image/png")


@pytest.mark.srv("SRV-54")
def test_photos_become_jpeg_and_what_is_see_through_png(endpoint: Site) -> None:
    endpoint.keep("photo.webp", encoded(pixels(120, 80), "WEBP", quality=95))
    endpoint.keep("logo.webp", encoded(Image.open(io.BytesIO(see_through())), "WEBP"))
    assert ask(endpoint, "photo.webp", OLD).type == "image/jpeg"
    endpoint.keep("chart.png", encoded(Image.new("RGB", (120, 80), "red"), "PNG"))
    chart = ask(endpoint, "chart.png?w=60", OLD)
    assert (chart.type, chart.size) == ("image/png", (60, 40))
    logo = ask(endpoint, "logo.webp", OLD)
    assert logo.type == "image/png"
    assert logo.picture.convert("RGBA").getpixel((5, 5))[3] == 0


@pytest.mark.srv("SRV-55")
@pytest.mark.parametrize(
    ("formats", "expected"), [({"jpg", "png", "webp"}, "webp"), ({"jpg", "png"}, "jpeg")]
)
def test_a_format_that_can_not_be_written_gives_the_next(
    make_site: MakeSite, formats: set[str], expected: str
) -> None:
    processor = HandProcessor()
    processor.formats = frozenset(formats)
    site = make_site({"/photo.jpg": Route(photo())}, access="public", processor=processor)
    site.keep("photo.jpg", photo())
    for reply in (ask(site, "photo.jpg", CHROME), site.get("/photo.jpg", CHROME)):
        assert (reply.status, reply.type) == (200, f"image/{expected}")
    assert ask(site, "photo.jpg?fm=avif", CHROME).status < 500


@pytest.mark.srv("SRV-56")
@pytest.mark.parametrize("browser", [CHROME, WEBP_ONLY, OLD])
def test_an_animation_keeps_its_frames(endpoint: Site, browser: dict[str, str]) -> None:
    for name in ("cat.gif", "cat.gif?w=20"):
        reply = ask(endpoint, name, browser)
        assert reply.status == 200
        assert getattr(reply.picture, "n_frames", 1) == 2


@pytest.mark.srv("SRV-56")
@pytest.mark.parametrize("fm", ["jpg", "png", "avif", "webp", "gif"])
def test_whatever_format_is_asked_an_animation_is_not_broken(endpoint: Site, fm: str) -> None:
    reply = ask(endpoint, f"cat.gif?fm={fm}")
    assert reply.status in (200, 400, 415)
    if reply.status == 200:
        assert reply.type == f"image/{reply.picture.format.lower()}"
        assert reply.size == Image.open(io.BytesIO(animation())).size


# Where design.md differs: what is not on the list snaps to what is.
@pytest.mark.srv("SRV-57")
def test_an_allowlist_of_widths_snaps_up_and_knows_no_quality(make_site: MakeSite) -> None:
    site = make_site(access="public", transforms="allowlist", widths=[320, 480])
    site.keep("large.jpg", photo(640, 480))
    for query, width in (("w=320", 320), ("w=321", 480), ("w=1", 320), ("w=4000", 480)):
        assert ask(site, f"large.jpg?{query}").size[0] == width
    plain, other = ask(site, "large.jpg?w=320"), ask(site, "large.jpg?w=320&q=7")
    assert plain.headers["etag"] == other.headers["etag"]


@pytest.mark.srv("SRV-58")
def test_density_multiplies_both_sides_and_then_limits_apply(make_site: MakeSite) -> None:
    site = make_site(access="public", max_width=300, max_height=300)
    site.keep("large.jpg", photo(640, 480))
    assert ask(site, "large.jpg?w=80&h=60&dpr=2&fit=crop").size == (160, 120)
    past = ask(site, "large.jpg?w=280&dpr=3")
    assert past.status == 400 or max(past.size) <= 300
    hinted = {"dpr": "3", "width": "900", "viewport-width": "300", "save-data": "on"}
    plain, hints = (ask(site, "large.jpg?w=80", WEBP_ONLY | more) for more in ({}, hinted))
    assert (plain.body, plain.vary) == (hints.body, hints.vary)
