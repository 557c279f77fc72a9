"""Jobs go through their states, and belong to one process at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from optidash_integrations.server.database import Database
from optidash_integrations.server.jobs import (
    KEPT_SECONDS,
    TO_DELIVER,
    TO_PERFORM,
    Claim,
    Jobs,
    JobsFullError,
    table,
    work_of,
)
from optidash_integrations.server.keys import Key
from optidash_integrations.server.seams import Work
from tests.server.children import outputs
from tests.server.clocks import Clock

KEY = Key(id="1" * 16, name="shop", rate_limit="5/minute", monthly_quota=7)
URL = "https://user:s3cr3t@example.org/hook?token=s3cr3t"
DONE = {"success": True, "code": 200, "id": "a"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jobs(database: Database, clock: Clock) -> Jobs:
    return Jobs(database, clock=clock)


def work(identity: str = "a", source: Path | None = None, key: Key = KEY) -> Work:
    document = {"resize": {"width": 5}, "store": {"secret": "s3cr3t"}}
    return Work(identity, key, document, "https://img.example.org", source, "cat.jpg", 3)


def status(jobs: Jobs, identity: str = "a") -> str:
    with jobs.database.reading() as connection:
        found = connection.execute(table.select().where(table.c.id == identity)).one()
    return str(found.status)


def claimed(jobs: Jobs, states: tuple[str, ...] = TO_PERFORM) -> Claim:
    [claim] = jobs.claim(states, 5)
    return claim


def performed(jobs: Jobs) -> None:
    jobs.add(work(), URL, 0)
    assert jobs.performed(claimed(jobs), DONE)


def test_a_request_comes_back_as_it_was_kept(jobs: Jobs, tmp_path: Path) -> None:
    jobs.add(work(source=tmp_path / "elsewhere"), URL, 0)

    claim = claimed(jobs)

    assert work_of(claim, tmp_path / "here") == work(source=tmp_path / "here")
    assert claim.has_source


def test_a_job_goes_from_created_to_delivered(jobs: Jobs) -> None:
    jobs.add(work(), URL, 0)
    seen = [status(jobs)]
    jobs.performed(claimed(jobs), DONE)
    seen.append(status(jobs))
    claim = claimed(jobs, TO_DELIVER)
    seen.append(status(jobs))
    jobs.delivered(claim, 204)
    seen.append(status(jobs))

    assert seen == ["created", "scheduled", "dispatched", "delivered"]
    assert json.loads(claim.payload or "") == DONE
    assert claim.url == URL
    assert jobs.claim(TO_PERFORM, 5) == jobs.claim(TO_DELIVER, 5) == []


def test_what_is_secret_goes_when_it_is_not_needed_any_more(jobs: Jobs) -> None:
    performed(jobs)
    jobs.delivered(claimed(jobs, TO_DELIVER), 200)

    with jobs.database.reading() as connection:
        row = connection.execute(table.select()).one()

    assert "s3cr3t" not in repr(tuple(row))
    assert row.url == "https://example.org/hook"


def test_nobody_gets_what_somebody_has(jobs: Jobs) -> None:
    for identity in "abc":
        jobs.add(work(identity), URL, 0)

    first, second, third = (jobs.claim(TO_PERFORM, 2) for _ in range(3))

    assert [claim.id for claim in (*first, *second, *third)] == ["a", "b", "c"]


def test_no_account_takes_all_the_room(jobs: Jobs) -> None:
    for identity in "abcdef":
        jobs.add(work(identity), URL, 0)
    jobs.add(work("z", key=Key(id="2" * 16, name="other")), URL, 0)

    first = jobs.claim(TO_PERFORM, 2, each=2)
    second = jobs.claim(TO_PERFORM, 2, each=2, running=first)
    third = jobs.claim(TO_PERFORM, 2, each=2, running=[*first[1:], *second])

    assert [claim.id for claim in (*first, *second, *third)] == ["a", "b", "z", "c"]


def test_a_lease_that_ran_out_is_taken_over(jobs: Jobs, clock: Clock) -> None:
    jobs.add(work(), URL, 0)
    late = claimed(jobs)
    clock.seconds += jobs.lease_seconds
    other = claimed(jobs)

    assert not jobs.performed(late, {"code": 500})
    assert jobs.performed(other, DONE)
    assert other.tries == 2
    assert json.loads(claimed(jobs, TO_DELIVER).payload or "") == DONE


def test_a_lease_that_is_renewed_is_not(jobs: Jobs, clock: Clock) -> None:
    jobs.add(work(), URL, 0)
    claim = claimed(jobs)
    clock.seconds += jobs.lease_seconds - 1
    jobs.renew([claim])
    clock.seconds += jobs.lease_seconds - 1

    assert jobs.claim(TO_PERFORM, 5) == []
    assert jobs.performed(claim, DONE)


def test_a_lost_lease_is_not_renewed(jobs: Jobs, clock: Clock) -> None:
    jobs.add(work(), URL, 0)
    late = claimed(jobs)
    clock.seconds += jobs.lease_seconds
    other = claimed(jobs)
    jobs.renew([late])
    clock.seconds += jobs.lease_seconds

    assert claimed(jobs).id == other.id


def test_a_delivery_that_nobody_noted_is_made_again(jobs: Jobs, clock: Clock) -> None:
    performed(jobs)
    claimed(jobs, TO_DELIVER)
    clock.seconds += jobs.lease_seconds

    assert claimed(jobs, TO_DELIVER).attempts == 2


def test_a_delay_counts_from_the_request(jobs: Jobs, clock: Clock) -> None:
    jobs.add(work(), URL, 100)
    clock.seconds += 30
    jobs.performed(claimed(jobs), DONE)
    clock.seconds += 69

    assert jobs.claim(TO_DELIVER, 1) == []
    clock.seconds += 1
    assert claimed(jobs, TO_DELIVER).id == "a"


def test_a_long_delay_delays_the_work_too_so_that_its_result_still_lives(
    jobs: Jobs, clock: Clock
) -> None:
    jobs.add(work(), URL, 604_800)
    clock.seconds += 604_800 - 3_601

    assert jobs.claim(TO_PERFORM, 1) == []
    clock.seconds += 1
    assert claimed(jobs).id == "a"


def test_what_was_postponed_waits(jobs: Jobs, clock: Clock) -> None:
    performed(jobs)
    jobs.postponed(claimed(jobs, TO_DELIVER), 500, "no", 60)

    assert (status(jobs), jobs.claim(TO_DELIVER, 1)) == ("scheduled", [])
    clock.seconds += 60
    assert claimed(jobs, TO_DELIVER).attempts == 2


@pytest.mark.parametrize("states", [TO_PERFORM, TO_DELIVER])
def test_what_is_given_back_counts_as_not_claimed(jobs: Jobs, states: tuple[str, ...]) -> None:
    jobs.add(work(), URL, 0)
    if states == TO_DELIVER:
        jobs.performed(claimed(jobs), DONE)
    first = claimed(jobs, states)
    jobs.given_back(first)
    again = claimed(jobs, states)

    assert (again.tries, again.attempts) == (first.tries, first.attempts)
    assert again.token != first.token


def test_only_so_many_requests_wait(database: Database) -> None:
    jobs = Jobs(database, most_waiting=2)
    jobs.add(work("a"), URL, 0)
    jobs.add(work("b"), URL, 0)

    with pytest.raises(JobsFullError) as caught:
        jobs.add(work("c"), URL, 0)

    assert caught.value.public_status == 503
    jobs.performed(jobs.claim(TO_PERFORM, 1)[0], DONE)
    jobs.add(work("c"), URL, 0)


def test_old_jobs_are_forgotten(jobs: Jobs, clock: Clock) -> None:
    performed(jobs)
    jobs.delivered(claimed(jobs, TO_DELIVER), 200)
    jobs.add(work("b"), URL, 604_800)
    clock.seconds += KEPT_SECONDS
    assert jobs.sweep() == 0
    clock.seconds += 1

    assert jobs.sweep() == 1
    assert jobs.counts() == dict.fromkeys(jobs.counts(), 0) | {"created": 1}


CLAIMING = """
from optidash_integrations.server.database import Database
from optidash_integrations.server.jobs import TO_PERFORM, Jobs
database = Database(sys.argv[1])
jobs = Jobs(database)
while claims := jobs.claim(TO_PERFORM, 3):
    print(*(claim.id for claim in claims))
database.close()
"""


def test_several_processes_share_all_and_repeat_nothing(database: Database, jobs: Jobs) -> None:
    names = [f"job-{number:02}" for number in range(60)]
    for name in names:
        Jobs(database).add(work(name), URL, 0)

    said = outputs(CLAIMING, database.url.render_as_string(hide_password=False), count=4)

    assert sorted(" ".join(said).split()) == names
