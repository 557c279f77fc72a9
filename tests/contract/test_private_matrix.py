"""Private images stay private: what is stored, and what leaves, for every kind of request and path.

A row says what the app's answer carried, a column what the visitor sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeSite, sites_of
from tests.sites.base import Reply, Site
from tests.sites.inner import Headers, Route
from tests.sites.photos import CHROME, photo
from tests.sites.processor import HandProcessor

MUTABLE = "public, max-age=3600, stale-while-revalidate=86400"
PRIVATE = "private, max-age=300"
SECRET = "who=me-and-nobody-else"

ASKED = {
    "nothing": {},
    "cookie": {"cookie": SECRET},
    "authorization": {"authorization": "Bearer me-and-nobody-else"},
    "both": {"cookie": SECRET, "authorization": "Bearer me-and-nobody-else"},
}

SAID: dict[str, Headers] = {
    "nothing": (),
    "private": (("Cache-Control", "private"),),
    "private, max-age=9": (("Cache-Control", "private, max-age=9"),),
    "no-store": (("Cache-Control", "no-store"),),
    "Set-Cookie": (("Set-Cookie", SECRET),),
    "Vary: Cookie": (("Vary", "Cookie"),),
    "Vary: Cookie, private": (("Vary", "Cookie"), ("Cache-Control", "private")),
    "Set-Cookie, public": (("Set-Cookie", SECRET), ("Cache-Control", "public, max-age=9")),
    "public": (("Cache-Control", "public, max-age=9"),),
}

# Whether a variant is stored, and the Cache-Control that leaves (None: none, as the app said none).
Expected = tuple[bool, str | None]

UNTOUCHED: Expected = (False, None)

ELSEWHERE: dict[str, dict[str, Expected]] = {
    "nothing": {
        "nothing": (True, MUTABLE),
        "cookie": (True, PRIVATE),
        "authorization": UNTOUCHED,
        "both": UNTOUCHED,
    },
    "Set-Cookie": dict.fromkeys(ASKED, UNTOUCHED),
    "Set-Cookie, public": dict.fromkeys(ASKED, (False, "public, max-age=9")),
    "Vary: Cookie": {
        "nothing": (True, MUTABLE),
        "cookie": (True, PRIVATE),
        "authorization": UNTOUCHED,
        "both": UNTOUCHED,
    },
    "public": {
        "nothing": (True, "public, max-age=9"),
        "cookie": (True, "public, max-age=9"),
        "authorization": (False, "public, max-age=9"),
        "both": (False, "public, max-age=9"),
    },
}

UNDER_PUBLIC_PATHS: dict[str, dict[str, Expected]] = {
    "nothing": dict.fromkeys(ASKED, (True, MUTABLE)),
    "Set-Cookie": dict.fromkeys(ASKED, (True, MUTABLE)),
    "Set-Cookie, public": dict.fromkeys(ASKED, (True, "public, max-age=9")),
    "Vary: Cookie": dict.fromkeys(ASKED, UNTOUCHED),
    "public": dict.fromkeys(ASKED, (True, "public, max-age=9")),
}

# An explicit word of the app wins everywhere.
for table in (ELSEWHERE, UNDER_PUBLIC_PATHS):
    for said in ("private", "private, max-age=9", "no-store"):
        table[said] = dict.fromkeys(ASKED, (False, said))
    table["Vary: Cookie, private"] = dict.fromkeys(ASKED, (False, "private"))

PATHS = {
    "/private/x.jpg": ELSEWHERE,
    "/static/x.jpg": UNDER_PUBLIC_PATHS,
    "/static/..%2fprivate/x.jpg": ELSEWHERE,
    "/static/%2e%2e/private/x.jpg": ELSEWHERE,
    "/static/../private/x.jpg": ELSEWHERE,
    "/static//x.jpg": ELSEWHERE,
    "/static/a%5cx.jpg": ELSEWHERE,
    "/private/x.jpg?/static/": ELSEWHERE,
}

KINDS = sites_of("django", "django_async", "flask", "asgi")[:4]


class EveryPath(dict):
    """Routes of an app that answers every path alike."""

    def __init__(self, route: Route) -> None:
        super().__init__()
        self.route = route

    def get(self, key: object, default: object = None) -> Route:
        return self.route


@pytest.mark.srv("SRV-45")
@pytest.mark.parametrize("make_site", KINDS, indirect=True)
@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("said", SAID)
def test_what_is_stored_and_what_leaves(
    make_site: MakeSite, said: str, path: str, asked: str
) -> None:
    stored, control = PATHS[path][said][asked]
    site = make_site(public_paths=["/static/"], processor=HandProcessor())
    site.inner.routes = EveryPath(Route(photo(), headers=(("ETag", '"1"'), *SAID[said])))
    for _ in range(2):
        reply = site.get(path, CHROME | ASKED[asked])
        if not site.seen:
            assert reply.status != 200, "a framework may refuse a path by itself"
            assert has_stored(site) is False
            return
        assert reply.status == 200
        assert reply.headers.get("cache-control") == control
        assert has_stored(site) is stored
        assert_cookie(reply, said, stored=stored)
    assert bool(site.service.agreements) is (stored and PATHS[path] is UNDER_PUBLIC_PATHS)
    # What a shared cache or this one would hand to the next visitor tells nothing of this one.
    assert not any(SECRET.encode() in content for content in files_of(site))


def has_stored(site: Site) -> bool:
    """Say whether a variant is in a tier: its key is the only kind without a prefix."""
    entries = site.service.store.memory.entries
    on_disk = {path.stem for path in site.service.settings.cache_dir.rglob("*.json")}
    kept = {key for key in (*entries, *on_disk) if "-" not in key}
    return bool(kept)


def assert_cookie(reply: Reply, said: str, *, stored: bool) -> None:
    """A cookie leaves only with an answer that is the app's own, byte for byte."""
    assert ("set-cookie" in reply.headers) is (said.startswith("Set-Cookie") and not stored)
    if "set-cookie" in reply.headers:
        assert reply.body == photo()


def files_of(site: Site) -> Iterator[bytes]:
    folder: Path = site.service.settings.cache_dir
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.read_bytes()


@pytest.mark.parametrize("make_site", KINDS, indirect=True)
@pytest.mark.parametrize("path", PATHS)
def test_who_may_not_see_it_does_not_see_it_though_it_is_stored(
    make_site: MakeSite, path: str
) -> None:
    """The app shows a photo to one visitor only, and says nothing of it."""
    mine = Route(photo(), headers=(("ETag", '"1"'),))
    routes = Gate(mine)
    site = make_site(public_paths=["/static/"], processor=HandProcessor())
    site.inner.routes = routes
    first = site.get(path, CHROME | {"cookie": SECRET})
    if not site.seen:
        return
    stranger = site.get(path, CHROME)
    if PATHS[path] is UNDER_PUBLIC_PATHS:  # the site has declared that everybody may see it
        assert stranger.body == first.body
    else:
        assert (stranger.status, stranger.body) == (403, b"sign in\n")


class Gate(dict):
    """Routes of an app that wants a cookie."""

    def __init__(self, mine: Route) -> None:
        super().__init__()
        self.mine = mine

    def get(self, key: object, default: object = None) -> object:
        def answer(seen: object) -> Route:
            known = SECRET in seen.headers.get("cookie", "")
            return self.mine if known else Route(b"sign in\n", "text/plain", status=403)

        return answer
