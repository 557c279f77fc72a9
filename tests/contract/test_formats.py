"""Which picture a browser gets: format, size and options."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from PIL import Image

from tests.conftest import MakeSite
from tests.sites.base import Site
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
    tiny,
    with_exif,
)

AVIF, WEBP, JPEG = "image/avif", "image/webp", "image/jpeg"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (CHROME["accept"], AVIF),
        (WEBP_ONLY["accept"], WEBP),
        (OLD["accept"], JPEG),
        ("image/*", JPEG),
        ("*/*", JPEG),
        ("image/avif;q=0, image/webp", WEBP),
        ("image/avif;q=0.1, image/webp;q=0.9, image/jpeg;q=0.1", WEBP),
        ("IMAGE/WEBP", WEBP),
        ("", JPEG),
        ("text/html", JPEG),
        ("%%% ;;; q=", JPEG),
        ("image/avif" + "," * 5000, JPEG),
        (None, JPEG),
    ],
)
def test_a_browser_gets_the_best_format_that_it_accepts(
    site: Site, accept: str | None, expected: str
) -> None:
    reply = site.get("/photo.jpg", {} if accept is None else {"accept": accept})
    assert (reply.status, reply.type) == (200, expected)
    assert reply.size == (120, 80)
    assert len(reply.body) < len(photo())
    assert int(reply.headers["content-length"]) == len(reply.body)
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_without_formats_the_source_keeps_its_own(make_site: MakeSite) -> None:
    site = make_site({"/photo.jpg": Route(photo())}, formats=())
    assert site.get("/photo.jpg", CHROME).type == JPEG


def test_an_old_browser_keeps_transparency(make_site: MakeSite) -> None:
    site = make_site({"/logo.png": Route(see_through(), "image/png")})
    reply = site.get("/logo.png", OLD)
    assert reply.type == "image/png"
    assert reply.picture.convert("RGBA").getpixel((5, 5))[3] == 0


def test_the_true_format_counts_and_not_what_the_app_calls_it(make_site: MakeSite) -> None:
    site = make_site({"/photo.jpg": Route(see_through(), "image/jpeg")})
    assert site.get("/photo.jpg", OLD).type == "image/png"


def test_media_types_have_parameters_and_nicknames(make_site: MakeSite) -> None:
    site = make_site({"/photo": Route(photo(), "Image/JPG; charset=utf-8")})
    assert site.get("/photo", CHROME).type == AVIF


def test_a_turned_photo_comes_out_upright_without_metadata(make_site: MakeSite) -> None:
    site = make_site({"/photo.jpg": Route(with_exif(orientation=6, position=True))})
    for browser in (CHROME, WEBP_ONLY, OLD):
        reply = site.get("/photo.jpg", browser)
        assert reply.size == (80, 120)
        assert not dict(reply.picture.getexif())


@pytest.mark.srv("SRV-56")
@pytest.mark.parametrize("browser", [CHROME, OLD], ids=["chrome", "old"])
@pytest.mark.parametrize("query", ["", "?w=20&h=20&fit=crop"])
def test_an_animation_stays_one(make_site: MakeSite, browser: dict[str, str], query: str) -> None:
    site = make_site({"/cat.gif": Route(animation(), "image/gif")})
    for _ in range(2):
        reply = site.get(f"/cat.gif{query}", browser)
        assert reply.status == 200
        assert reply.type == ("image/gif" if browser is OLD else reply.type)
        assert len(reply.body) <= len(animation())
        picture = Image.open(io.BytesIO(reply.body))
        assert picture.n_frames == 2
        picture.seek(1)
        picture.load()
        assert picture.info["duration"] == 100


def test_an_animation_becomes_webp_where_that_is_smaller(
    site_maker: Callable[..., Site],
) -> None:
    site = site_maker("flask", {"/cat.gif": Route(animation(), "image/gif")})
    assert site.get("/cat.gif", CHROME).type == WEBP
    resized = site.get("/cat.gif?w=20", CHROME)
    assert (resized.type, resized.size) == (WEBP, (20, 15))


def test_an_icon_goes_out_with_all_its_sizes(make_site: MakeSite) -> None:
    icon = encoded(pixels(64, 64), "ICO", sizes=[(16, 16), (64, 64)])
    site = make_site({"/favicon.ico": Route(icon, "image/x-icon")})
    assert site.get("/favicon.ico", CHROME).body == icon


def test_what_would_grow_is_kept_and_the_decision_cached(make_site: MakeSite) -> None:
    site = make_site({"/dot.jpg": Route(tiny(), headers=(("ETag", '"1"'),))}, formats=())
    first, second = site.get("/dot.jpg", CHROME), site.get("/dot.jpg", CHROME)
    assert first.body == second.body == tiny()
    assert first.headers["etag"] == second.headers["etag"]
    assert first.headers["etag"].startswith('"od-')
    assert not first.is_hit
    assert second.is_hit


def test_a_larger_source_is_scaled_down_to_fit(make_site: MakeSite) -> None:
    site = make_site({"/photo.jpg": Route(photo())}, max_width=60, max_height=60)
    assert site.get("/photo.jpg", WEBP_ONLY).size == (60, 40)


# Options


@pytest.mark.parametrize(
    ("query", "size"),
    [
        ("w=60", (60, 40)),
        ("h=40", (60, 40)),
        ("w=60&h=60", (60, 40)),
        ("w=60&h=60&fit=clip", (60, 40)),
        ("w=60&h=60&fit=crop", (60, 60)),
        ("w=60&h=60&fit=pad", (60, 60)),
        ("w=60&h=60&fit=fill", (60, 60)),
        ("w=600", (120, 80)),
        ("w=30&dpr=2", (60, 40)),
        ("rect=0,0,30,20", (30, 20)),
        ("w=400&h=300&fit=crop", (400, 300)),
        ("w=401&h=299&fit=crop", (401, 299)),
    ],
)
def test_options_give_exactly_that_size(make_site: MakeSite, query: str, size: tuple) -> None:
    large = photo(640, 480) if "40" in query and "crop" in query else photo()
    site = make_site({"/photo.jpg": Route(large)})
    assert site.get(f"/photo.jpg?{query}", WEBP_ONLY).size == size


@pytest.mark.parametrize("name", ["jpg", "png", "webp", "avif", "gif"])
def test_a_format_asked_for_wins_over_accept(site: Site, name: str) -> None:
    reply = site.get(f"/photo.jpg?fm={name}&w=60", CHROME)
    assert reply.type == {"jpg": JPEG}.get(name, f"image/{name}")
    assert reply.picture.format == {"jpg": "JPEG"}.get(name, name.upper())


def test_an_explicit_format_does_not_vary_with_accept(site: Site) -> None:
    assert "accept" not in site.get("/photo.jpg?fm=webp", CHROME).vary


def test_fm_auto_is_as_good_as_none(site: Site) -> None:
    plain, auto = site.get("/photo.jpg", CHROME), site.get("/photo.jpg?fm=auto", CHROME)
    assert plain.headers["etag"] == auto.headers["etag"]
    assert "accept" in auto.vary


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("w=wide", "w"),
        ("w=0", "w"),
        ("w=-1", "w"),
        ("w=99999", "w"),
        ("fit=squash", "fit"),
        ("fm=bmp", "fm"),
        ("q=101", "q"),
        ("w=60&w=70", "w"),
    ],
)
def test_a_wrong_option_gives_the_image_without_options(
    site: Site, query: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        reply = site.get(f"/photo.jpg?{query}", WEBP_ONLY)
        assert (reply.status, reply.type, reply.size) == (200, WEBP, (120, 80))
        detail = reply.cache.partition('detail="')[2]
        assert f"{name} takes" in detail
        assert len(detail) <= 201
        assert reply.cache.isascii()
        assert reply.cache.isprintable()
    logged = [each for each in caplog.records if f"{name} takes" in each.getMessage()]
    assert len(logged) == 1


@pytest.mark.parametrize("query", ["width=60", "height=9", "format=png", "utm_source=x&page=2"])
def test_on_an_intercepted_address_aliases_and_foreign_names_do_not_count(
    site: Site, query: str
) -> None:
    reply = site.get(f"/photo.jpg?{query}", WEBP_ONLY)
    assert (reply.type, reply.size) == (WEBP, (120, 80))
    assert "detail" not in reply.cache


def test_one_picture_under_many_queries_is_worked_on_once(site: Site) -> None:
    first = site.get("/photo.jpg?utm_source=a", WEBP_ONLY)
    second = site.get("/photo.jpg?utm_source=b", WEBP_ONLY)
    assert first.headers["etag"] == second.headers["etag"]
    assert second.is_hit


# Who may ask for how many sizes


def sized(site: Site, query: str) -> tuple[int, int]:
    return site.get(f"/photo.jpg?{query}", WEBP_ONLY).size


def site_with_transforms(make_site: MakeSite, **settings: object) -> Site:
    route = Route(photo(800, 600), headers=(("ETag", '"1"'),))
    return make_site({"/photo.jpg": route}, **settings)


def test_past_the_bound_sizes_snap_up_but_what_is_stored_stays_exact(make_site: MakeSite) -> None:
    site = site_with_transforms(make_site, variants_per_source=2)
    assert sized(site, "w=50") == (50, 38)
    assert sized(site, "w=60") == (60, 45)
    assert sized(site, "w=70") == (320, 240)
    assert sized(site, "w=80&h=82&fit=crop") == (320, 320)
    assert sized(site, "w=50") == (50, 38)


def test_an_allowlist_is_finite(make_site: MakeSite) -> None:
    site = site_with_transforms(make_site, transforms="allowlist")
    assert sized(site, "w=50&q=3") == (320, 240)
    assert sized(site, "w=384") == (384, 288)
    assert sized(site, "w=250&h=141&fit=crop&dpr=2") == (512, 288)


def test_transforms_none_ignores_what_is_not_signed(make_site: MakeSite) -> None:
    site = site_with_transforms(make_site, transforms="none")
    assert sized(site, "w=50") == (800, 600)


def test_transforms_any_knows_no_bound(make_site: MakeSite) -> None:
    site = site_with_transforms(make_site, transforms="any", variants_per_source=1)
    assert [sized(site, f"w={w}")[0] for w in (50, 60, 70)] == [50, 60, 70]


@pytest.mark.parametrize("transforms", ["none", "allowlist", "bounded"])
def test_a_signed_address_is_exact_whatever_transforms_say(
    make_site: MakeSite, transforms: str
) -> None:
    site = site_with_transforms(make_site, transforms=transforms, variants_per_source=1)
    signed = site.helper("url", "/photo.jpg", w=70)
    assert "s=" in signed
    assert site.get(signed, WEBP_ONLY).size == (70, 53)
    forged = signed.replace("w=70", "w=71")
    sized(site, "w=55")
    assert site.get(forged, WEBP_ONLY).size != (71, 53)


def test_variants_are_images_that_others_read_too(site: Site) -> None:
    for browser in (CHROME, WEBP_ONLY, OLD):
        reply = site.get("/photo.jpg", browser)
        with Image.open(io.BytesIO(reply.body)) as image:
            assert image.get_format_mimetype() == reply.type
