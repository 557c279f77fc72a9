"""The sites that the contract tests run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from optidash_integrations.processors import Processor
from tests.sites import FRAMEWORKS, site_class
from tests.sites.base import SIGNING_KEY, Clock, Plan, Site
from tests.sites.inner import Route, Routes
from tests.sites.photos import photo

if TYPE_CHECKING:
    from tests.server.live import Live

MakeSite = Callable[..., Site]


@pytest.fixture
def site_maker(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Give a function that makes sites of any kind; they are closed in the end."""
    numbers = count()
    with ExitStack() as stack:

        def make(
            kind: str,
            routes: Routes | None = None,
            *,
            processor: Processor | None = None,
            clock: Clock | None = None,
            framework: dict[str, Any] | None = None,
            **settings: Any,
        ) -> Site:
            here = tmp_path / f"site-{next(numbers)}"
            defaults = {
                "cache_dir": here / "cache",
                "signing_keys": (SIGNING_KEY,),
                "deadline": 60,
                "workers": 2,
            }
            given = defaults | settings
            plan = Plan(
                dict(routes or {}), here / "media", given, processor, clock, framework or {}
            )
            return stack.enter_context(closing(site_class(kind)(plan)))

        yield make


@pytest.fixture(scope="session")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Give the server of `optidash serve`."""
    from tests.server.live import configured, running  # it needs an extra of its own

    folder = tmp_path_factory.mktemp("own-server")
    with running(configured(folder, max_input_bytes=50 * 1024 * 1024)) as found:
        yield found


PROCESSORS = ("engine", "api")


def sites_of(*kinds: str) -> list[Any]:
    """Return the parameters of `make_site` for some frameworks, with each processor."""
    return [
        pytest.param((kind, name), id=f"{kind}-{name}") for name in PROCESSORS for kind in kinds
    ]


@pytest.fixture(params=sites_of(*FRAMEWORKS))
def make_site(request: pytest.FixtureRequest, site_maker: Callable[..., Site]) -> MakeSite:
    """Give a function that makes a site with these routes and settings, on each framework, with
    each processor.
    """
    kind, processor = request.param
    pytest.importorskip(FRAMEWORKS[kind])
    chosen: dict[str, Any] = {}
    if processor == "api":
        own = request.getfixturevalue("own_server")
        chosen = {"api_key": own.secret, "api_url": own.url}

    def make(routes: Routes | None = None, **more: Any) -> Site:
        return site_maker(kind, routes, **chosen | more)

    return make


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    """Give a site with one photo, of which the app tells the ETag."""
    return make_site({"/photo.jpg": Route(photo(), headers=(("ETag", '"app-1"'),))})
