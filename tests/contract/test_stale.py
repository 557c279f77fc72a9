"""While the variant of a changed source is being made, visitors get the one of before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from optidash_integrations.errors import ProcessorError
from tests.conftest import MakeSite
from tests.sites.base import Clock, Reply, Site
from tests.sites.inner import Route
from tests.sites.photos import WEBP_ONLY, photo
from tests.sites.processor import HandProcessor

MUTABLE = "public, max-age=3600, stale-while-revalidate=86400"
MODIFIED = "Mon, 02 Nov 2026 10:00:00 GMT"
PUBLIC, ENDPOINT = "/static/photo.jpg", "photo.jpg"

Make = Callable[..., "Changing"]


class Changing:
    """A site with one photo that everybody may see, and that changes when a test says so."""

    def __init__(self, site: Site, target: str) -> None:
        self.site = site
        self.target = target
        self.put(1)

    def put(self, number: int, **headers: str) -> None:
        """Put another picture there."""
        if self.target == PUBLIC:
            said = (("ETag", f'"app-{number}"'), ("Last-Modified", MODIFIED), *headers.items())
            self.site.inner.routes[PUBLIC] = Route(photo(seed=number), headers=said)
        else:
            self.site.keep(ENDPOINT, photo(seed=number, width=120 + number))

    def take_away(self) -> None:
        if self.target == PUBLIC:
            del self.site.inner.routes[PUBLIC]
        else:
            (self.site.folder / ENDPOINT).unlink()
        self.go_on(61)

    @property
    def processor(self) -> HandProcessor:
        processor = self.site.plan.processor
        assert isinstance(processor, HandProcessor)
        return processor

    def go_on(self, seconds: float) -> None:
        assert self.site.plan.clock is not None
        self.site.plan.clock.go_on(seconds)

    def get(self, query: str = "", **headers: str) -> Reply:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.site.get(self.target + query, WEBP_ONLY | more)

    def warm(self) -> None:
        """Have the variant made, stored and sent, whatever the deadline."""
        self.get()
        self.site.finish_work()
        assert self.get().is_hit

    def change(self, number: int = 2) -> None:
        """Change the picture once its variant is stored, and let no more work be done."""
        self.processor.gate.clear()
        self.put(number)
        self.go_on(61)

    def finish(self) -> None:
        self.processor.gate.set()
        self.site.finish_work()


@pytest.fixture(params=["public", "endpoint"])
def make(request: pytest.FixtureRequest, make_site: MakeSite) -> Make:
    def made(**settings: Any) -> Changing:
        settings = {"access": "public", "processor": HandProcessor(), "clock": Clock()} | settings
        if request.param == "public":
            return Changing(make_site({}, public_paths=["/static/"], **settings), PUBLIC)
        site = make_site(**settings)
        return Changing(site, site.mount + ENDPOINT)

    return made


@pytest.fixture
def changing(make: Make) -> Changing:
    return make()


def is_stale(reply: Reply) -> bool:
    return "ttl=-" in reply.cache


def test_the_former_variant_is_sent_at_once_and_the_new_one_later(changing: Changing) -> None:
    before = changing.get()
    changing.change()
    stale = [changing.get() for _ in range(3)]  # with nobody to open the gate
    for reply in stale:
        assert (reply.status, reply.body) == (200, before.body)
        assert reply.headers["cache-control"] == "public, max-age=60"
        assert reply.vary == {"accept"}
        assert "last-modified" not in reply.headers
    changing.finish()
    after = changing.get()
    assert after.body != before.body
    assert (after.headers["cache-control"], after.is_hit) == (MUTABLE, True)
    assert changing.processor.calls == 2


def test_cache_status_says_that_it_is_stale_and_why(changing: Changing) -> None:
    changing.get()
    changing.change()
    first = changing.get()
    changing.go_on(5)
    second = changing.get()
    changing.finish()
    why = 'detail="the source has changed, and its new variant is being made"'
    assert first.cache == f"optidash; hit; ttl=-1; {why}"
    assert second.cache == f"optidash; hit; ttl=-5; {why}"
    assert changing.site.service.stats().fallbacks == {"stale": 2}


def test_a_stale_answer_has_a_tag_of_its_own(changing: Changing) -> None:
    before = changing.get().headers["etag"]
    changing.change()
    stale = {changing.get().headers["etag"] for _ in range(2)}
    changing.finish()
    after = changing.get().headers["etag"]
    assert len({before, *stale, after}) == 3


def test_nobody_is_kept_on_the_former_picture_by_a_validator(changing: Changing) -> None:
    old = changing.get().headers["etag"]
    changing.change()
    since = {"if_modified_since": MODIFIED}
    stale = changing.get(if_none_match=old)
    assert stale.status == 200, "a new ETag at once"
    assert changing.get(**since).status == 200
    passing = stale.headers["etag"]
    again = changing.get(if_none_match=passing)
    assert (again.status, again.headers["cache-control"]) == (304, "public, max-age=60")
    changing.finish()
    new = changing.get()
    for tag in (old, passing, f"{old}, {passing}"):
        reply = changing.get(if_none_match=tag)
        assert (reply.status, reply.body) == (200, new.body)


def test_a_part_is_never_one_of_two_pictures(changing: Changing) -> None:
    old = changing.get()
    changing.change()
    assert changing.get(range="bytes=10-", if_range=old.headers["etag"]).status == 200
    passing = changing.get().headers["etag"]
    part = changing.get(range="bytes=10-", if_range=passing)
    assert (part.status, part.body) == (206, old.body[10:])
    changing.finish()
    assert changing.get(range="bytes=10-", if_range=passing).status == 200


def test_a_size_that_nobody_had_is_waited_for(make: Make) -> None:
    changing = make(deadline=0)
    changing.warm()
    changing.change()
    assert not is_stale(changing.get("?w=60"))
    assert is_stale(changing.get())
    changing.finish()


def test_a_purge_ends_it(changing: Changing) -> None:
    before = changing.get()
    changing.change()
    assert is_stale(changing.get())
    changing.finish()
    changing.change(3)
    changing.site.service.purge_prefix("/")
    changing.site.service.purge_prefix("photo")
    waiting = changing.site.begin(changing.target, WEBP_ONLY)
    changing.finish()
    reply = waiting.result(30)
    assert not is_stale(reply)
    assert reply.body != before.body


def test_an_image_taken_back_is_never_stale(changing: Changing) -> None:
    changing.get()
    changing.change()
    assert is_stale(changing.get())
    changing.take_away()
    assert changing.get().status == 404
    changing.put(3)
    changing.go_on(61)
    waiting = changing.site.begin(changing.target, WEBP_ONLY)
    changing.finish()
    assert not is_stale(waiting.result(30))


def test_a_failure_ends_it_with_the_new_original(make: Make) -> None:
    changing = make(processor=HandProcessor())
    changing.get()
    changing.change()
    assert is_stale(changing.get())
    changing.processor.error = ProcessorError("no answer")
    changing.finish()
    reply = changing.get()
    assert (is_stale(reply), reply.type) == (False, "image/jpeg")
    assert reply.body != photo(seed=1)


def test_where_nothing_new_may_be_made_the_new_original_is_sent(make: Make) -> None:
    changing = make(workers=1, queue=1, deadline=0)
    changing.warm()
    changing.processor.started.clear()
    changing.change()
    for width in (20, 30):  # one is worked on, one waits: the queue is full
        changing.get(f"?w={width}")
        assert changing.processor.started.wait(10)
    reply = changing.get()
    assert (is_stale(reply), reply.type) == (False, "image/jpeg")
    changing.finish()


def test_it_lasts_as_long_as_cache_control_says(make: Make) -> None:
    value = "public, max-age=60, stale-while-revalidate=100"
    changing = make(cache_control=value, deadline=0)
    changing.warm()
    changing.change()
    assert is_stale(changing.get())
    changing.go_on(99)
    assert is_stale(changing.get())
    changing.go_on(1)
    assert not is_stale(changing.get())
    changing.finish()


@pytest.mark.parametrize("value", ["public, max-age=60", "private, max-age=60", "no-cache"])
def test_a_site_that_allows_no_stale_answer_sends_none(make: Make, value: str) -> None:
    changing = make(cache_control=value, deadline=0)
    changing.warm()
    changing.change()
    reply = changing.get()
    assert (is_stale(reply), reply.type) == (False, "image/jpeg")
    changing.finish()


def test_an_avif_that_takes_long_is_no_reason_to_stay_with_the_former(make: Make) -> None:
    changing = make(avif_budget=0.001)
    changing.site.service.workshop.pace.learn("image/avif", 9_600, 100.0)
    browser = {"accept": "image/avif,image/webp,*/*;q=0.8"}
    changing.get(**browser)
    changing.site.finish_work()
    assert changing.get(**browser).type == "image/avif"
    changing.change()
    assert is_stale(changing.get(**browser))
    changing.finish()
    after = changing.get(**browser)
    assert (is_stale(after), after.type) == (False, "image/avif")


def test_the_version_of_an_address_counts(make_site: MakeSite) -> None:
    site = make_site(access="public", processor=HandProcessor(), clock=Clock(), deadline=0)
    changing = Changing(site, site.mount + ENDPOINT)
    old = site.helper("url", ENDPOINT, w=60)
    site.get(old, WEBP_ONLY)
    site.finish_work()
    changing.change()
    new = site.helper("url", ENDPOINT, w=60)
    assert new != old
    assert is_stale(site.get(old, WEBP_ONLY))
    assert not is_stale(site.get(new, WEBP_ONLY))
    changing.finish()
    assert "immutable" not in site.get(old, WEBP_ONLY).headers["cache-control"]
    assert "immutable" in site.get(new, WEBP_ONLY).headers["cache-control"]


def test_a_new_process_knows_what_was_there_before(make_site: MakeSite) -> None:
    site = make_site(access="public", processor=HandProcessor(), clock=Clock())
    changing = Changing(site, site.mount + ENDPOINT)
    before = changing.get()
    changing.change()
    site.service.store.memory.clear()  # what a process has of its own
    site.service.forget()
    stale = changing.get()
    assert (is_stale(stale), stale.body) == (True, before.body)
    changing.finish()


def test_an_answer_that_the_app_may_give_to_one_visitor_is_never_stale(
    make_site: MakeSite,
) -> None:
    processor = HandProcessor()
    site = make_site({}, processor=processor, clock=Clock(), deadline=0)
    said = ("Cache-Control", MUTABLE)
    site.inner.routes["/own.jpg"] = Route(photo(seed=1), headers=(("ETag", '"1"'), said))
    site.get("/own.jpg", WEBP_ONLY)
    site.finish_work()
    assert site.get("/own.jpg", WEBP_ONLY).is_hit
    processor.gate.clear()
    site.inner.routes["/own.jpg"] = Route(photo(seed=2), headers=(("ETag", '"2"'), said))
    for _ in range(2):
        assert site.get("/own.jpg", WEBP_ONLY).body == photo(seed=2)
    processor.gate.set()
    site.finish_work()


def test_what_only_some_may_see_is_never_stale(make_site: MakeSite) -> None:
    site = make_site(
        access=lambda request, name: True, processor=HandProcessor(), clock=Clock(), deadline=0
    )
    changing = Changing(site, site.mount + ENDPOINT)
    changing.get()
    site.finish_work()
    changing.change()
    assert not is_stale(changing.get())
    changing.finish()
