"""Every outcome of a request for an image, with the headers that leave: the table in the docs.

    python -m tests.contract.outcomes > docs/delivery.md

Each outcome is brought about on a site; a test holds that every kind of site gives the same table.
"""

from __future__ import annotations

import logging
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

from optidash_integrations.errors import BrokenImageError, ProcessorError
from tests.sites import site_class
from tests.sites.base import SIGNING_KEY, Clock, Plan, Reply, Site
from tests.sites.inner import Route, Routes
from tests.sites.photos import CHROME, photo
from tests.sites.processor import HandProcessor

MakeSite = Callable[..., Site]

TAG = (("ETag", '"app-1"'),)
PHOTO = Route(photo(), headers=TAG)
SHOWN = ("cache-control", "etag", "vary", "cache-status")


@dataclass(frozen=True)
class Outcome:
    """A row: what happened, and how to bring it about. `where` is the part of the table."""

    where: str
    title: str
    bring_about: Callable[[MakeSite], Reply]


OUTCOMES: list[Outcome] = []

INTERCEPTED = "An answer of the site's own app"
PUBLIC = "Under `public_paths`"
ENDPOINT = "The image endpoint"
PARTS = (INTERCEPTED, PUBLIC, ENDPOINT)


def outcome(
    where: str, title: str
) -> Callable[[Callable[[MakeSite], Reply]], Callable[[MakeSite], Reply]]:
    """Add a function that brings an outcome about to the table."""

    def add(bring_about: Callable[[MakeSite], Reply]) -> Callable[[MakeSite], Reply]:
        OUTCOMES.append(Outcome(where, title, bring_about))
        return bring_about

    return add


def with_photo(make_site: MakeSite, route: Route = PHOTO, **settings: Any) -> Site:
    settings.setdefault("processor", HandProcessor())
    return make_site({"/photo.jpg": route, "/static/photo.jpg": route}, **settings)


def asked(site: Site, **headers: str) -> Reply:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return site.get("/photo.jpg", CHROME | more)


def let_go(site: Site) -> None:
    """Let work go on that was held up, and wait until it is done."""
    processor = site.plan.processor
    assert isinstance(processor, HandProcessor)
    processor.gate.set()
    site.finish_work()


@outcome(INTERCEPTED, "miss, made and stored")
def _(make_site: MakeSite) -> Reply:
    return asked(with_photo(make_site))


@outcome(INTERCEPTED, "hit in memory")
def _(make_site: MakeSite) -> Reply:
    site = with_photo(make_site)
    asked(site)
    return asked(site)


@outcome(INTERCEPTED, "hit on disk")
def _(make_site: MakeSite) -> Reply:
    site = with_photo(make_site)
    asked(site)
    site.service.store.memory.clear()
    return asked(site)


@outcome(INTERCEPTED, "made for somebody else at the same moment")
def _(make_site: MakeSite) -> Reply:
    processor = HandProcessor(is_open=False)
    site = with_photo(make_site, processor=processor)
    first = site.begin("/photo.jpg", CHROME)
    assert processor.started.wait(30)
    second = site.begin("/photo.jpg", CHROME)
    pause = Event()
    while not site.service.stats().coalesced:
        assert not second.done()
        pause.wait(0.01)
    processor.gate.set()
    first.result(30)
    return second.result(30)


@outcome(INTERCEPTED, "the visitor's copy is the present one")
def _(make_site: MakeSite) -> Reply:
    site = with_photo(make_site)
    return asked(site, if_none_match=asked(site).headers["etag"])


@outcome(INTERCEPTED, "one range")
def _(make_site: MakeSite) -> Reply:
    site = with_photo(make_site)
    asked(site)
    return asked(site, range="bytes=0-9")


@outcome(INTERCEPTED, "several ranges")
def _(make_site: MakeSite) -> Reply:
    site = with_photo(make_site)
    asked(site)
    return asked(site, range="bytes=0-9,20-29")


@outcome(INTERCEPTED, "a range past the end")
def _(make_site: MakeSite) -> Reply:
    site = with_photo(make_site)
    asked(site)
    return asked(site, range="bytes=9999-")


@outcome(INTERCEPTED, "HEAD of a stored variant")
def _(make_site: MakeSite) -> Reply:
    site = with_photo(make_site)
    asked(site)
    return site.head("/photo.jpg", CHROME)


@outcome(INTERCEPTED, "HEAD before there is a variant")
def _(make_site: MakeSite) -> Reply:
    return with_photo(make_site).head("/photo.jpg", CHROME)


@outcome(INTERCEPTED, "to a visitor with a cookie")
def _(make_site: MakeSite) -> Reply:
    return asked(with_photo(make_site), cookie="a=b")


@outcome(INTERCEPTED, "the app says how long")
def _(make_site: MakeSite) -> Reply:
    route = Route(photo(), headers=(*TAG, ("Cache-Control", "public, max-age=86400")))
    return asked(with_photo(make_site, route))


@outcome(INTERCEPTED, "an explicit format (`?fm=webp`)")
def _(make_site: MakeSite) -> Reply:
    return with_photo(make_site).get("/photo.jpg?fm=webp", CHROME)


@outcome(INTERCEPTED, "a wrong option (`?w=wide`)")
def _(make_site: MakeSite) -> Reply:
    return with_photo(make_site).get("/photo.jpg?w=wide", CHROME)


@outcome(INTERCEPTED, "the source is as good: kept")
def _(make_site: MakeSite) -> Reply:
    processor = HandProcessor()
    processor.bytes = len(photo())
    return asked(with_photo(make_site, processor=processor))


@outcome(INTERCEPTED, "past the deadline: the original for now")
def _(make_site: MakeSite) -> Reply:
    site = with_photo(make_site, processor=HandProcessor(is_open=False), deadline=0)
    reply = asked(site)
    let_go(site)
    return reply


@outcome(INTERCEPTED, "the queue is full: the original for now")
def _(make_site: MakeSite) -> Reply:
    processor = HandProcessor(is_open=False)
    site = with_photo(make_site, processor=processor, workers=1, queue=1, deadline=0)
    for n in (2, 3):
        site.inner.routes[f"/{n}.jpg"] = Route(photo(seed=n), headers=TAG)
        site.get(f"/{n}.jpg", CHROME)
        assert processor.started.wait(10)
    reply = asked(site)
    let_go(site)
    return reply


@outcome(INTERCEPTED, "the processor failed: the original for now")
def _(make_site: MakeSite) -> Reply:
    return asked(with_photo(make_site, processor=HandProcessor(error=ProcessorError("no answer"))))


@outcome(INTERCEPTED, "it failed a short while ago")
def _(make_site: MakeSite) -> Reply:
    site = with_photo(make_site, processor=HandProcessor(error=ProcessorError("no answer")))
    asked(site)
    return asked(site)


@outcome(INTERCEPTED, "a broken image")
def _(make_site: MakeSite) -> Reply:
    return asked(with_photo(make_site, processor=HandProcessor(error=BrokenImageError("cut off"))))


@outcome(INTERCEPTED, "not an image")
def _(make_site: MakeSite) -> Reply:
    return asked(with_photo(make_site, Route(b"<p>", "text/html")))


@outcome(INTERCEPTED, "private")
def _(make_site: MakeSite) -> Reply:
    route = Route(photo(), headers=(*TAG, ("Cache-Control", "private")))
    return asked(with_photo(make_site, route))


@outcome(INTERCEPTED, "to a visitor with `Authorization`")
def _(make_site: MakeSite) -> Reply:
    return asked(with_photo(make_site), authorization="Bearer a")


@outcome(INTERCEPTED, "too large")
def _(make_site: MakeSite) -> Reply:
    return asked(with_photo(make_site, max_input_bytes=1000))


@outcome(INTERCEPTED, "not found")
def _(make_site: MakeSite) -> Reply:
    return with_photo(make_site).get("/none.jpg", CHROME)


@outcome(PUBLIC, "miss, made and stored")
def _(make_site: MakeSite) -> Reply:
    site = with_photo(make_site, public_paths=["/static/"])
    return site.get("/static/photo.jpg", CHROME | {"cookie": "a=b"})


@outcome(PUBLIC, "hit, without asking the app")
def _(make_site: MakeSite) -> Reply:
    site = with_photo(make_site, public_paths=["/static/"])
    site.get("/static/photo.jpg", CHROME)
    return site.get("/static/photo.jpg", CHROME | {"cookie": "a=b"})


@outcome(PUBLIC, "the visitor's copy is the present one")
def _(make_site: MakeSite) -> Reply:
    site = with_photo(make_site, public_paths=["/static/"])
    tag = site.get("/static/photo.jpg", CHROME).headers["etag"]
    return site.get("/static/photo.jpg", CHROME | {"if-none-match": tag})


@outcome(PUBLIC, "the photo has changed, and its variant is being made: the one of before")
def _(make_site: MakeSite) -> Reply:
    processor = HandProcessor()
    clock = Clock()
    site = with_photo(make_site, public_paths=["/static/"], processor=processor, clock=clock)
    site.get("/static/photo.jpg", CHROME)
    processor.gate.clear()
    route = Route(photo(seed=2), headers=(("ETag", '"app-2"'),))
    site.inner.routes["/static/photo.jpg"] = route
    clock.go_on(61)
    reply = site.get("/static/photo.jpg", CHROME)
    let_go(site)
    return reply


def endpoint(make_site: MakeSite, **settings: Any) -> Site:
    settings.setdefault("processor", HandProcessor())
    site = make_site(access=settings.pop("access", "public"), **settings)
    site.keep("photo.jpg", photo())
    return site


def at_endpoint(site: Site, name: str = "photo.jpg", **headers: str) -> Reply:
    more = {each.replace("_", "-"): value for each, value in headers.items()}
    return site.get(site.mount + name, CHROME | more)


@outcome(ENDPOINT, "miss, made and stored")
def _(make_site: MakeSite) -> Reply:
    return at_endpoint(endpoint(make_site))


@outcome(ENDPOINT, "hit")
def _(make_site: MakeSite) -> Reply:
    site = endpoint(make_site)
    at_endpoint(site)
    return at_endpoint(site)


@outcome(ENDPOINT, "an address with the present version")
def _(make_site: MakeSite) -> Reply:
    site = endpoint(make_site)
    return site.get(site.helper("url", "photo.jpg", w=320), CHROME)


@outcome(ENDPOINT, "the visitor's copy is the present one")
def _(make_site: MakeSite) -> Reply:
    site = endpoint(make_site)
    return at_endpoint(site, if_none_match=at_endpoint(site).headers["etag"])


@outcome(ENDPOINT, "the photo has changed, and its variant is being made: the one of before")
def _(make_site: MakeSite) -> Reply:
    processor = HandProcessor()
    clock = Clock()
    site = endpoint(make_site, processor=processor, clock=clock)
    at_endpoint(site)
    processor.gate.clear()
    site.keep("photo.jpg", photo(seed=2))
    clock.go_on(61)
    reply = at_endpoint(site)
    let_go(site)
    return reply


@outcome(ENDPOINT, "past the deadline: the original for now")
def _(make_site: MakeSite) -> Reply:
    site = endpoint(make_site, processor=HandProcessor(is_open=False), deadline=0)
    reply = at_endpoint(site)
    let_go(site)
    return reply


@outcome(ENDPOINT, "the processor failed: the original for now")
def _(make_site: MakeSite) -> Reply:
    failing = HandProcessor(error=ProcessorError("no answer"))
    return at_endpoint(endpoint(make_site, processor=failing))


@outcome(ENDPOINT, "a wrong option (`?w=wide`)")
def _(make_site: MakeSite) -> Reply:
    return at_endpoint(endpoint(make_site), "photo.jpg?w=wide")


@outcome(ENDPOINT, "without the signature it wants")
def _(make_site: MakeSite) -> Reply:
    return at_endpoint(endpoint(make_site, access="signed"))


@outcome(ENDPOINT, "not found")
def _(make_site: MakeSite) -> Reply:
    return at_endpoint(endpoint(make_site), "none.jpg")


@outcome(ENDPOINT, "not an image")
def _(make_site: MakeSite) -> Reply:
    site = endpoint(make_site)
    site.keep("text.jpg", b"not an image")
    return at_endpoint(site, "text.jpg")


@outcome(ENDPOINT, "too large")
def _(make_site: MakeSite) -> Reply:
    return at_endpoint(endpoint(make_site, max_pixels=1000))


# The page

BEGIN = """\
# What leaves

Every outcome of a request, with what is said to browsers and caches. The visitor is a browser that
takes AVIF and WebP; the app answers with a photo and an `ETag` and sets no `Cache-Control`, unless
the first column says otherwise. `"od-…"` is a tag of ours, another one the app's. Every answer of
ours has `X-Content-Type-Options: nosniff`; what is passed on as it is, has the app's own headers.

This page is written by `python -m tests.contract.outcomes > docs/delivery.md`; a test holds that
sites in Django, Flask and ASGI answer so.
"""

COLUMNS = ("outcome", "status", "sent", "`Cache-Control`", "`ETag`", "`Vary`", "`Cache-Status`")


def cells(outcome: Outcome, reply: Reply) -> tuple[str, ...]:
    return (outcome.title, str(reply.status), sent(reply), *(cell(reply, n) for n in SHOWN))


def sent(reply: Reply) -> str:
    """Say what the body is, in a word or two."""
    if not reply.body:
        return "no body"
    if reply.type.startswith("text/"):
        return "text"
    return "the original" if reply.body == photo() else reply.type.removeprefix("image/").upper()


def cell(reply: Reply, name: str) -> str:
    value = reply.headers.get(name)
    if value is None:
        return ""
    value = re.sub(r'"od-[0-9a-f]+"', '"od-…"', value)
    return f"`{value.replace('|', ' ')}`"


def row(values: tuple[str, ...]) -> str:
    return f"| {' | '.join(values)} |"


def page(make_site: MakeSite) -> str:
    """Bring all outcomes about on sites made by a function, and return the page."""
    lines = [BEGIN]
    for part in PARTS:
        lines += [f"## {part}", "", row(COLUMNS), row(("---",) * len(COLUMNS))]
        lines += [row(cells(o, o.bring_about(make_site))) for o in OUTCOMES if o.where == part]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Print the page."""
    logging.getLogger("optidash_integrations").addHandler(logging.NullHandler())
    numbers = count()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:

        def make_site(routes: Routes | None = None, **settings: Any) -> Site:
            here = Path(name) / str(next(numbers))
            processor = settings.pop("processor", None)
            clock = settings.pop("clock", None)
            given = {"cache_dir": here / "cache", "signing_keys": (SIGNING_KEY,), "deadline": 60}
            plan = Plan(dict(routes or {}), here / "media", given | settings, processor, clock)
            return stack.enter_context(closing(site_class("asgi")(plan)))

        sys.stdout.write(page(make_site))


if __name__ == "__main__":
    main()
