"""API keys, and the keys that a primary key makes."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from sqlalchemy import select

from optidash_integrations.server import keys as module
from optidash_integrations.server import provisioning
from optidash_integrations.server.keys import KEY_LENGTH, Keys, digest_of, new_secret
from optidash_integrations.server.refusals import (
    ForbiddenError,
    InvalidError,
    MissingError,
    TakenError,
)
from tests.server.clocks import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def keys(database, clock):
    return Keys(database, clock=clock)


def test_a_key_is_forty_letters_and_digits_and_never_the_same():
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9]{40}", secret) for secret in made)
    assert KEY_LENGTH == 40


def test_a_key_is_known_again_by_its_secret(keys, clock):
    key, secret = keys.create("shop", rate_limit="600 / minute", monthly_quota=500)
    assert keys.verify(secret) == key
    assert (key.name, key.path, key.account, key.account_name) == ("shop", "shop", key.id, "shop")
    assert (key.rate_limit, key.monthly_quota) == ("600/1 minutes", 500)
    assert (key.is_primary, key.created_at, key.revoked_at) == (False, clock(), None)


@pytest.mark.parametrize("change", [str.swapcase, lambda s: s[:-1], lambda s: s + "x"])
def test_another_secret_is_nobodys(keys, change):
    _, secret = keys.create("shop")
    assert keys.verify(change(secret)) is None


@pytest.mark.parametrize("secret", ["", "\0", "\ud800", "ключ", "' or 1=1 --", "x" * 100_000])
def test_odd_secrets_are_nobodys(keys, secret):
    keys.create("shop")
    assert keys.verify(secret) is None


def test_a_secret_is_kept_as_its_hash_alone(keys, database):
    key, secret = keys.create("shop")
    with database.reading() as connection:
        (row,) = connection.execute(select(module.table)).all()
    assert row.digest == digest_of(secret)
    assert secret not in repr(row)
    assert secret not in repr(key)


def test_no_two_keys_in_use_have_one_name(keys):
    shop, _ = keys.create("shop")
    with pytest.raises(TakenError, match='There is a key named "shop" already'):
        keys.create(" shop ")
    other, _ = keys.create("other")
    with pytest.raises(TakenError):
        keys.rename(other, "shop")
    assert [key.name for key in keys.all()] == ["other", "shop"]
    assert keys.rename(shop, "shop") == shop


def test_of_several_that_make_a_name_at_once_one_succeeds(keys):
    start = threading.Barrier(4)

    def make() -> bool:
        start.wait()
        try:
            keys.create("shop")
        except TakenError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(done.result() for done in [pool.submit(make) for _ in range(4)]) == 1


@pytest.mark.parametrize(
    "name", ["", "  ", "x" * 101, "a\nb", "a\0b", "\ud800", "\x1b[31m", None, 7, ["shop"]]
)
def test_a_wrong_name_is_refused_with_a_sentence(keys, name):
    with pytest.raises(InvalidError, match="'name' parameter must be a text of 1 to 100"):
        keys.create(name)


def test_what_parts_two_names_is_in_none_of_the_first_ones(keys):
    with pytest.raises(InvalidError, match="must not contain /"):
        keys.create("a/b")
    shop, _ = keys.create("shop", is_primary=True)
    with pytest.raises(InvalidError, match="must not contain /"):
        keys.rename(shop, "a/b")
    sub, _ = keys.create_for(shop, "Berlin/Mitte")
    assert keys.find("shop/Berlin/Mitte") == sub


@pytest.mark.parametrize("name", ["x" * 100, "Café ☕", "a b", "'; drop table keys"])
def test_other_names_are_taken_as_they_are(keys, name):
    key, secret = keys.create(name)
    assert key.name == name
    assert keys.find(name) == keys.verify(secret) == key


@pytest.mark.parametrize("quota", [-1, 2**53])
def test_a_wrong_quota_is_refused(keys, quota):
    with pytest.raises(InvalidError, match="'monthly_quota' parameter"):
        keys.create("shop", monthly_quota=quota)
    shop, _ = keys.create("shop")
    with pytest.raises(InvalidError):
        keys.change(shop, monthly_quota=quota)


def test_a_renamed_key_keeps_its_secret(keys):
    shop, secret = keys.create("shop")
    assert keys.rename(shop, "store") == keys.verify(secret)
    assert keys.verify(secret).name == "store"
    with pytest.raises(MissingError, match='There is no key "shop"'):
        keys.find("shop")


def test_what_a_key_may_do_can_be_changed(keys):
    shop, secret = keys.create("shop", rate_limit="1/hour", monthly_quota=5)
    keys.change(shop, rate_limit="5/15 minutes")
    assert (keys.verify(secret).rate_limit, keys.verify(secret).monthly_quota) == (
        "5/15 minutes",
        5,
    )
    keys.change(shop, rate_limit=None, monthly_quota=None)
    assert keys.verify(secret) == keys.find("shop")
    assert (keys.find("shop").rate_limit, keys.find("shop").monthly_quota) == (None, None)


def test_a_revoked_key_lets_nobody_in_and_its_name_is_free(keys, clock):
    shop, secret = keys.create("shop")
    assert keys.revoke(shop).revoked_at == clock()
    assert keys.verify(secret) is None
    assert keys.all() == []
    again, other = keys.create("shop")
    assert keys.verify(other) == keys.find("shop") == again
    assert {key.id for key in keys.all(revoked=True)} == {shop.id, again.id}


def test_a_revoked_key_can_be_neither_renamed_nor_revoked_again(keys):
    shop, _ = keys.create("shop")
    keys.revoke(shop)
    rename, change = partial(keys.rename, name="other"), partial(keys.change, rate_limit="1/hour")
    for act in (keys.revoke, rename, change):
        with pytest.raises(MissingError):
            act(shop)


# Keys that a primary key makes


@pytest.fixture
def primary(keys):
    return keys.create("shop", is_primary=True, rate_limit="5/second", monthly_quota=100)[0]


def test_a_primary_keys_own_have_its_rate_and_share_its_quota(keys, primary):
    sub, secret = keys.create_for(primary, "customer")
    assert keys.verify(secret) == sub
    assert (sub.path, sub.account, sub.account_name) == ("shop/customer", primary.id, "shop")
    assert (sub.rate_limit, sub.monthly_quota, sub.is_primary) == ("5/1 seconds", 100, False)
    keys.change(primary, rate_limit=None, monthly_quota=7)
    assert (keys.verify(secret).rate_limit, keys.verify(secret).monthly_quota) == (None, 7)


def test_keys_are_found_and_listed_with_those_that_they_made(keys, primary):
    sub, _ = keys.create_for(primary, "customer")
    other, _ = keys.create("customer")
    assert keys.find("shop/customer") == sub
    assert keys.find("customer") == other
    assert [key.path for key in keys.all()] == ["customer", "shop", "shop/customer"]
    for path in ("shop/", "/customer", "shop/other", "shop/customer/", "", "%"):
        with pytest.raises(MissingError):
            keys.find(path)


def test_a_key_is_revoked_with_the_one_that_made_it(keys, primary):
    sub, secret = keys.create_for(primary, "customer")
    other = keys.create("other", is_primary=True)[0]
    keys.create_for(other, "customer")
    keys.revoke(primary)
    assert keys.verify(secret) is None
    assert [key.path for key in keys.all()] == ["other", "other/customer"]
    with pytest.raises(MissingError):
        keys.find(sub.path)


def test_a_primary_key_has_room_for_so_many(database):
    keys = Keys(database, most_sub_keys=2)
    primary, _ = keys.create("shop", is_primary=True)
    first, _ = keys.create_for(primary, "1")
    keys.create_for(primary, "2")
    with pytest.raises(ForbiddenError, match="This key has made 2 keys"):
        keys.create_for(primary, "3")
    keys.revoke(first)
    keys.create_for(primary, "3")


# POST /1.0/keys and PUT /1.0/keys/{key}


def test_a_key_is_made_over_the_api(keys, primary):
    answer = provisioning.create(keys, primary, {"name": "customer"})
    assert {**answer, "key": ""} == {"success": True, "code": 200, "name": "customer", "key": ""}
    assert re.fullmatch(r"[A-Za-z0-9]{40}", answer["key"])
    assert keys.verify(answer["key"]).path == "shop/customer"


def test_a_key_is_renamed_over_the_api(keys, primary):
    secret = provisioning.create(keys, primary, {"name": "customer"})["key"]
    answer = provisioning.rename(keys, primary, secret, {"name": "client"})
    assert answer == {"success": True, "code": 200, "name": "client", "key": secret}
    assert keys.verify(secret).path == "shop/client"


@pytest.mark.parametrize("document", [None, [], "name", 7, {}, {"name": ""}, {"name": {}}])
def test_a_wrong_document_is_refused(keys, primary, document):
    secret = provisioning.create(keys, primary, {"name": "customer"})["key"]
    for call in (
        lambda: provisioning.create(keys, primary, document),
        lambda: provisioning.rename(keys, primary, secret, document),
    ):
        with pytest.raises(InvalidError) as caught:
            call()
        assert caught.value.public_status == 422
    assert len(keys.all()) == 2


def test_a_name_that_another_has_is_a_conflict(keys, primary):
    provisioning.create(keys, primary, {"name": "one"})
    other = provisioning.create(keys, primary, {"name": "two"})["key"]
    with pytest.raises(TakenError) as caught:
        provisioning.create(keys, primary, {"name": "one"})
    assert caught.value.public_status == 409
    with pytest.raises(TakenError):
        provisioning.rename(keys, primary, other, {"name": "one"})


def test_only_a_primary_key_manages_keys(keys, primary):
    sub, secret = keys.create_for(primary, "customer")
    plain, _ = keys.create("plain")
    for caller in (sub, plain):
        with pytest.raises(ForbiddenError) as caught:
            provisioning.create(keys, caller, {"name": "more"})
        assert caught.value.public_status == 403
        with pytest.raises(ForbiddenError):
            provisioning.rename(keys, caller, secret, {"name": "mine"})


def test_a_primary_key_manages_its_own_keys_alone(keys, primary):
    other, others_secret = keys.create("other", is_primary=True)
    _, secret = keys.create_for(other, "customer")
    revoked, revoked_secret = keys.create_for(primary, "gone")
    keys.revoke(revoked)
    for foreign in (secret, others_secret, revoked_secret, "nobody's"):
        with pytest.raises(MissingError) as caught:
            provisioning.rename(keys, primary, foreign, {"name": "mine"})
        assert (caught.value.public_status, caught.value.public) == (404, "There is no such key")
