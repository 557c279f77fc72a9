"""Requests with webhooks are worked on later, and told of to those whose they are."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from optidash_integrations.documents import Webhook
from optidash_integrations.errors import OptionError
from optidash_integrations.server.database import Database
from optidash_integrations.server.jobs import Jobs, JobsFullError
from optidash_integrations.server.keys import Key, Keys
from optidash_integrations.server.refusals import MissingError
from optidash_integrations.server.seams import Document, Work
from optidash_integrations.server.webhooks import MOST_TRIES, ORPHAN_SECONDS
from tests.server.clocks import Clock
from tests.server.fixtures_webhooks import Server, clock, secret_key, server
from tests.server.receivers import Receiver, receiver

__all__ = ["clock", "receiver", "secret_key", "server"]


async def test_an_upload_is_kept_until_it_was_worked_on(
    server: Server, receiver: Receiver, tmp_path: Path
) -> None:
    source = tmp_path / "upload"
    source.write_bytes(b"image")
    await server.accept(receiver.url, source=source)
    assert not source.exists()

    async def perform(work: Work) -> Document:
        assert work.source is not None
        return {"success": True, "code": 200, "content": work.source.read_text()}

    server.webhooks.perform = perform
    await server.go()

    assert receiver.deliveries[0].document["content"] == "image"
    assert list((tmp_path / "kept").iterdir()) == []


async def test_work_that_finds_the_engine_busy_is_done_later(
    server: Server, receiver: Receiver, clock: Clock, tmp_path: Path
) -> None:
    source = tmp_path / "upload"
    source.write_bytes(b"image")
    server.document = {"success": False, "code": 503, "message": "busy"}
    await server.accept(receiver.url, source=source)
    for _ in range(MOST_TRIES + 2):
        await server.go()
        clock.seconds += 5
    server.document = {"success": True, "code": 200}
    await server.go()

    assert receiver.deliveries[0].document["code"] == 200


async def test_work_that_ends_each_process_is_given_up(
    server: Server, receiver: Receiver, clock: Clock
) -> None:
    await server.accept(receiver.url)
    for _ in range(MOST_TRIES):
        assert len(server.webhooks.jobs.claim(("created",), 1)) == 1  # and the process is gone
        clock.seconds += server.webhooks.jobs.lease_seconds
    await server.go()

    assert server.performed == []
    assert receiver.deliveries[0].document["code"] == 500


async def test_a_mistake_of_ours_ends_nothing(
    server: Server, clock: Clock, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    async def perform(work: Work) -> Document:
        raise ZeroDivisionError("ours")

    right, server.webhooks.perform = server.webhooks.perform, perform
    await server.accept(receiver.url)
    await server.go()
    server.webhooks.perform = right
    clock.seconds += server.webhooks.jobs.lease_seconds
    await server.go()

    assert "ours" in caplog.text
    assert server.told()["status"] == "delivered"


async def test_a_request_that_can_not_be_kept_leaves_no_file(
    database: Database, server: Server, receiver: Receiver, tmp_path: Path
) -> None:
    server.webhooks.jobs = Jobs(database, most_waiting=0)
    source = tmp_path / "upload"
    source.write_bytes(b"image")

    with pytest.raises(JobsFullError):
        await server.accept(receiver.url, source=source)

    assert list((tmp_path / "kept").iterdir()) == []


async def test_files_that_nobody_waits_for_are_swept(
    server: Server, receiver: Receiver, clock: Clock, tmp_path: Path
) -> None:
    source = tmp_path / "upload"
    source.write_bytes(b"image")
    await server.accept(receiver.url, source=source)
    for name, age in {"a": ORPHAN_SECONDS + 1, "old": ORPHAN_SECONDS + 1, "new": 5.0}.items():
        file = tmp_path / "kept" / name
        file.touch()
        os.utime(file, (clock() - age, clock() - age))
    await server.webhooks.sweep()

    assert sorted(file.name for file in (tmp_path / "kept").iterdir()) == ["a", "new"]


# What is told


async def test_the_list_is_the_newest_first_and_as_the_client_reads_it(
    server: Server, clock: Clock
) -> None:
    for identity in "abc":
        await server.accept("https://user:s3cr3t@example.org/hook?token=s3cr3t", identity)
        clock.seconds += 1.0005

    document = server.webhooks.listing(server.key, {})

    assert [one.id for one in Webhook.list_from(document)] == ["c", "b", "a"]
    assert (document["success"], document["code"]) == (True, 200)
    assert document["webhooks"][2]["created_at"] == "2026-11-20T12:00:00.000Z"
    assert document["webhooks"][1]["created_at"] == "2026-11-20T12:00:01.000Z"
    assert document["webhooks"][0]["url"] == "https://example.org/hook"
    assert "s3cr3t" not in repr(document)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"status": "created"}, "cb"),
        ({"status": "failed,scheduled"}, "a"),
        ({"status": "delivered"}, ""),
        ({"status": ""}, "cba"),
        ({"limit": "2"}, "cb"),
        ({"limit": "2", "offset": "2"}, "a"),
        ({"start": "2026-11-20T12:00:01Z"}, "cb"),
        ({"start": "2026-11-20T13:00:01+01:00"}, "cb"),
        ({"start": "2026-11-20T13:00:01 01:00"}, "cb"),
        ({"end": "2026-11-20T12:00:01"}, "ba"),
        ({"start": "2026-11-20", "end": "2026-11-20T12:00:00.500Z"}, "a"),
        ({"more": "ignored"}, "cba"),
    ],
)
async def test_the_list_can_be_narrowed(
    server: Server, clock: Clock, query: dict[str, str], expected: str
) -> None:
    await server.accept("https://example.org/", "a", delay=600)
    await asyncio.gather(*await server.webhooks.look(server.webhooks.lanes[0]))
    for identity in "bc":
        clock.seconds += 1
        await server.accept("https://example.org/", identity)

    found = server.webhooks.listing(server.key, query)["webhooks"]

    assert "".join(one["id"] for one in found) == expected


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"status": "lost"}, "status takes one of created, scheduled, dispatched, delivered, f"),
        ({"limit": "101"}, "limit takes an integer from 1 to 100, not"),
        ({"limit": "0"}, "limit takes an integer from 1 to 100, not"),
        ({"offset": "-1"}, "offset takes an integer from 0 to"),
        ({"start": "yesterday"}, "start takes a time in ISO 8601, not"),
        ({"end": "2026-13-01"}, "end takes a time in ISO 8601, not"),
    ],
)
def test_a_wrong_query_is_refused_with_a_sentence(
    server: Server, query: dict[str, str], sentence: str
) -> None:
    with pytest.raises(OptionError, match=f"^{sentence}"):
        server.webhooks.listing(server.key, query)


async def test_one_webhook_tells_what_was_delivered(server: Server, receiver: Receiver) -> None:
    await server.accept(receiver.url)
    assert server.told()["payload"] is None
    await server.go()

    assert server.told() == {
        "id": "a",
        "status": "delivered",
        "created_at": "2026-11-20T12:00:00.000Z",
        "url": receiver.url,
        "attempts": 1,
        "next_attempt_at": None,
        "ended_at": "2026-11-20T12:00:00.000Z",
        "response_code": 200,
        "error": None,
        "payload": {"success": True, "code": 200, "id": "a"},
    }


async def test_webhooks_are_told_to_those_whose_they_are(
    database: Database, tmp_path: Path, clock: Clock, server: Server
) -> None:
    sub, _ = Keys(database).create_for(server.key, "customer")
    other, _ = Keys(database).create("other")
    customer = Server(database, tmp_path, clock, sub)
    await server.accept("https://example.org/", "a")
    await customer.accept("https://example.org/", "b")

    def ids(key: Key) -> list[str]:
        return [one["id"] for one in server.webhooks.listing(key, {})["webhooks"]]

    assert (ids(server.key), ids(sub), ids(other)) == (["a", "b"], ["b"], [])
    for key, identity in ((sub, "a"), (other, "b"), (server.key, "none")):
        with pytest.raises(MissingError):
            server.webhooks.one(key, identity)


# By itself


async def test_a_server_works_by_itself(server: Server, receiver: Receiver) -> None:
    await server.webhooks.start(server.perform)
    await server.accept(receiver.url)
    assert await asyncio.to_thread(receiver.got.acquire, timeout=20)
    await server.webhooks.close()

    assert server.told()["status"] == "delivered"


async def test_closing_leaves_work_to_the_next_process(
    server: Server, receiver: Receiver, database: Database, tmp_path: Path, clock: Clock
) -> None:
    begun = asyncio.Event()

    async def perform(work: Work) -> Document:
        begun.set()
        await asyncio.Event().wait()
        return {}

    await server.webhooks.start(perform)
    await server.accept(receiver.url)
    await begun.wait()
    await server.webhooks.close()
    following = Server(database, tmp_path, clock, server.key)
    await following.go()

    assert [delivery.document["id"] for delivery in receiver.deliveries] == ["a"]
