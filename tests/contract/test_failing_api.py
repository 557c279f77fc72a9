"""While the API fails, in whatever way, every page still gets its images.

The whole contract suite runs on a failing API too, see `tests.sites.failing`; here each way to fail
is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from optidash_integrations.processors import ApiProcessor
from tests.api import faults
from tests.api.faults import Fault
from tests.api.server import ApiServer
from tests.conftest import MakeSite, sites_of
from tests.contract.test_uploads import opened, saved
from tests.sites import FRAMEWORKS
from tests.sites.base import Clock, Reply, Site
from tests.sites.inner import Route, Routes
from tests.sites.photos import photo

FAULTS: dict[str, Fault] = {
    "500": faults.status(500),
    "401": faults.status(401),
    "402": faults.status(402),
    "422": faults.status(422),
    "429": faults.retry_after(778),
    "503 with a date": faults.retry_after(60, code=503),
    "HTML": faults.html(200),
    "closed": faults.close_before_head(),
    "silent": faults.stall_before_head(),
    "cut": faults.cut(),
    "wrong image": faults.html_as_image(),
    "no HTTP": faults.garbage(),
}
MODERN = {"accept": "image/avif,image/webp,*/*;q=0.5"}
ORIGINAL = photo()
ROUTES: Routes = {
    "/photo.jpg": Route(ORIGINAL, headers=(("ETag", '"app-1"'),)),
    "/plain.jpg": Route(ORIGINAL),
    "/long.jpg": Route(ORIGINAL, headers=(("Cache-Control", "public, max-age=86400, immutable"),)),
    "/page": Route(b"<p>a page", "text/html"),
}

WITH_API = [each for each in sites_of(*FRAMEWORKS) if each.id.endswith("-api")]
pytestmark = pytest.mark.parametrize("make_site", WITH_API, indirect=True)


@pytest.fixture
def broken() -> Iterator[ApiServer]:
    with ApiServer() as server:
        server.always_download = faults.status(404)
        yield server


@pytest.fixture(params=FAULTS)
def site(request: pytest.FixtureRequest, make_site: MakeSite, broken: ApiServer) -> Site:
    """Give a site whose API has failed since ever, in each way."""
    broken.always = FAULTS[request.param]
    return make_site(
        ROUTES,
        api_key=broken.key,
        api_url=broken.url,
        timeout=0.2,
        retries=0,
        public_paths=("/plain.jpg",),
        access="public",
    )


def is_short_lived(reply: Reply) -> bool:
    value = reply.headers["cache-control"]
    ages = [int(part.partition("=")[2]) for part in value.split(", ") if "age=" in part]
    return bool(ages) and max(ages) <= 60 and "immutable" not in value and "stale" not in value


@pytest.mark.parametrize("target", ["/photo.jpg", "/plain.jpg", "/long.jpg", "/photo.jpg?w=60"])
def test_visitors_get_the_original_for_a_short_time(site: Site, target: str) -> None:
    assert isinstance(site.service.processor, ApiProcessor)
    for _ in range(2):
        reply = site.get(target, MODERN)
        assert (reply.status, reply.type) == (200, "image/jpeg")
        assert reply.body == ORIGINAL
        assert is_short_lived(reply)
        assert "accept" in reply.vary
        assert reply.headers["etag"].startswith('"od-')


def test_the_endpoint_gives_the_original_too(site: Site) -> None:
    site.keep("cat.jpg", ORIGINAL)
    reply = site.get(site.mount + "cat.jpg", MODERN)
    assert (reply.status, reply.body) == (200, ORIGINAL)
    assert is_short_lived(reply)


def test_conditions_and_ranges_work_on_the_original(site: Site) -> None:
    first = site.get("/photo.jpg", MODERN)
    again = site.get("/photo.jpg", MODERN | {"if-none-match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    head = site.head("/photo.jpg", MODERN)
    assert (head.status, head.body) == (200, b"")


def test_pages_are_not_touched(site: Site) -> None:
    assert site.get("/page").body == b"<p>a page"


def test_an_upload_is_stored_whole(site: Site) -> None:
    kept = opened(saved(site, "photo.jpg", ORIGINAL))
    assert kept.size == opened(ORIGINAL).size


def test_helpers_go_on_making_addresses(site: Site) -> None:
    site.keep("cat.jpg", ORIGINAL)
    assert "srcset=" in site.helper("img", "cat.jpg", alt="A cat")


def test_when_the_api_is_back_visitors_get_variants(make_site: MakeSite, broken: ApiServer) -> None:
    clock = Clock()
    broken.always = faults.status(500)
    site = make_site(ROUTES, api_key=broken.key, api_url=broken.url, retries=0, clock=clock)
    processor = site.service.processor
    assert isinstance(processor, ApiProcessor)
    processor.breaker.clock = clock
    for target in ("/photo.jpg", *(f"/photo.jpg?w={width}" for width in range(40, 46))):
        assert site.get(target, MODERN).body == ORIGINAL
    assert processor.stats()["circuit"] == "open"
    asked = len(broken.seen)
    site.get("/photo.jpg?w=50", MODERN)
    assert len(broken.seen) == asked
    broken.always = None
    clock.go_on(700)
    assert site.get("/photo.jpg", MODERN).type in ("image/avif", "image/webp")
    assert processor.stats()["circuit"] == "closed"


def test_past_the_budget_visitors_get_originals(make_site: MakeSite, broken: ApiServer) -> None:
    site = make_site(ROUTES, api_key=broken.key, api_url=broken.url, monthly_budget=1)
    assert site.get("/photo.jpg", MODERN).type in ("image/avif", "image/webp")
    reply = site.get("/photo.jpg?w=50", MODERN)
    assert reply.body == ORIGINAL
    assert is_short_lived(reply)
    assert site.get("/photo.jpg", MODERN).is_hit
