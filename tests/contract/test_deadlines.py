"""First variants: made once for all who ask, and nobody waits longer than the deadline."""

from __future__ import annotations

import pytest

from optidash_integrations.errors import BrokenImageError, ProcessorError
from tests.conftest import MakeSite, sites_of
from tests.sites.base import Clock, Reply, Site
from tests.sites.inner import Route
from tests.sites.photos import CHROME, WEBP_ONLY, photo
from tests.sites.processor import HandProcessor

MODIFIED = "Mon, 02 Nov 2026 10:00:00 GMT"
DATED = Route(photo(), headers=(("Last-Modified", MODIFIED), ("Cache-Control", "max-age=999")))


@pytest.fixture
def processor() -> HandProcessor:
    """Give a processor whose gate is closed."""
    return HandProcessor(is_open=False)


def assert_original(reply: Reply) -> None:
    assert (reply.status, reply.type, reply.body) == (200, "image/jpeg", photo())
    assert "hit" not in reply.cache
    assert "fwd=" in reply.cache


def test_many_who_ask_at_once_share_the_work(make_site: MakeSite, processor: HandProcessor) -> None:
    site = make_site({"/photo.jpg": Route(photo())}, processor=processor)
    asked = [site.begin("/photo.jpg", CHROME) for _ in range(4)]
    assert processor.started.wait(10)
    processor.gate.set()
    replies = [future.result(30) for future in asked]
    assert {reply.type for reply in replies} == {"image/avif"}
    assert len({reply.body for reply in replies}) == 1
    assert processor.calls == 1


def test_one_picture_under_two_names_is_worked_on_once(
    make_site: MakeSite, processor: HandProcessor
) -> None:
    routes = {"/a.jpg": Route(photo()), "/b.jpg": Route(photo())}
    site = make_site(routes, processor=processor)
    asked = [site.begin(path, CHROME) for path in ("/a.jpg", "/b.jpg", "/a.jpg?x=1")]
    assert processor.started.wait(10)
    processor.gate.set()
    assert len({future.result(30).body for future in asked}) == 1
    assert processor.calls == 1


@pytest.mark.parametrize("deadline", [0, 0.03])
def test_past_the_deadline_the_original_goes_out_and_the_work_goes_on(
    make_site: MakeSite, processor: HandProcessor, deadline: float
) -> None:
    site = make_site({"/photo.jpg": DATED}, processor=processor, deadline=deadline)
    original = site.get("/photo.jpg", CHROME)
    assert_original(original)
    assert original.headers["cache-control"] == "max-age=60"
    assert "last-modified" not in original.headers
    assert original.headers["etag"].startswith('"od-')
    processor.gate.set()
    site.finish_work()
    tag = {"if-none-match": original.headers["etag"], "if-modified-since": MODIFIED}
    variant = site.get("/photo.jpg", CHROME | tag)
    assert (variant.status, variant.type) == (200, "image/avif")
    assert variant.is_hit
    assert variant.headers["etag"] != original.headers["etag"]
    assert variant.headers["cache-control"] == "max-age=999"
    assert processor.calls == 1


def test_who_has_the_original_already_gets_304_while_it_is_all_there_is(
    make_site: MakeSite, processor: HandProcessor
) -> None:
    site = make_site({"/photo.jpg": DATED}, processor=processor, deadline=0)
    original = site.get("/photo.jpg", CHROME)
    again = site.get("/photo.jpg", CHROME | {"if-none-match": original.headers["etag"]})
    assert again.status == 304
    assert again.headers["cache-control"] == "max-age=60"
    processor.gate.set()
    site.finish_work()


def test_the_date_of_the_app_does_not_keep_a_visitor_on_the_original(
    make_site: MakeSite, processor: HandProcessor
) -> None:
    site = make_site({"/photo.jpg": DATED}, processor=processor, deadline=0)
    assert_original(site.get("/photo.jpg", CHROME | {"if-modified-since": MODIFIED}))
    processor.gate.set()
    site.finish_work()


def test_one_that_gives_up_cancels_nobody(make_site: MakeSite, processor: HandProcessor) -> None:
    site = make_site({"/photo.jpg": Route(photo())}, processor=processor, deadline=0.05)
    first = site.begin("/photo.jpg", CHROME)
    assert processor.started.wait(10)
    assert_original(first.result(30))
    assert len(site.service.workshop.jobs) == 1
    assert_original(site.get("/photo.jpg", CHROME))
    processor.gate.set()
    site.finish_work()
    assert site.get("/photo.jpg", CHROME).type == "image/avif"
    assert processor.calls == 1


def test_a_full_queue_gives_the_original(make_site: MakeSite, processor: HandProcessor) -> None:
    routes = {f"/{n}.jpg": Route(photo(seed=n)) for n in range(4)}
    site = make_site(routes, processor=processor, workers=1, queue=1, deadline=0)
    site.get("/0.jpg", CHROME)
    assert processor.started.wait(10)
    replies = [site.get(f"/{n}.jpg", CHROME) for n in range(1, 4)]
    assert [reply.body for reply in replies] == [photo(seed=n) for n in range(1, 4)]
    assert "wait to be worked on already" in replies[-1].cache
    assert "max-age=60" in replies[-1].headers["cache-control"]
    processor.gate.set()
    site.finish_work()
    assert site.get("/1.jpg", CHROME).is_hit
    assert not site.get("/3.jpg", CHROME).is_hit
    site.finish_work()


def test_a_hit_does_not_wait_behind_an_encode(make_site: MakeSite) -> None:
    processor = HandProcessor()
    routes = {"/a.jpg": Route(photo(seed=1)), "/b.jpg": Route(photo(seed=2))}
    site = make_site(routes, processor=processor, workers=1)
    site.get("/a.jpg", CHROME)
    processor.gate.clear()
    waiting = site.begin("/b.jpg", CHROME)
    assert site.get("/a.jpg", CHROME).is_hit
    site.service.store.memory.clear()
    assert site.get("/a.jpg", CHROME).is_hit
    assert not waiting.done()
    processor.gate.set()
    assert waiting.result(30).type == "image/avif"


@pytest.mark.parametrize("make_site", sites_of("django", "flask"), indirect=True)
def test_in_threads_four_wait_at_a_time(make_site: MakeSite, processor: HandProcessor) -> None:
    site = make_site({f"/{n}.jpg": Route(photo(seed=n)) for n in range(5)}, processor=processor)
    waiting = [site.begin(f"/{n}.jpg", CHROME) for n in range(4)]
    while site.service.waiters._value:
        assert not any(future.done() for future in waiting)
    reply = site.get("/4.jpg", CHROME)
    assert reply.body == photo(seed=4)
    assert "as many requests wait" in reply.cache
    processor.gate.set()
    assert {future.result(30).type for future in waiting} == {"image/avif"}


# Failures


def failing_site(make_site: MakeSite, error: Exception) -> tuple[Site, HandProcessor, Clock]:
    clock = Clock()
    processor = HandProcessor(error=error)
    route = Route(photo(), headers=(("ETag", '"1"'),))
    site = make_site({"/photo.jpg": route}, processor=processor, clock=clock)
    return site, processor, clock


@pytest.mark.parametrize("error", [ProcessorError("out of order"), RuntimeError("a bug")])
def test_a_failure_gives_the_original_and_rests_for_half_a_minute(
    make_site: MakeSite, error: Exception
) -> None:
    site, processor, clock = failing_site(make_site, error)
    for _ in range(3):
        reply = site.get("/photo.jpg", CHROME)
        assert_original(reply)
        assert "max-age=60" in reply.headers["cache-control"]
    assert processor.calls == 1
    clock.go_on(31)
    assert_original(site.get("/photo.jpg", CHROME))
    assert processor.calls == 2
    clock.go_on(31)
    assert_original(site.get("/photo.jpg", CHROME))
    assert processor.calls == 2, "the second rest is twice as long"
    clock.go_on(31)
    processor.error = None
    assert site.get("/photo.jpg", CHROME).type == "image/avif"


def test_the_failure_of_one_variant_does_not_touch_another(make_site: MakeSite) -> None:
    site, processor, _ = failing_site(make_site, ProcessorError("out of order"))
    assert_original(site.get("/photo.jpg", CHROME))
    processor.error = None
    assert site.get("/photo.jpg", WEBP_ONLY).type == "image/webp"


def test_a_failure_comes_after_a_deadline_too(make_site: MakeSite) -> None:
    processor = HandProcessor(is_open=False, error=ProcessorError("out of order"))
    site = make_site({"/photo.jpg": Route(photo())}, processor=processor, deadline=0)
    assert_original(site.get("/photo.jpg", CHROME))
    processor.gate.set()
    site.finish_work()
    assert_original(site.get("/photo.jpg", CHROME))
    assert processor.calls == 1


def test_what_the_source_is_to_blame_for_is_remembered(make_site: MakeSite) -> None:
    site, processor, clock = failing_site(make_site, BrokenImageError("it ends too early"))
    for _ in range(3):
        reply = site.get("/photo.jpg", CHROME)
        assert (reply.body, reply.headers["etag"]) == (photo(), '"1"')
        clock.go_on(10_000)
    assert site.get("/photo.jpg", WEBP_ONLY).body == photo()
    assert processor.calls == 1


def test_a_result_that_is_not_smaller_is_not_used(make_site: MakeSite) -> None:
    processor = HandProcessor()
    processor.bytes = len(photo())
    site = make_site({"/photo.jpg": Route(photo())}, processor=processor)
    for _ in range(2):
        reply = site.get("/photo.jpg", CHROME)
        assert (reply.type, reply.body) == ("image/jpeg", photo())
        assert "max-age=60" not in reply.headers["cache-control"]
    assert processor.calls == 1


def test_what_was_asked_for_is_used_though_it_is_larger(make_site: MakeSite) -> None:
    processor = HandProcessor()
    processor.bytes = len(photo()) + 1
    site = make_site({"/photo.jpg": Route(photo())}, processor=processor)
    assert site.get("/photo.jpg?fm=png", CHROME).type == "image/png"


def test_a_new_process_finds_what_another_one_has_stored(make_site: MakeSite) -> None:
    processor = HandProcessor()
    route = Route(photo(), headers=(("ETag", '"1"'),))
    first = make_site({"/photo.jpg": route}, processor=processor)
    made = first.get("/photo.jpg", CHROME)
    folder = first.service.settings.cache_dir
    second = make_site({"/photo.jpg": route}, processor=processor, cache_dir=folder, queue=63)
    reply = second.get("/photo.jpg", CHROME)
    assert reply.is_hit
    assert reply.body == made.body
    assert processor.calls == 1


def test_a_large_variant_is_sent_from_its_file(make_site: MakeSite) -> None:
    processor = HandProcessor()
    processor.bytes = 400_000
    big = Route(photo(600, 800, quality=100), headers=(("ETag", '"1"'),))
    site = make_site({"/photo.jpg": big}, processor=processor)
    made = site.get("/photo.jpg?fm=avif", CHROME)
    site.service.store.memory.clear()
    stored = site.get("/photo.jpg?fm=avif", CHROME)
    assert stored.is_hit
    assert stored.body == made.body
    part = site.get("/photo.jpg?fm=avif", CHROME | {"range": "bytes=399990-"})
    assert (part.status, part.body) == (206, made.body[399_990:])


def test_without_a_cache_folder_memory_is_enough(make_site: MakeSite) -> None:
    site = make_site({"/photo.jpg": Route(photo())}, cache_dir=None)
    assert not site.get("/photo.jpg", CHROME).is_hit
    assert site.get("/photo.jpg", CHROME).is_hit
