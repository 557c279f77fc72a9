"""Calls without a quota are counted in memory and written soon; those with one at once."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path

import pytest

from optidash_integrations.server.database import Database, DatabaseUnavailableError
from optidash_integrations.server.keys import Key, Keys
from optidash_integrations.server.spending import Spending
from optidash_integrations.server.usage import Counted, OutOfCreditsError, Usage
from tests.server.clocks import Clock
from tests.server.live import configured, data, image, running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(database: Database) -> Keys:
    return Keys(database)


@pytest.fixture
def usage(database: Database, clock: Clock) -> Usage:
    return Usage(database, clock=clock)


@pytest.fixture
def spending(usage: Usage) -> Spending:
    return Spending(usage)


async def spend(spending: Spending, key: Key, calls: int) -> None:
    for _ in range(calls):
        await spending.spend(key)


async def test_calls_without_a_quota_are_written_together(
    keys: Keys, usage: Usage, spending: Spending
) -> None:
    shop, _ = keys.create("shop", is_primary=True)
    one, _ = keys.create_for(shop, "one")
    await spend(spending, shop, 2)
    await spend(spending, one, 3)
    assert usage.used() == {}
    spending.write()
    assert usage.used() == {shop.id: 5, one.id: 3}
    spending.write()
    await spend(spending, one, 1)
    spending.write()
    assert usage.used() == {shop.id: 6, one.id: 4}


class SlowUsage(Usage):
    """Writes only when a test lets it."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        super().__init__(database, clock=clock)
        self.begun, self.allowed = threading.Event(), threading.Event()

    def add(self, counts: Mapping[Counted, int]) -> None:
        self.begun.set()
        assert self.allowed.wait(30)
        super().add(counts)


async def test_an_account_is_told_of_what_is_being_written(
    keys: Keys, database: Database, clock: Clock
) -> None:
    shop, _ = keys.create("shop")
    usage = SlowUsage(database, clock=clock)
    spending = Spending(usage)
    await spend(spending, shop, 2)
    with ThreadPoolExecutor(2) as threads:
        threads.submit(spending.write)
        assert usage.begun.wait(30)
        asked = threads.submit(spending.account, shop)
        wait([asked], 0.1)  # it would be wrong by now
        usage.allowed.set()
        assert asked.result(30)["credits"]["used"] == 2


async def test_calls_with_a_quota_are_counted_at_once_and_never_one_too_many(
    keys: Keys, usage: Usage, spending: Spending
) -> None:
    shop, _ = keys.create("shop", monthly_quota=3)
    await spend(spending, shop, 2)
    assert usage.used() == {shop.id: 2}
    usage.spend(shop)  # another process
    with pytest.raises(OutOfCreditsError):
        await spending.spend(shop)
    assert usage.used() == {shop.id: 3}


@pytest.mark.parametrize("quota", [None, 9])
async def test_what_is_given_back_counts_no_more(
    keys: Keys, usage: Usage, spending: Spending, quota: int | None
) -> None:
    shop, _ = keys.create("shop", monthly_quota=quota)
    await spend(spending, shop, 2)
    spent = await spending.spend(shop)
    spending.write()
    await spending.give_back(spent)
    spending.write()
    assert usage.used() == {shop.id: 2}


async def test_calls_count_for_the_month_they_were_made_in(
    keys: Keys, usage: Usage, spending: Spending, clock: Clock
) -> None:
    clock.set("2026-11-30T23:59:59")
    shop, _ = keys.create("shop")
    await spending.spend(shop)
    clock.set("2026-12-01T00:00:01")
    await spending.spend(shop)
    spending.write()
    assert usage.used() == {shop.id: 1}
    clock.set("2026-11-30T23:59:59")
    assert usage.used() == {shop.id: 1}


async def test_an_account_tells_of_calls_that_are_not_written_yet(
    keys: Keys, spending: Spending
) -> None:
    shop, _ = keys.create("shop")
    await spend(spending, shop, 4)
    assert spending.account(shop)["credits"] == {"total": None, "used": 4, "remaining": None}


async def test_what_can_not_be_written_is_kept(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "server.sqlite3"
    with closing(Database(f"sqlite:///{path}", wait_seconds=0.01)) as database:
        shop, _ = Keys(database).create("shop")
        spending = Spending(Usage(database, clock=clock))
        await spend(spending, shop, 2)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("begin immediate")
            with pytest.raises(DatabaseUnavailableError):
                spending.write()
            assert not await spending.written()
            await spend(spending, shop, 1)
        assert await spending.written()
        assert spending.usage.used() == {shop.id: 3}


async def test_it_writes_by_itself(keys: Keys, usage: Usage, spending: Spending) -> None:
    shop, _ = keys.create("shop")
    await spend(spending, shop, 2)
    task = asyncio.create_task(spending.run())
    async with asyncio.timeout(10):
        while spending.counts or not usage.used():  # noqa: ASYNC110  a thread does it
            await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert usage.used() == {shop.id: 2}


def test_a_graceful_end_loses_no_call(tmp_path: Path) -> None:
    with running(configured(tmp_path)) as live:
        for _ in range(3):
            assert live.upload(image(), data({"resize": {"width": 30}})).status == 200
        key = live.key
    with closing(Database(live.configuration.database)) as database:
        assert Usage(database).used() == {key.id: 3}


def test_looking_whether_a_call_is_left_counts_none(keys: Keys, usage: Usage) -> None:
    shop, _ = keys.create("shop", monthly_quota=1)
    usage.check(shop)
    usage.check(shop)
    usage.spend(shop)
    with pytest.raises(OutOfCreditsError):
        usage.check(shop)
    free, _ = keys.create("free")
    usage.check(free)
