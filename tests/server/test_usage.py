"""Calls counted against monthly quotas."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from optidash_integrations.documents import Account
from optidash_integrations.server.keys import Keys
from optidash_integrations.server.usage import OutOfCreditsError, Usage
from tests.server.children import outputs
from tests.server.clocks import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def keys(database, clock):
    return Keys(database, clock=clock)


@pytest.fixture
def usage(database, clock):
    return Usage(database, clock=clock)


def spend(usage: Usage, key, calls: int) -> int:
    """Spend until nothing is left; return how many calls were allowed."""
    allowed = 0
    for _ in range(calls):
        try:
            usage.spend(key)
        except OutOfCreditsError:
            continue
        allowed += 1
    return allowed


def test_calls_are_allowed_until_the_quota_is_used_up(keys, usage):
    shop, _ = keys.create("shop", monthly_quota=3)
    assert spend(usage, shop, 5) == 3
    assert usage.used() == {shop.id: 3}
    with pytest.raises(OutOfCreditsError) as caught:
        usage.spend(shop)
    assert caught.value.public_status == 402
    assert caught.value.public == (
        "The monthly quota of 3 calls is used up. It begins anew on 2026-12-01."
    )


def test_a_quota_of_none_allows_nothing(keys, usage):
    shop, _ = keys.create("shop", monthly_quota=0)
    assert spend(usage, shop, 2) == 0
    assert usage.used() == {}


def test_without_a_quota_calls_are_only_counted(keys, usage):
    shop, _ = keys.create("shop")
    assert spend(usage, shop, 5) == 5
    assert usage.used() == {shop.id: 5}


@pytest.mark.parametrize(
    ("end", "begin"),
    [
        ("2026-11-30T23:59:59", "2026-12-01T00:00:00"),
        ("2026-12-31T23:59:59", "2027-01-01T00:00:00"),
        ("2028-02-29T23:59:59", "2028-03-01T00:00:00"),
    ],
)
def test_a_new_month_begins_anew(keys, usage, clock, end, begin):
    shop, _ = keys.create("shop", monthly_quota=2)
    clock.set(end)
    assert spend(usage, shop, 3) == 2
    assert usage.next_month == begin[:10]
    clock.set(begin)
    assert spend(usage, shop, 3) == 2


def test_a_higher_quota_counts_at_once(keys, usage):
    shop, _ = keys.create("shop", monthly_quota=1)
    assert spend(usage, shop, 2) == 1
    assert spend(usage, keys.change(shop, monthly_quota=3), 5) == 2
    assert spend(usage, keys.change(shop, monthly_quota=1), 5) == 0


def test_what_a_key_made_shares_its_quota(keys, usage):
    shop, _ = keys.create("shop", is_primary=True, monthly_quota=5)
    one, two = (keys.create_for(shop, name)[0] for name in ("one", "two"))
    assert [spend(usage, key, calls) for key, calls in ((one, 2), (shop, 1), (two, 9))] == [2, 1, 2]
    assert usage.used() == {shop.id: 5, one.id: 2, two.id: 2}
    assert spend(usage, one, 1) == 0


def test_a_call_given_back_can_be_made_again_in_its_own_month(keys, usage, clock):
    shop, _ = keys.create("shop", is_primary=True, monthly_quota=1)
    customer, _ = keys.create_for(shop, "customer")
    spent = usage.spend(customer)
    usage.give_back(spent)
    assert usage.used() == {shop.id: 0, customer.id: 0}
    spent = usage.spend(customer)
    clock.set("2026-12-01T00:00:00")
    usage.spend(customer)
    usage.give_back(spent)
    usage.give_back(spent)
    assert usage.used() == {shop.id: 1, customer.id: 1}
    clock.set("2026-11-30T00:00:00")
    assert usage.used() == {shop.id: 0, customer.id: 0}


def test_threads_do_not_overdraw(keys, usage):
    shop, _ = keys.create("shop", monthly_quota=50)
    start = threading.Barrier(4)

    def work() -> int:
        start.wait()
        return spend(usage, shop, 20)

    with ThreadPoolExecutor(4) as pool:
        allowed = [done.result() for done in [pool.submit(work) for _ in range(4)]]
    assert (sum(allowed), usage.used()) == (50, {shop.id: 50})


def test_processes_do_not_overdraw(keys, usage, database_url):
    shop, _ = keys.create("shop", is_primary=True, monthly_quota=50)
    keys.create_for(shop, "customer")
    code = """
from contextlib import closing
from optidash_integrations.server.database import Database
from optidash_integrations.server.keys import Keys
from optidash_integrations.server.usage import OutOfCreditsError, Usage
allowed = 0
with closing(Database(sys.argv[1])) as database:
    keys, usage = Keys(database), Usage(database, clock=lambda: float(sys.argv[2]))
    for path in ["shop", "shop/customer"] * 20:
        try:
            usage.spend(keys.find(path))
            allowed += 1
        except OutOfCreditsError:
            pass
print(allowed)
"""
    allowed = outputs(code, database_url, str(usage.clock()), count=3)
    assert sum(map(int, allowed)) == 50
    assert usage.used()[shop.id] == 50


# GET /1.0/account


def test_the_account_document_has_both_published_shapes(keys, usage):
    shop, _ = keys.create("Shop", monthly_quota=20_000)
    spend(usage, shop, 3)
    numbers = {"total": 20_000, "used": 3, "remaining": 19_997}
    assert usage.account(shop) == {
        "success": True,
        "code": 200,
        "subscription": {"name": "Shop"},
        "credits": numbers,
        "quota": numbers,
    }


def test_an_account_without_a_quota_tells_no_end(keys, usage):
    shop, _ = keys.create("shop")
    spend(usage, shop, 2)
    found = Account.from_dict(usage.account(shop))
    assert (found.name, found.total, found.used, found.remaining) == ("shop", None, 2, None)


def test_a_lowered_quota_leaves_nothing_and_not_less(keys, usage):
    shop, _ = keys.create("shop")
    spend(usage, shop, 3)
    lowered = keys.change(shop, monthly_quota=1)
    assert usage.account(lowered)["credits"] == {"total": 1, "used": 3, "remaining": 0}


def test_keys_that_a_key_made_see_its_account(keys, usage):
    shop, _ = keys.create("shop", is_primary=True, monthly_quota=10)
    customer, _ = keys.create_for(shop, "customer")
    spend(usage, customer, 1)
    spend(usage, shop, 2)
    assert usage.account(customer) == usage.account(shop)
    assert usage.account(shop)["credits"] == {"total": 10, "used": 3, "remaining": 7}


def test_asking_for_the_account_costs_nothing(keys, usage):
    shop, _ = keys.create("shop", monthly_quota=1)
    for _ in range(3):
        usage.account(shop)
    assert usage.account(shop)["credits"] == {"total": 1, "used": 0, "remaining": 1}
