"""Compressing middleware below and above us: pixels, 304 and ranges stay right."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import override_settings
from PIL import Image
from starlette.middleware.gzip import GZipMiddleware
from starlette_compress import CompressMiddleware, add_compress_type, remove_compress_type

from optidash_integrations.asgi import OptidashMiddleware
from optidash_integrations.django.checks import check_middleware
from tests.conftest import MakeSite, sites_of
from tests.sites.base import Reply, Site
from tests.sites.django_site import OURS
from tests.sites.inner import Route
from tests.sites.photos import CHROME, OLD, WEBP_ONLY, photo

DJANGO_GZIP = "django.middleware.gzip.GZipMiddleware"
ZIPPED = {"accept-encoding": "gzip"}
PHOTO = photo(400, 300)
PAGE = b"<p>hello " * 200

# Some compressors leave images alone; these are told not to.
WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "starlette": lambda app: GZipMiddleware(app),
    "starlette-eager": lambda app: GZipMiddleware(app, exclude_content_types=()),
    "starlette-compress": lambda app: CompressMiddleware(app),
}


@dataclass
class Place:
    """A site, the compressor around it and where that stands."""

    site: Site
    above: bool
    squeezes_images: bool

    @property
    def encodes(self) -> bool:
        """Whether every image is compressed; Django does so where it becomes smaller."""
        return self.above and self.squeezes_images and self.site.kind == "asgi"


@pytest.fixture(scope="module", autouse=True)
def eager_types() -> Iterator[None]:
    kinds = ("image/jpeg", "image/webp", "image/avif")
    for kind in kinds:
        add_compress_type(kind)
    yield
    for kind in kinds:
        remove_compress_type(kind)


SIDES = {"below": False, "above": True}
CASES = [
    pytest.param((kind, name, above), id=f"{kind}-{name}-{side}")
    for kind, names in {"django": ["gzip"], "django_async": ["gzip"], "asgi": WRAPPERS}.items()
    for name in names
    for side, above in SIDES.items()
]


def routes() -> dict[str, Route]:
    tag = (("ETag", '"1"'),)
    return {
        "/photo.jpg": Route(PHOTO, headers=tag),
        "/photo": Route(PHOTO, headers=tag),
        "/page": Route(PAGE, "text/html"),
    }


@pytest.fixture(params=CASES)
def place(request: pytest.FixtureRequest, site_maker: Callable[..., Site]) -> Iterator[Place]:
    """Give a site with a compressor above or below ours."""
    kind, name, above = request.param
    with ExitStack() as stack:
        if name == "gzip":
            below = [] if above else [DJANGO_GZIP]
            site = site_maker(kind, routes(), framework={"middleware": below})
            if above:
                stack.enter_context(override_settings(MIDDLEWARE=[DJANGO_GZIP, OURS]))
                site.app = site.handler()
        else:
            site = site_maker(kind, routes())
            wrap = WRAPPERS[name]
            if above:
                site.app = wrap(site.app)
            else:
                site.app = OptidashMiddleware(wrap(site.app.app), optidash=site.optidash)
        yield Place(site, above, squeezes_images=name != "starlette")


def pixels(reply: Reply) -> tuple[str, tuple[int, int], bytes]:
    """Return what a browser shows: it takes the encoding off first."""
    encoding = reply.headers.get("content-encoding", "identity")
    assert encoding in ("identity", "gzip")
    body = gzip.decompress(reply.body) if encoding == "gzip" else reply.body
    with Image.open(io.BytesIO(body)) as image:
        return image.get_format_mimetype(), image.size, image.convert("RGB").tobytes()


@pytest.mark.parametrize("browser", [CHROME, WEBP_ONLY, OLD], ids=["avif", "webp", "old"])
def test_pixels_are_those_of_an_answer_that_is_not_compressed(
    place: Place, browser: dict[str, str]
) -> None:
    plain = pixels(place.site.get("/photo.jpg", browser))
    for _ in range(2):
        reply = place.site.get("/photo.jpg", browser | ZIPPED)
        assert pixels(reply) == plain
        assert reply.type == plain[0]
        assert "accept" in reply.vary
        if "content-length" in reply.headers:
            assert int(reply.headers["content-length"]) == len(reply.body)
        assert "content-encoding" in reply.headers or not place.encodes
        if "content-encoding" in reply.headers:
            assert "accept-encoding" in reply.vary


def test_a_tag_matches_though_it_was_weakened_above(place: Place) -> None:
    place.site.get("/photo.jpg", CHROME)
    for encoding in ({}, ZIPPED):
        first = place.site.get("/photo.jpg", CHROME | encoding)
        tag = first.headers["etag"].removeprefix("W/")
        assert tag.startswith('"od-')
        for known in (first.headers["etag"], tag, f"W/{tag}", f'"x", W/{tag}'):
            again = place.site.get("/photo.jpg", CHROME | encoding | {"if-none-match": known})
            assert (again.status, again.body) == (304, b""), known
        assert place.site.get("/photo.jpg", CHROME | {"if-none-match": 'W/"od-0"'}).status == 200


def test_a_range_is_a_part_of_the_image(place: Place) -> None:
    whole = place.site.get("/photo.jpg", CHROME)
    for encoding in ({}, {"accept-encoding": "identity"}):
        part = place.site.get("/photo.jpg", CHROME | encoding | {"range": "bytes=10-1009"})
        assert (part.status, part.body) == (206, whole.body[10:1010])


def test_a_range_in_an_answer_that_may_be_compressed_is_still_true(place: Place) -> None:
    if place.above and place.site.kind.startswith("django"):  # it compresses parts as well
        assert [problem.id for problem in check_middleware()] == ["optidash.E003"]
        return
    whole = place.site.get("/photo.jpg", CHROME)
    part = place.site.get("/photo.jpg", CHROME | ZIPPED | {"range": "bytes=10-1009"})
    assert part.status == 206
    assert part.headers["content-range"] == f"bytes 10-1009/{len(whole.body)}"
    encoding = part.headers.get("content-encoding", "identity")
    assert encoding == "identity", "the offsets would be those of other bytes"
    assert part.body == whole.body[10:1010]


def test_an_image_that_comes_compressed_passes(place: Place) -> None:
    """On a path without an extension the app sees Accept-Encoding, and its answer is its own."""
    reply = place.site.get("/photo", CHROME | ZIPPED)
    shown = pixels(reply)
    assert shown[1] == (400, 300)
    assert reply.type == shown[0]
    if not place.above and place.squeezes_images:
        assert shown[0] == "image/jpeg"


def test_pages_are_compressed_as_ever(place: Place) -> None:
    reply = place.site.get("/page", {"accept": "text/html"} | ZIPPED)
    assert reply.headers["content-encoding"] == "gzip"
    assert gzip.decompress(reply.body) == PAGE


def test_head_tells_the_same_type_and_tag(place: Place) -> None:
    got = place.site.get("/photo.jpg", CHROME)
    head = place.site.head("/photo.jpg", CHROME | ZIPPED)
    assert (head.status, head.body, head.type) == (200, b"", got.type)
    assert head.headers["etag"].removeprefix("W/") == got.headers["etag"].removeprefix("W/")


@pytest.mark.parametrize("make_site", sites_of("django", "asgi")[:2], indirect=True)
def test_without_a_compressor_nothing_is_encoded(make_site: MakeSite) -> None:
    site = make_site(routes())
    reply = site.get("/photo.jpg", CHROME | ZIPPED)
    assert "content-encoding" not in reply.headers
