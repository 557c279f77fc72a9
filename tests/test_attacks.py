"""What strangers get who ask for very many variants: work, disk and memory, for each policy.

The tests ask a site in Flask for 2,000 sizes, the others for fewer. What 100,000 would cost follows
by arithmetic, for the bounds do not grow with the number of requests:

    none        1 variant a format
    allowlist   14 widths x (1 + 12 shapes) a fit and format
    bounded     64 exact ones a source and day, then as allowlist
    any         one each: 100,000 encodes; disk and memory stay within their budgets
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from optidash_integrations.settings import DEFAULT_WIDTHS
from optidash_integrations.transforms import SHAPES
from tests.sites import FRAMEWORKS
from tests.sites.base import Site
from tests.sites.inner import Route
from tests.sites.photos import CHROME, photo
from tests.sites.processor import HandProcessor

MIB = 1024 * 1024
MANY = 2_000
FEWER = 120
DISK = 4 * MIB
MEMORY = 1 * MIB
BOUND = 64
VARIANT = 6_000

# A box has one of the widths and one of the shapes; one side alone has one of the widths.
FINITE = len(DEFAULT_WIDTHS) * (1 + len(SHAPES))

BUDGETS = {"cache_bytes": DISK, "memory_bytes": MEMORY, "variants_per_source": BOUND}

MakeAny = Callable[..., Site]

everywhere = pytest.mark.parametrize(
    ("kind", "count"), [(kind, MANY if kind == "flask" else FEWER) for kind in FRAMEWORKS]
)


@dataclass(frozen=True)
class Cost:
    """What an attack took: encodes, and bytes at the end.

    `disk` is what the entries take in whole blocks, as the budget counts them, `index` the rest of
    the folder.
    """

    encodes: int
    disk: int
    index: int
    memory: int


@pytest.fixture
def attacked(site_maker: MakeAny) -> Callable[..., Site]:
    """Give a function that makes a site with small budgets and a processor that counts."""

    def make(kind: str = "flask", **settings: object) -> Site:
        pytest.importorskip(FRAMEWORKS[kind])
        processor = HandProcessor()
        processor.bytes = VARIANT
        route = Route(photo(), headers=(("ETag", '"1"'),))
        routes = {"/photo.jpg": route}
        return site_maker(kind, routes, processor=processor, access="public", **BUDGETS | settings)

    return make


def cost_of(site: Site) -> Cost:
    processor = site.plan.processor
    assert isinstance(processor, HandProcessor)
    folder: Path = site.service.settings.cache_dir
    memory = site.service.store.memory.stats().bytes
    files = [path for path in folder.rglob("*") if path.is_file()]
    index = [path for path in files if path.name.startswith("index")]
    return Cost(processor.calls, taken(files) - taken(index), taken(index), memory)


def taken(files: Iterable[Path]) -> int:
    return sum(path.stat().st_blocks * 512 for path in files)


def assert_within_budgets(cost: Cost) -> None:
    assert cost.memory <= MEMORY
    assert cost.disk <= DISK * 1.05


def sizes(site: Site, count: int = MANY) -> None:
    """Ask for as many widths, heights and boxes of one image."""
    for n in range(count):
        box = (f"w={n + 1}", f"h={n + 1}", f"w={n % 97 + 1}&h={n + 1}&fit=crop")[n % 3]
        assert site.get(f"/photo.jpg?{box}", CHROME).status == 200


@everywhere
@pytest.mark.parametrize("transforms", ["none", "allowlist", "bounded", "any"])
def test_very_many_sizes_of_one_image(
    attacked: MakeAny, transforms: str, kind: str, count: int
) -> None:
    least, most = {
        "none": (1, 1),
        "allowlist": (2, 2 * FINITE),  # with fit=clip and fit=crop
        "bounded": (BOUND, BOUND + 2 * FINITE),
        "any": (count, count),
    }[transforms]
    site = attacked(kind, transforms=transforms)
    sizes(site, count)
    cost = cost_of(site)
    print(transforms, cost)
    assert least <= cost.encodes <= most
    assert_within_budgets(cost)


@pytest.mark.parametrize("transforms", ["none", "allowlist", "bounded"])
def test_twice_as_many_sizes_cost_nothing_more(attacked: MakeAny, transforms: str) -> None:
    """So 100,000 cost what 1,200 do, as long as the budgets hold what there may be."""
    site = attacked(transforms=transforms, cache_bytes=64 * MIB, memory_bytes=16 * MIB)
    sizes(site, 600)
    first = cost_of(site)
    sizes(site, 600)
    assert cost_of(site).encodes == first.encodes
    for n in range(5_000, 5_600):
        site.get(f"/photo.jpg?w={n % 4096 + 1}&q={n % 100 + 1}&dpr={n % 3 + 1}", CHROME)
    assert cost_of(site).encodes <= BOUND + 2 * FINITE


@pytest.mark.parametrize("transforms", ["none", "allowlist", "bounded", "any"])
def test_many_images_cost_as_many_variants_as_there_are(attacked: MakeAny, transforms: str) -> None:
    """Work grows with the images of the site, which strangers can't add to."""
    site = attacked(transforms=transforms)
    count, base = 150, photo()
    for n in range(count):
        data = base + b"%d" % n  # behind the end of the picture
        site.inner.routes[f"/{n}.jpg"] = Route(data, headers=(("ETag", f'"{n}"'),))
    for turn in range(2):
        for n in range(count):
            assert site.get(f"/{n}.jpg?w={50 + turn}", CHROME).status == 200
    cost = cost_of(site)
    print(transforms, cost)
    # What was evicted is made again, once a request.
    assert count <= cost.encodes <= count * 2
    assert_within_budgets(cost)


@everywhere
@pytest.mark.parametrize("transforms", ["none", "allowlist", "bounded", "any"])
def test_junk_in_the_query_makes_no_work(
    attacked: MakeAny, transforms: str, kind: str, count: int
) -> None:
    site = attacked(kind, transforms=transforms, cache_bytes=64 * MIB)
    before = site.get("/photo.jpg", CHROME)
    start = cost_of(site)
    for n in range(count):
        reply = site.get(f"/photo.jpg?x={n}", CHROME)
        assert reply.headers["etag"] == before.headers["etag"]
    cost = cost_of(site)
    grown = cost.disk + cost.index - start.disk - start.index
    print(transforms, cost, f"{grown / count:.0f} bytes on disk a query")
    assert cost.encodes == 1
    assert cost.memory <= MEMORY
    # At the most a record of one block each: 100,000 would take 0.4 GB of the default 1 GiB.
    assert grown <= count * 4096


@everywhere
def test_at_the_endpoint_junk_is_refused_and_leaves_nothing(
    attacked: MakeAny, kind: str, count: int
) -> None:
    site = attacked(kind)
    site.keep("photo.jpg", photo())
    site.get(f"{site.mount}photo.jpg", CHROME)
    before = cost_of(site)
    for n in range(min(count, 300)):
        assert site.get(f"{site.mount}photo.jpg?x={n}", CHROME).status == 400
        assert site.get(f"{site.mount}none-{n}.jpg", CHROME).status == 404
        assert site.get(f"{site.mount}photo.jpg?w=60&s=forged{n}", CHROME).status == 200
    after = cost_of(site)
    assert after.encodes <= before.encodes + 1
    assert after.disk <= before.disk + 3 * 4096


@everywhere
def test_forged_versions_make_no_work(attacked: MakeAny, kind: str, count: int) -> None:
    site = attacked(kind)
    site.keep("photo.jpg", photo())
    for n in range(min(count, 300)):
        reply = site.get(f"{site.mount}photo.jpg?v={n:012x}", CHROME)
        assert "immutable" not in reply.headers["cache-control"]
    assert cost_of(site).encodes == 1


def test_what_visitors_use_outlives_an_attack_on_another_image(
    attacked: MakeAny,
) -> None:
    """With `bounded`, one image's variants are too few to push the others out of a sane budget."""
    site = attacked(cache_bytes=16 * MIB)
    used = [f"/used-{n}.jpg" for n in range(20)]
    for n, path in enumerate(used):
        site.inner.routes[path] = Route(photo() + b"%d" % n, headers=(("ETag", f'"u{n}"'),))
        site.get(path, CHROME)
    sizes(site)
    encodes = cost_of(site).encodes
    assert all(site.get(path, CHROME).is_hit for path in used)
    assert cost_of(site).encodes == encodes
