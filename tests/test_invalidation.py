"""Forgetting: by a source's name, by what names start with, all; here, and as others follow."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from optidash_integrations.cache.disk import DiskCache
from optidash_integrations.cache.entry import Cache, Entry
from optidash_integrations.cache.memory import MemoryCache
from optidash_integrations.errors import BrokenImageError
from optidash_integrations.exchange import Head, Request, Verdict
from optidash_integrations.invalidation import Purged, Wanted, label_of, spellings
from optidash_integrations.ledger import FILE
from optidash_integrations.records import SourceRecord, record_key, refusal_key, variant_key
from optidash_integrations.service import Service
from optidash_integrations.settings import Settings
from optidash_integrations.store import Store
from tests.cache.conftest import MIB, Clock, open_objects, open_redis
from tests.cache.servers import redis_address, redis_program, redis_server, redis_url
from tests.test_service import CHROME, HEAD, PHOTO, Recorder

__all__ = [
    "open_objects",
    "open_redis",
    "redis_address",
    "redis_program",
    "redis_server",
    "redis_url",
]

MINUTE = 61.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def process(tmp_path: Path, clock: Clock) -> Callable[..., Store]:
    """Gives a store as another process, or another host, would open it."""

    def make(*shared: Cache, host: str = "host") -> Store:
        disk = DiskCache(tmp_path / host, 64 * MIB, clock=clock)
        stores.append(Store(MemoryCache(MIB), disk, *shared, clock=clock))
        return stores[-1]

    stores: list[Store] = []
    yield make
    for store in stores:
        store.close()


def intercepted(path: str, query: str = "", host: str = "example.com") -> str:
    return "\0".join((host, path, query))


def record_of(content: str, validator: str = '"1"') -> SourceRecord:
    digest = hashlib.sha256(content.encode()).hexdigest()
    return SourceRecord(digest, "jpg", 40, 30, 1, False, 1000, validator)


def fill(store: Store, name: str, content: str) -> list[str]:
    """Store a source with variants and a refusal by another processor; return all keys."""
    record = record_of(content, f'"{content}"')
    store.remember(name, record, newest=True)
    keys = [variant_key(record.digest, str(number), "webp", "1") for number in range(3)]
    for key in keys:
        store.put(key, Entry({"kind": "variant"}, b"x" * 100, source=record.digest))
    refused = refusal_key(record.digest, "2")
    store.put(refused, Entry({"kind": "refused"}, source=record.digest))
    return [*keys, refused, record_key(name, record.validator), record_key(name, None)]


def left(store: Store, keys: list[str]) -> int:
    return sum(store.get(key) is not None for key in keys)


# By name


@pytest.mark.parametrize(
    ("name", "written"),
    [
        (intercepted("/media/a.jpg"), "example.com/media/a.jpg"),
        (intercepted("/media/a.jpg"), "/media/a.jpg"),
        (intercepted("/media/a.jpg"), intercepted("/media/a.jpg", "w=7")),
        ("file:/srv/media/a.jpg", "/srv/media/a.jpg"),
        ("storage:default/a.jpg", "a.jpg"),
        ("storage:default/a.jpg", "storage:default/a.jpg"),
        ("https://example.com/a.jpg?id=1", "https://example.com/a.jpg"),
        (intercepted("/\udcff\n.jpg"), "/%DCFF%0A.jpg"),
        (intercepted("/" + "a" * 5000), "/" + "a" * 5000),
    ],
)
def test_a_source_goes_with_all_that_was_made_of_it(
    process: Callable[..., Store], name: str, written: str
) -> None:
    store = process()
    keys, others = fill(store, name, "one"), fill(store, intercepted("/other.jpg"), "two")
    store.remember_refusal(name, '"2"', BrokenImageError("no"))
    keys.append(record_key(name, '"2"'))
    if len(written) > 512:
        written = name
    assert store.purge(written) == Purged(1, len(keys))
    for seen in (store, process()):
        assert (left(seen, keys), left(seen, others)) == (0, len(others))


def test_earlier_bytes_of_a_name_go_too(process: Callable[..., Store]) -> None:
    store, name = process(), intercepted("/a.jpg")
    keys = [*fill(store, name, "one"), *fill(store, name, "two")]
    store.purge("/a.jpg")
    assert left(store, keys) == 0


def test_all_queries_of_a_path_go_and_no_longer_path(process: Callable[..., Store]) -> None:
    store = process()
    keys = [
        *fill(store, intercepted("/a.jpg", "w=1"), "1"),
        *fill(store, intercepted("/a.jpg"), "2"),
    ]
    others = fill(store, intercepted("/a.jpg.png"), "3")
    store.purge("/a.jpg")
    assert (left(store, keys), left(store, others)) == (0, len(others))


def test_a_name_that_is_not_there_is_no_error(process: Callable[..., Store]) -> None:
    assert process().purge("/nothing.jpg") == Purged(0, 0)


def test_no_query_is_kept_in_clear() -> None:
    assert label_of(intercepted("/a.jpg", "token=secret")) == "example.com/a.jpg"
    assert label_of("https://cdn.example/a.jpg?signature=1") == "https://cdn.example/a.jpg"


def test_labels_are_written_with_and_without_what_stands_in_front() -> None:
    assert spellings("example.com/a.jpg") == ["example.com/a.jpg", "/a.jpg"]
    assert spellings("/a.jpg") == ["/a.jpg"]
    assert spellings("localhost:8000/a.jpg") == ["localhost:8000/a.jpg", "/a.jpg"]
    assert spellings("https://example.com/a.jpg") == ["https://example.com/a.jpg"]


# By prefix, and all


def test_a_prefix_takes_what_starts_so_on_every_host(process: Callable[..., Store]) -> None:
    store = process()
    keys = [
        *fill(store, intercepted("/media/2024/a.jpg"), "1"),
        *fill(store, intercepted("/media/2024/b.jpg", host="www.example.com"), "2"),
    ]
    others = fill(store, intercepted("/media/2025/a.jpg"), "3")
    assert store.purge_prefix("/media/2024/").sources == 2
    assert (left(store, keys), left(store, others)) == (0, len(others))


def test_clear_leaves_nothing_but_the_apis_ledger(
    process: Callable[..., Store], tmp_path: Path
) -> None:
    store = process()
    (tmp_path / "host" / FILE).write_bytes(b"calls of this month")
    keys = fill(store, intercepted("/a.jpg"), "1")
    store.clear()
    assert left(process(), keys) == 0
    assert (tmp_path / "host" / FILE).read_bytes() == b"calls of this month"


# Others follow


@pytest.mark.parametrize("how", ["purge", "purge_prefix", "clear"])
def test_the_memory_of_another_process_follows_within_fresh_for(
    process: Callable[..., Store], clock: Clock, how: str
) -> None:
    here, there = process(), process()
    keys = fill(here, intercepted("/a.jpg"), "1")
    assert left(there, keys) == len(keys)
    if how == "clear":
        here.clear()
    else:
        getattr(here, how)("/a.jpg")
    assert there.quick(keys[0]) is not None
    clock.seconds += MINUTE
    assert there.quick(keys[0]) is None
    assert left(there, keys) == 0
    assert there.quick(keys[0]) is None


def test_nothing_is_lost_by_looking_for_purges(process: Callable[..., Store], clock: Clock) -> None:
    store = process()
    keys = fill(store, intercepted("/a.jpg"), "1")
    clock.seconds += MINUTE
    assert left(store, keys) == len(keys)
    assert store.quick(keys[0]) is not None


def test_what_is_made_anew_after_a_purge_stays(process: Callable[..., Store], clock: Clock) -> None:
    here, there = process(), process()
    name = intercepted("/a.jpg")
    fill(here, name, "1")
    here.purge("/a.jpg")
    clock.seconds += MINUTE
    keys = fill(there, name, "1")
    there.get(keys[0])
    keys = fill(there, name, "1")
    for _ in range(3):
        clock.seconds += MINUTE
        assert left(there, keys) == left(here, keys) == len(keys)


def test_who_follows_is_told_so_that_it_can_forget_what_it_keeps(
    process: Callable[..., Store], clock: Clock
) -> None:
    here, there = process(), process()
    told: list[str] = []
    here.invalidation.followers.append(lambda: told.append("here"))
    there.invalidation.followers.append(lambda: told.append("there"))
    here.purge("/a.jpg")
    assert told == ["here"]
    clock.seconds += MINUTE
    there.get("a" * 40)
    here.get("a" * 40)
    clock.seconds += MINUTE
    there.get("a" * 40)
    assert told == ["here", "there"]


def test_notes_of_purges_do_not_pile_up(process: Callable[..., Store]) -> None:
    store = process()
    for number in range(230):
        store.purge(f"/{number}.jpg")
    assert len(store.lower[0].sources("purge#")) == 200


def shared_tiers(kind: str, request: pytest.FixtureRequest, folder: Path) -> list[Cache]:
    if kind == "redis":
        opener = request.getfixturevalue("open_redis")
        return [opener(), opener()]
    opener = request.getfixturevalue("open_objects")
    return [opener(f"file://{folder}/store") for _ in range(2)]


@pytest.mark.parametrize("kind", ["redis", "objects"])
@pytest.mark.parametrize("how", ["purge", "purge_prefix", "clear"])
def test_another_hosts_folder_follows_through_a_shared_tier(
    process: Callable[..., Store],
    clock: Clock,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    kind: str,
    how: str,
) -> None:
    one, two = shared_tiers(kind, request, tmp_path)
    here, there = process(one, host="a"), process(two, host="b")
    keys = fill(here, intercepted("/a.jpg"), "1")
    others = [] if how == "clear" else fill(here, intercepted("/b.jpg"), "2")
    assert left(there, keys + others) == len(keys + others)
    if how == "clear":
        here.clear()
    else:
        getattr(here, how)("/a.jpg")
    clock.seconds += MINUTE
    assert (left(there, keys), left(there, others)) == (0, len(others))
    assert sum(there.lower[0].get(key) is not None for key in keys) == 0
    fresh = fill(there, intercepted("/a.jpg"), "1")
    clock.seconds += MINUTE
    assert left(there, fresh) == len(fresh)


def test_a_folder_gone_bad_follows_nothing_and_fails_nothing(
    process: Callable[..., Store], clock: Clock, tmp_path: Path
) -> None:
    store = process()
    keys = fill(store, intercepted("/a.jpg"), "1")
    store.lower[0].close()
    (tmp_path / "host" / "v1" / "index.sqlite3").write_bytes(b"no database" * 1000)
    clock.seconds += MINUTE
    assert left(store, keys) == len(keys)


# Junk in queries


def asked(service: Service, query: str, body: bytes = PHOTO) -> None:
    request = Request("GET", "/media/a.jpg", query, {"accept": CHROME})
    interception = service.intercept(request)
    head = Head(200, HEAD)
    assert interception.considers(head)
    if service.run(interception.from_head(head, len(body))) is Verdict.BODY:
        service.run(interception.from_body(head, body))
    interception.close()


@pytest.fixture
def junk_site(process: Callable[..., Store]) -> Callable[[], Service]:
    def make() -> Service:
        settings = Settings(cache_dir=None, workers=1)
        services.append(Service(settings, processor=Recorder(), store=process()))
        return services[-1]

    services: list[Service] = []
    yield make
    for service in services:
        service.close()


def test_ten_thousand_junk_queries_leave_what_is_useful_on_disk(
    junk_site: Callable[[], Service],
) -> None:
    service = junk_site()
    store = service.store
    useful = [key for n in range(20) for key in fill(store, intercepted(f"/{n}.jpg"), str(n))]
    asked(service, "")
    disk = store.lower[0]
    before = disk.stats().bytes
    for number in range(10_000):
        asked(service, f"x={number}")
    assert disk.stats().bytes - before < MIB
    assert all(disk.get(key) is not None for key in useful)
    assert service.processor.calls == 1


def test_ten_thousand_junk_queries_on_what_is_no_image_are_bounded_too(
    junk_site: Callable[[], Service],
) -> None:
    service = junk_site()
    for number in range(10_000):
        asked(service, f"x={number}", b"no image" * 126)
    assert service.store.lower[0].stats().bytes < MIB


def test_what_is_no_image_is_noted_for_a_few_queries_only(process: Callable[..., Store]) -> None:
    store = process()
    for number in range(100):
        name = intercepted("/broken.jpg", f"x={number}")
        store.remember_refusal(name, '"1"', BrokenImageError("no"))
    assert store.lower[0].stats().entries == 16


def test_junk_is_bounded_on_disk_however_often_processes_begin_anew(
    process: Callable[..., Store], clock: Clock
) -> None:
    name, record = intercepted("/a.jpg"), record_of("1")
    first = process()
    first.remember(name, record)
    for turn in range(30):
        store = process()
        for number in range(20):
            clock.seconds += 700
            store.remember(intercepted("/a.jpg", f"x={turn}-{number}"), record)
            assert first.lower[0].get(record_key(name, record.validator)) is not None
    assert store.lower[0].stats().entries == 16


def test_pictures_that_only_their_query_tells_apart_are_all_kept(
    process: Callable[..., Store],
) -> None:
    store = process()
    for number in range(100):
        store.remember(intercepted("/image", f"id={number}"), record_of(str(number)))
    assert store.lower[0].stats().entries == 100


def test_wanted_has_no_more_than_was_asked_for() -> None:
    assert Wanted("/a").has("example.com/a")
    assert not Wanted("/a").has("example.com/ab")
    assert Wanted("/a", is_prefix=True).has("example.com/ab")
    assert not Wanted("/a", is_prefix=True).has("example.com/b/a")
