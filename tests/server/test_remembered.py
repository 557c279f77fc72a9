"""Keys that were verified a moment ago are let in from memory, and not for longer than they may."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from optidash_integrations.server.authentication import Authentication, UnauthorizedError
from optidash_integrations.server.database import Database
from optidash_integrations.server.keys import Keys
from optidash_integrations.server.remembered import MOST, SECONDS
from tests.server.clocks import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(database: Database, clock: Clock) -> Keys:
    return Keys(database, monotonic=clock)


@pytest.fixture
def elsewhere(database_url: str) -> Iterator[Keys]:
    """Give the keys as another process has them."""
    with closing(Database(database_url)) as database:
        yield Keys(database)


def test_a_key_is_known_once_it_was_verified(keys: Keys) -> None:
    shop, secret = keys.create("shop")
    assert keys.known(secret) is None
    assert keys.verify(secret) == shop
    assert keys.known(secret) == shop
    assert keys.known("another") is None


def test_what_is_not_valid_is_not_remembered(keys: Keys) -> None:
    keys.create("shop")
    assert keys.verify("a guess") is None
    assert not keys.remembered.found


def test_a_key_that_another_process_revokes_is_out_in_time(
    keys: Keys, elsewhere: Keys, clock: Clock
) -> None:
    """At once with SQLite; PostgreSQL can't tell that somebody has written."""
    shop, secret = keys.create("shop")
    assert keys.verify(secret) == shop
    elsewhere.revoke(elsewhere.find("shop"))
    if keys.database.is_sqlite:
        assert keys.known(secret) is None
    clock.seconds += SECONDS
    assert keys.known(secret) is None
    assert keys.verify(secret) is None


def test_a_key_whose_parent_is_revoked_is_out_too(
    keys: Keys, elsewhere: Keys, clock: Clock
) -> None:
    shop, _ = keys.create("shop", is_primary=True)
    _, secret = keys.create_for(shop, "customer")
    assert keys.verify(secret) is not None
    elsewhere.revoke(elsewhere.find("shop"))
    clock.seconds += SECONDS
    assert keys.known(secret) is None


def test_a_process_heeds_its_own_changes_at_once(keys: Keys) -> None:
    shop, secret = keys.create("shop")
    keys.verify(secret)
    keys.change(shop, monthly_quota=7)
    changed = keys.verify(secret)
    assert changed is not None
    assert changed.monthly_quota == 7
    authentication = Authentication(keys)
    assert authentication.key(f"Bearer {secret}") == changed
    keys.revoke(shop)
    with pytest.raises(UnauthorizedError):
        authentication.key(f"Bearer {secret}")


def test_a_header_that_can_not_be_read_is_refused_as_ever(keys: Keys) -> None:
    with pytest.raises(UnauthorizedError):
        Authentication(keys).known("Digest something")
    assert Authentication(keys).known(None) is None


def test_memory_holds_no_secret_and_does_not_grow_for_ever(keys: Keys) -> None:
    shop, secret = keys.create("shop")
    keys.verify(secret)
    held = repr(keys.remembered.found) + repr(vars(keys.remembered))
    assert secret not in held
    mark = keys.database.mark()
    for number in range(MOST):
        keys.remembered.add(f"secret-{number}", shop, mark)
    assert len(keys.remembered.found) <= MOST


def test_two_openings_of_a_database_are_not_taken_for_one(sqlite_url: str) -> None:
    """What SQLite counts begins anew with each connection."""
    with closing(Database(sqlite_url)) as database:
        assert database.mark() is None
        with database.reading():
            pass
        before = database.mark()
        assert before == database.mark()
        database.close()
        with database.reading():
            pass
        assert before != database.mark()
