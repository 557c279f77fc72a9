from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import pytest

from optidash_integrations.cache.entry import Entry
from optidash_integrations.cache.memory import MemoryCache
from optidash_integrations.exchange import Head, Request
from optidash_integrations.ready import (
    MOST_ANSWERS,
    SPECIAL,
    Agreed,
    Hit,
    ReadyAnswers,
    environ_key,
    request_key,
)
from optidash_integrations.records import SourceRecord
from optidash_integrations.stats import Counters
from tests.sites.base import Clock

KEY = "a" * 40
RECORD = SourceRecord("d" * 64, "jpg", 1, 1, 1, False, 9, '"1"')
HEAD = [(b"content-type", b"image/webp")]


class Table:
    """A table over a memory tier, and what it was told of use."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.memory = MemoryCache(100_000)
        self.touched: list[str] = []
        self.counters = Counters()
        self.due = False
        self.ready = ReadyAnswers(self.touch, self.counters.served, self.clock)

    def touch(self, key: str) -> object:
        self.touched.append(key)
        return None if self.due else key

    def keep(self, key: str = KEY, agreed: Agreed | None = None, body: bytes = b"body") -> None:
        self.memory.put(key, Entry({}, body))
        entry = self.memory.get(key)
        assert entry is not None
        self.ready.put(key, Hit(key, entry, agreed, 100), HEAD)


@pytest.fixture
def table() -> Table:
    return Table()


def test_what_was_kept_is_found(table: Table) -> None:
    assert table.ready.find(KEY) is None
    table.keep()
    assert table.ready.find(KEY) == (HEAD, b"body")


@pytest.mark.parametrize("how", ["delete", "clear", "evict"])
def test_an_answer_goes_with_its_entry_in_the_memory_tier(table: Table, how: str) -> None:
    table.keep()
    if how == "delete":
        table.memory.delete(KEY)
    elif how == "clear":
        table.memory.clear()
    else:
        table.memory.put("b" * 40, Entry({}, bytes(99_500)))
    gc.collect()
    assert table.ready.find(KEY) is None
    assert table.ready.table == {}


def test_an_answer_holds_no_longer_than_its_agreement(table: Table) -> None:
    agreed = Agreed(RECORD, Head(200, ()), until=table.clock.now + 60)
    table.keep(agreed=agreed)
    table.clock.go_on(59)
    assert table.ready.find(KEY) is not None
    table.clock.go_on(1)
    assert table.ready.find(KEY) is None  # somebody has to ask
    agreed.until += 60
    assert table.ready.find(KEY) is not None  # the app said the same again
    agreed.holds = False
    assert table.ready.find(KEY) is None
    assert table.ready.table == {}


def test_use_is_noted_once_a_second(table: Table) -> None:
    table.keep()
    for _ in range(5):
        table.ready.find(KEY)
    table.clock.go_on(1)
    table.ready.find(KEY)
    assert table.touched == [KEY, KEY]


def test_a_hit_is_counted(table: Table) -> None:
    table.keep()
    table.ready.find(KEY)
    table.ready.find("b" * 40)
    stats = table.counters.stats()
    assert (stats.hits["memory"], stats.bytes_out, stats.bytes_saved) == (1, 4, 96)


def test_an_answer_waits_while_the_tiers_want_to_be_asked(table: Table) -> None:
    table.keep()
    table.due = True
    assert table.ready.find(KEY) is None
    table.due = False
    assert table.ready.find(KEY) is not None


def test_a_body_in_a_file_is_not_kept(table: Table, tmp_path) -> None:
    entry = Entry({}, tmp_path / "body", length=9)
    table.ready.put(KEY, Hit(KEY, entry, None), HEAD)
    assert table.ready.table == {}


def test_the_oldest_gives_way(table: Table) -> None:
    entry = Entry({}, b"body")
    for number in range(MOST_ANSWERS + 10):
        table.ready.put(number, Hit(KEY, entry, None), HEAD)
    assert len(table.ready.table) == MOST_ANSWERS
    assert table.ready.find(9) is None
    assert table.ready.find(10) is not None


def test_accept_headers_that_say_the_same_share_a_number(table: Table) -> None:
    number = table.ready.accept_class
    chrome = number(b"image/avif,image/webp,*/*;q=0.8")
    assert number("image/webp, image/avif, */*;q=0.8, text/html") == chrome
    others = ["image/webp,*/*;q=0.8", "image/avif;q=0,image/webp,*/*;q=0.8", "*/*", None, ""]
    assert chrome not in {number(other) for other in others}
    assert number(None) == number("") == number("text/html")


def test_who_asks_for_json_has_a_number_of_their_own(table: Table) -> None:
    number = table.ready.accept_class
    assert number("application/json") != number(None)
    assert number("application/json, */*;q=0.8") != number("*/*;q=0.8")
    assert number("application/json;q=0.5, */*;q=0.8") == number("*/*;q=0.8")


def test_an_attacker_s_accept_headers_take_bounded_memory(table: Table) -> None:
    table.keep()
    for number in range(5_000):
        table.ready.accept_class(f"image/webp;q=0.{number:05d}1")
    assert len(table.ready.accepts) <= 1_024
    assert len(table.ready.classes) <= 1_024
    assert table.ready.find(KEY) is None  # numbers mean something else now


ENVIRON = {
    "REQUEST_METHOD": "GET",
    "PATH_INFO": "/static/a.jpg",
    "QUERY_STRING": "w=640",
    "HTTP_HOST": "example.org",
    "HTTP_ACCEPT": "image/webp",
}


@pytest.mark.parametrize(
    "more",
    [
        {"PATH_INFO": "/static/b.jpg"},
        {"QUERY_STRING": "w=320"},
        {"HTTP_HOST": "example.com"},
        {"HTTP_ACCEPT": "image/avif"},
        {"SCRIPT_NAME": "/shop"},
        {"RAW_URI": "/static/%61.jpg"},
    ],
)
def test_a_key_tells_apart_what_gives_other_answers(table: Table, more: dict[str, str]) -> None:
    assert environ_key(ENVIRON | more, table.ready) != environ_key(ENVIRON, table.ready)


@pytest.mark.parametrize(
    "more",
    [
        {"REQUEST_METHOD": "HEAD"},
        {"REQUEST_METHOD": "POST"},
        {"HTTP_RANGE": "bytes=0-9"},
        {"HTTP_IF_NONE_MATCH": '"od-1"'},
        {"HTTP_IF_MODIFIED_SINCE": "x"},
        {"HTTP_IF_RANGE": "x"},
        {"HTTP_AUTHORIZATION": "x"},
        {"HTTP_ORIGIN": "https://example.com"},
    ],
)
def test_a_request_that_asks_for_more_has_no_key(table: Table, more: dict[str, str]) -> None:
    assert environ_key(ENVIRON | more, table.ready) is None


ASKED = Request("GET", "/img/a.jpg", "w=640", {"accept": "image/webp"}, "/img/a.jpg")


@pytest.mark.parametrize(
    "more",
    [
        {"path": "/img/b.jpg"},
        {"raw_path": "/img/%61.jpg"},
        {"query": "w=320"},
        {"headers": {"accept": "image/avif"}},
        {"headers": {"accept": "application/json"}},
    ],
)
def test_a_key_of_the_endpoint_tells_apart_what_gives_other_answers(
    table: Table, more: dict[str, Any]
) -> None:
    assert request_key(replace(ASKED, **more), table.ready) != request_key(ASKED, table.ready)
    assert request_key(ASKED, table.ready, "a") != request_key(ASKED, table.ready, "b")


@pytest.mark.parametrize("name", sorted(SPECIAL))
def test_a_request_to_the_endpoint_that_asks_for_more_has_no_key(table: Table, name: str) -> None:
    assert request_key(replace(ASKED, headers={name: "x"}), table.ready) is None
    assert request_key(replace(ASKED, method="HEAD"), table.ready) is None


def test_a_cookie_makes_no_difference_under_a_public_path(table: Table) -> None:
    assert environ_key(ENVIRON | {"HTTP_COOKIE": "a=b"}, table.ready) == environ_key(
        ENVIRON, table.ready
    )
