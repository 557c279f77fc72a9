from __future__ import annotations

from dataclasses import replace

import pytest

from optidash_integrations.agreements import Agreements
from optidash_integrations.exchange import Head
from optidash_integrations.records import SourceRecord
from tests.sites.base import Clock

NAME = "file:photo.jpg"
HEAD = Head(200, ())
OLD = SourceRecord("a" * 64, "jpg", 1, 1, 1, False, 9, "1")
NEW = replace(OLD, digest="b" * 64, validator="2")
NEWER = replace(OLD, digest="c" * 64, validator="3")
DAY = 86_400.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def agreements(clock: Clock) -> Agreements:
    return Agreements(60, clock)


def test_one_asks_again_while_the_others_still_get_it(agreements: Agreements, clock: Clock) -> None:
    agreed = agreements.put(NAME, HEAD, OLD)
    clock.go_on(59)
    assert agreements.find(NAME) is agreed
    clock.go_on(1)
    assert agreements.find(NAME) is None
    assert agreements.find(NAME) is agreed
    assert agreements.put(NAME, HEAD, OLD) is agreed
    clock.go_on(59)
    assert agreements.find(NAME) is agreed


def test_a_change_ends_what_rests_on_an_agreement(agreements: Agreements) -> None:
    agreed = agreements.put(NAME, HEAD, OLD)
    newer = agreements.put(NAME, HEAD, NEW)
    assert (agreed.holds, newer.holds) == (False, True)
    assert agreements.present_of(NAME, NEW) is newer
    assert agreements.present_of(NAME, OLD) is None


def test_what_a_name_stood_for_is_known_for_a_while(agreements: Agreements, clock: Clock) -> None:
    agreements.put(NAME, HEAD, OLD)
    agreements.put(NAME, HEAD, NEW)
    former = agreements.former(NAME, NEW, DAY)
    assert former is not None
    assert (former.record, former.since) == (OLD, clock.now)
    clock.go_on(DAY - 1)
    assert agreements.former(NAME, NEW, DAY) == former
    clock.go_on(1)
    assert agreements.former(NAME, NEW, DAY) is None
    assert agreements.former("file:other.jpg", NEW, DAY) is None


def test_the_same_bytes_under_another_validator_are_no_change(agreements: Agreements) -> None:
    agreements.put(NAME, HEAD, OLD)
    again = replace(OLD, validator="touched")
    agreements.put(NAME, HEAD, again)
    assert agreements.former(NAME, again, DAY) is None


def test_a_picture_put_back_is_not_stale(agreements: Agreements) -> None:
    agreements.put(NAME, HEAD, OLD)
    agreements.drop_changed(NAME, NEW.validator)
    assert agreements.former(NAME, OLD, DAY) is None
    assert agreements.former(NAME, NEW, DAY) is not None


def test_the_same_validator_changes_nothing(agreements: Agreements) -> None:
    agreed = agreements.put(NAME, HEAD, OLD)
    agreements.drop_changed(NAME, OLD.validator)
    assert agreements.find(NAME) is agreed
    agreements.drop_changed(NAME, "")  # the app tells none any more
    assert agreements.find(NAME) is None
    assert not agreed.holds


@pytest.mark.parametrize("how", ["drop", "clear"])
def test_what_is_taken_back_or_purged_was_never_there(agreements: Agreements, how: str) -> None:
    agreements.put(NAME, HEAD, OLD)
    agreed = agreements.put(NAME, HEAD, NEW)
    if how == "drop":
        agreements.drop(NAME)
    else:
        agreements.clear()
    assert not agreed.holds
    assert agreements.find(NAME) is None
    assert agreements.former(NAME, NEW, DAY) is None
    agreements.put(NAME, HEAD, NEWER)
    assert agreements.former(NAME, NEWER, DAY) is None


def test_the_tiers_tell_what_another_process_knew(agreements: Agreements) -> None:
    agreements.supersede(NAME, None, NEW)
    assert agreements.former(NAME, NEW, DAY) is None
    agreements.supersede(NAME, NEW, NEW)
    assert agreements.former(NAME, NEWER, DAY) is None
    agreements.supersede(NAME, OLD, NEW)
    former = agreements.former(NAME, NEW, DAY)
    assert former is not None
    assert former.record == OLD
