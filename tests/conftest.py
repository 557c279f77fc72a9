"""The sites that the contract tests run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from optidash_integrations.processors import Processor
from tests.api import faults
from tests.api.server import ApiServer
from tests.sites import FRAMEWORKS, site_class
from tests.sites.base import SIGNING_KEY, Clock, Plan, Site
from tests.sites.failing import Promises
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


PROCESSORS = ("engine", "api", "fault", "failing")
"""Where images are made: here, by `optidash serve`, by the fault server while it is well, and by
the fault server while it fails, where they are not.
"""


def sites_of(*kinds: str) -> list[Any]:
    """Return the parameters of `make_site` for some frameworks, with each processor.

    Django's two ways of serving are told apart with the engine only: the adapter is the same.
    """
    return [
        pytest.param((kind, name), id=f"{kind}-{name}")
        for name in PROCESSORS
        for kind in kinds
        if name == "engine" or kind != "django_async"
    ]


@pytest.fixture(scope="session")
def fault_server() -> Iterator[ApiServer]:
    """Give an API that is well."""
    with ApiServer() as server:
        yield server


@pytest.fixture(scope="session")
def failing_server() -> Iterator[ApiServer]:
    """Give an API that answers 500 to everything."""
    with ApiServer() as server:
        server.always = faults.status(500)
        server.always_download = faults.status(500)
        yield server


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
    elif processor != "engine":
        server = request.getfixturevalue(f"{processor}_server")
        chosen = {"api_key": server.key, "api_url": server.url}
    if processor == "failing":
        chosen["retries"] = 0

    def make(routes: Routes | None = None, **more: Any) -> Site:
        site = site_maker(kind, routes, **chosen | more)
        if processor == "failing" and "processor" not in more:
            request.node.stash.setdefault(PROMISES, []).append(Promises(site))
        return site

    return make


PROMISES = pytest.StashKey[list[Promises]]()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Where the API fails, ask of a test only that its site kept what is promised to visitors."""
    parameters = getattr(pyfuncitem, "callspec", None)
    site = parameters.params.get("make_site") if parameters else None
    if not site or site[1] != "failing":
        return (yield)
    try:
        found = yield
    except (Exception, pytest.fail.Exception):  # noqa: BLE001  of what it says of variants
        found = True
    broken = [each for kept in pyfuncitem.stash.get(PROMISES, []) for each in kept.broken]
    assert not broken, "\n".join(broken)
    return found


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    """Give a site with one photo, of which the app tells the ETag."""
    return make_site({"/photo.jpg": Route(photo(), headers=(("ETag", '"app-1"'),))})
