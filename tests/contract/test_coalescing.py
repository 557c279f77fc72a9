"""One encode for all who ask, in one process and in several that share a cache folder.

Two sites over one folder stand for two processes: they share nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import sites_of
from tests.sites import FRAMEWORKS
from tests.sites.base import Site
from tests.sites.inner import Route
from tests.sites.photos import CHROME, photo
from tests.sites.processor import HandProcessor

ROUTES = {"/photo.jpg": Route(photo()), "/other.jpg": Route(photo(seed=2))}


class Pair:
    """An ASGI site and one of a framework over one cache folder, each with its own processor."""

    def __init__(self, make: Callable[..., Site], kind: str, cache: Path) -> None:
        self.processors = HandProcessor(is_open=False), HandProcessor(is_open=False)
        self.sites = [
            make(kind, ROUTES, processor=processor, cache_dir=cache, workers=1, deadline=0.1)
            for kind, processor in zip(("asgi", kind), self.processors, strict=True)
        ]

    @property
    def calls(self) -> list[int]:
        return [processor.calls for processor in self.processors]

    def finish_work(self) -> None:
        for processor in self.processors:
            processor.gate.set()
        for site in self.sites:
            site.finish_work()


@pytest.fixture(params=FRAMEWORKS)
def pair(request: pytest.FixtureRequest, site_maker: Callable[..., Site], tmp_path: Path) -> Pair:
    for kind in ("asgi", request.param):
        pytest.importorskip(FRAMEWORKS[kind])
    return Pair(site_maker, request.param, tmp_path / "cache")


def test_past_the_deadline_the_original_goes_out_and_the_others_variant_to_the_next(
    pair: Pair,
) -> None:
    one, other = pair.sites
    assert one.get("/photo.jpg", CHROME).body == photo()
    assert pair.processors[0].started.wait(10)
    fallback = other.get("/photo.jpg", CHROME)
    assert fallback.body == photo()
    assert "max-age=60" in fallback.headers["cache-control"]
    pair.finish_work()
    variant = other.get("/photo.jpg", CHROME | {"if-none-match": fallback.headers["etag"]})
    assert (variant.status, variant.type, variant.is_hit) == (200, "image/avif", True)
    assert variant.headers["etag"] == one.get("/photo.jpg", CHROME).headers["etag"]
    assert pair.calls == [1, 0]


def test_the_processes_of_a_host_share_its_workers(pair: Pair) -> None:
    one, other = pair.sites
    one.get("/photo.jpg", CHROME)
    assert pair.processors[0].started.wait(10)
    assert other.get("/other.jpg", CHROME).body == photo(seed=2)
    assert pair.calls == [1, 0]
    pair.finish_work()
    assert other.get("/other.jpg", CHROME).is_hit
    assert pair.calls == [1, 1]


@pytest.mark.parametrize("make_site", sites_of(*FRAMEWORKS)[: len(FRAMEWORKS)], indirect=True)
def test_many_visitors_of_one_cold_image_make_one_encode(make_site: Callable[..., Site]) -> None:
    processor = HandProcessor()
    site = make_site(ROUTES, processor=processor)
    with ThreadPoolExecutor(40) as threads:
        replies = list(threads.map(lambda _: site.get("/photo.jpg", CHROME), range(200)))
    assert {reply.status for reply in replies} == {200}
    assert {reply.type for reply in replies} <= {"image/avif", "image/jpeg"}
    site.finish_work()
    assert site.get("/photo.jpg", CHROME).is_hit
    assert processor.calls == 1
