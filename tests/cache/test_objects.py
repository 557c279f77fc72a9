"""The object store tier: buckets that fail or hang, damage, what lies beside it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from optidash_integrations.cache.entry import Entry
from optidash_integrations.cache.objects import CLIENT, KNOWN, ObjectCache, open_store
from optidash_integrations.cache.shared import open_shared
from optidash_integrations.errors import SettingsError
from tests.cache.children import read_after_fork, read_shared, write_shared
from tests.cache.conftest import MIB, Clock, key_of
from tests.cache.servers import Bucket, bucket_url

OpenObjects = Callable[..., ObjectCache]

KEY = key_of(0)
ENTRY = Entry({"type": "image/avif"}, b"body" * 1000, "cat")


@pytest.fixture
def cache(open_objects: OpenObjects, bucket: Bucket) -> ObjectCache:
    return open_objects(bucket.url)


def test_an_entry_is_one_object_and_a_hit_one_request(cache: ObjectCache, bucket: Bucket) -> None:
    cache.put(KEY, ENTRY)
    bucket.requests.clear()
    assert cache.get(KEY) == ENTRY
    assert bucket.requests == [f"GET /pictures/here/entries/{KEY}"]


def test_a_bucket_that_answers_503_is_left_alone_and_recovers(
    cache: ObjectCache, bucket: Bucket, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    cache.put(KEY, ENTRY)
    bucket.status = 503
    assert cache.get(KEY) is None
    asked = len(bucket.requests)
    for _ in range(20):
        assert cache.get(KEY) is None
        cache.put(KEY, ENTRY)
    assert len(bucket.requests) == asked
    bucket.status = 200
    clock.seconds += 1.1
    assert cache.get(KEY) == ENTRY
    assert len(caplog.records) == 1


def test_a_failure_that_passes_at_once_is_not_one(cache: ObjectCache, bucket: Bucket) -> None:
    cache.put(KEY, ENTRY)
    bucket.passing = [503]
    assert cache.get(KEY) == ENTRY


def test_a_bucket_without_the_right_to_list_misses_and_is_asked_again(
    cache: ObjectCache, bucket: Bucket
) -> None:
    cache.put(KEY, ENTRY)
    bucket.status = 403
    assert cache.get(KEY) is None
    bucket.status = 200
    assert cache.get(KEY) == ENTRY


def test_no_request_waits_for_a_bucket_that_is_silent(
    open_objects: OpenObjects,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert CLIENT == {"connect_timeout": "1s", "timeout": "4s"}
    monkeypatch.setitem(CLIENT, "timeout", "50ms")
    cache = open_objects(bucket.url)
    bucket.talks.clear()
    assert cache.get(KEY) is None
    asked = len(bucket.requests)
    assert asked <= 2
    assert cache.get(KEY) is None
    assert len(bucket.requests) == asked
    assert "left alone" in caplog.text


def test_nothing_secret_is_shown_or_logged(
    cache: ObjectCache, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.status = 503
    assert cache.get(KEY) is None
    shown = caplog.text + repr(cache) + repr(vars(cache))
    assert "s3cr3t-k3y" not in shown
    assert "AKIATEST" not in shown


@pytest.mark.parametrize("value", [b"", b"odc1", b"\x80\x04N.", b"x" * 5000])
def test_a_damaged_object_is_a_miss_and_dropped(
    open_objects: OpenObjects, s3_url: str, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    cache = open_objects(s3_url)
    cache.put(KEY, ENTRY)
    cache.store.put(cache.name(KEY), value)
    assert cache.get(KEY) is None
    assert cache.stats().entries == 0
    assert "a damaged entry in the object store was dropped" in caplog.text


def test_an_object_that_is_too_long_to_be_ours_is_not_read(open_objects: OpenObjects) -> None:
    cache = open_objects("memory://", max_body_bytes=1000)
    cache.store.put(cache.name(KEY), bytes(2 * MIB))
    assert cache.get(KEY) is None
    assert cache.stats().entries == 0


def test_clear_leaves_what_others_have_beside_it(open_objects: OpenObjects, s3_url: str) -> None:
    cache = open_objects(s3_url)
    for name in ("entries/readme.txt", "entries/old/" + KEY, "photo.jpg", "sources/x/" + KEY):
        cache.store.put(name, b"theirs")
    cache.put(KEY, ENTRY)
    cache.clear()
    left = [item["path"] for some in cache.store.list() for item in some]
    assert sorted(left) == sorted(
        ["entries/readme.txt", "entries/old/" + KEY, "photo.jpg", "sources/x/" + KEY]
    )


def test_a_bucket_without_a_path_has_a_folder_of_ours(
    open_objects: OpenObjects, bucket: Bucket
) -> None:
    cache = open_objects(bucket.url.replace("/here?", "?"))
    cache.put(KEY, ENTRY)
    assert f"/pictures/optidash/entries/{KEY}" in bucket.objects


def test_a_forgotten_entry_is_no_longer_among_its_sources_keys(
    open_objects: OpenObjects, s3_url: str
) -> None:
    cache = open_objects(s3_url)
    cache.put(KEY, ENTRY)
    cache.delete(KEY)
    assert [item for some in cache.store.list() for item in some] == []


def test_a_source_is_deleted_without_a_look_at_other_entries(
    open_objects: OpenObjects, bucket: Bucket
) -> None:
    """The listing asks for the source's own prefix."""
    cache = open_objects(bucket.url)
    bucket.passing = [503, 503]
    assert cache.delete_source("cat") == 0
    assert all("prefix=here%2Fsources%2F" in asked for asked in bucket.requests)
    assert len(bucket.requests) == 2


def test_a_bucket_that_does_not_exist_is_a_failure_and_no_error(
    open_objects: OpenObjects, s3_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = open_objects(bucket_url(s3_address, "x").replace("pictures", "no-such-bucket"))
    assert cache.get(KEY) is None
    cache.put(KEY, ENTRY)
    assert cache.delete_source("cat") == 0
    cache.clear()
    assert cache.stats().entries == 0
    assert "no-such-bucket" in caplog.text


def test_two_processes_read_each_others_entries_whole(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/store"
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    children = [
        context.Process(target=work, args=(url, seed, answers))
        for seed, work in enumerate((write_shared, read_shared, write_shared))
    ]
    for child in children:
        child.start()
    results = [answers.get(timeout=30) for _ in children]
    for child in children:
        child.join()
    assert sum(read for read, _ in results) > 20
    assert sum(broken for _, broken in results) == 0
    assert open_shared(url).stats().entries > 20


def test_a_child_that_was_forked_too_late_misses_and_does_not_hang(tmp_path: Path) -> None:
    """Neither for obstore's threads, nor for a lock that another thread held."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    parent = context.Process(target=read_after_fork, args=(f"file://{tmp_path}/store", answers))
    parent.start()
    assert answers.get(timeout=30) == (1, 0)
    parent.join()


@pytest.mark.parametrize(
    ("scheme", "option"), [(s, o) for s in KNOWN for o in sorted(KNOWN[s] - {"allow_http"})]
)
def test_obstore_knows_every_option_that_an_address_may_have(scheme: str, option: str) -> None:
    """It may not like the value."""
    base = "account_name=me&" if scheme == "az" and option != "account_name" else ""
    problem = ""
    try:
        open_store(f"{scheme}://pictures/here?{base}{option}=true")
    except SettingsError as error:
        problem = str(error)
    assert "is not valid for store" not in problem
