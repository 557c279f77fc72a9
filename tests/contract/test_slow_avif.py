"""Where AVIF would take too long, the visitor gets WebP now and AVIF later."""

from __future__ import annotations

from threading import Event

import pytest

from optidash_integrations.formats import AVIF, Format
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.variants import ImageData, Variant
from tests.conftest import MakeSite
from tests.sites.base import Site
from tests.sites.inner import Route
from tests.sites.photos import CHROME, photo
from tests.sites.processor import HandProcessor

ROUTES = {"/photo.jpg": Route(photo(), headers=(("ETag", '"app-1"'),))}
SLOW = 100.0
"""Seconds a megapixel; the photo has about a hundredth of one."""


@pytest.fixture
def processor() -> HandProcessor:
    return HandProcessor()


@pytest.fixture(params=["intercepted", "endpoint"])
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def slow_site(make_site: MakeSite, processor: HandProcessor, **settings: object) -> Site:
    site = make_site(
        ROUTES, processor=processor, access="public", **{"avif_budget": 0.5} | settings
    )
    site.keep("photo.jpg", photo())
    site.service.workshop.pace.known["image/avif"] = SLOW
    return site


def address(site: Site, target: str) -> str:
    return "/photo.jpg" if target == "intercepted" else site.mount + "photo.jpg"


def test_webp_comes_now_and_avif_once_it_is_there(
    make_site: MakeSite, processor: HandProcessor, target: str
) -> None:
    site = slow_site(make_site, processor)
    first = site.get(address(site, target), CHROME)
    assert (first.status, first.type) == (200, "image/webp")
    assert "max-age=60" in first.headers["cache-control"]
    assert "immutable" not in first.headers["cache-control"]
    assert "a smaller format is being made" in first.cache
    assert "accept" in first.vary
    site.finish_work()
    second = site.get(address(site, target), CHROME | {"if-none-match": first.headers["etag"]})
    assert (second.status, second.type) == (200, "image/avif")
    assert second.headers["etag"] != first.headers["etag"]
    assert processor.calls == 2
    for _ in range(3):
        assert site.get(address(site, target), CHROME).type == "image/avif"
    assert processor.calls == 2


class HeldAvif(HandProcessor):
    """Makes AVIF only once `held` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.held = Event()

    def process(
        self, source: ImageData, operations: Operations, output: Format | None, limits: Limits
    ) -> Variant:
        if output is AVIF:
            assert self.held.wait(30)
        return super().process(source, operations, output, limits)


def test_while_avif_is_being_made_webp_is_a_hit(make_site: MakeSite, target: str) -> None:
    processor = HeldAvif()
    site = slow_site(make_site, processor)
    webp = site.get(address(site, target), CHROME)
    for _ in range(3):
        hit = site.get(address(site, target), CHROME)
        assert (hit.type, hit.body, hit.is_hit) == ("image/webp", webp.body, True)
        assert "max-age=60" in hit.headers["cache-control"]
    assert processor.calls == 1
    processor.held.set()
    site.finish_work()
    assert site.get(address(site, target), CHROME).type == "image/avif"


@pytest.mark.parametrize("settings", [{"avif_budget": None}, {"avif_budget": 60}])
def test_who_has_time_gets_avif_at_once(
    make_site: MakeSite, processor: HandProcessor, settings: dict[str, object]
) -> None:
    site = slow_site(make_site, processor, **settings)
    assert site.get("/photo.jpg", CHROME).type == "image/avif"


def test_asked_for_by_name_it_is_avif_whatever_it_takes(
    make_site: MakeSite, processor: HandProcessor
) -> None:
    site = slow_site(make_site, processor)
    assert site.get("/photo.jpg?fm=avif", CHROME).type == "image/avif"


def test_small_results_are_quick_enough(make_site: MakeSite, processor: HandProcessor) -> None:
    site = slow_site(make_site, processor)
    assert site.get("/photo.jpg?w=16", CHROME).type == "image/avif"


def test_the_pace_is_learned_from_what_is_made(make_site: MakeSite) -> None:
    large = Route(photo(600, 400), headers=(("ETag", '"app-1"'),))
    site = make_site({"/large.jpg": large} | ROUTES, avif_budget=None)
    pace = site.service.workshop.pace
    site.get("/photo.jpg", CHROME)
    assert pace.known == {}  # too small to tell anything
    site.get("/large.jpg", CHROME)
    assert pace.known["image/avif"] > 0


def test_a_source_kept_for_now_is_short_lived_too(make_site: MakeSite, target: str) -> None:
    processor = HeldAvif()
    processor.bytes = 10_000_000  # WebP is no better than the source
    site = slow_site(make_site, processor)
    reply = site.get(address(site, target), CHROME)
    assert (reply.type, reply.body) == ("image/jpeg", photo())
    assert "max-age=60" in reply.headers["cache-control"]
    processor.held.set()
    site.finish_work()
