"""Several processes deliver everything once, and what one leaves another does."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optidash_integrations.server.database import Database
from optidash_integrations.server.jobs import Jobs, table
from optidash_integrations.server.keys import Key
from optidash_integrations.server.seams import Work
from tests.server.children import ROOT
from tests.server.clocks import Clock
from tests.server.fixtures_webhooks import Server, clock, secret_key, server
from tests.server.receivers import Receiver, receiver

__all__ = ["clock", "receiver", "secret_key", "server"]


WORKING = """
import asyncio, time
from pathlib import Path
from optidash_integrations.server.database import Database
from optidash_integrations.server.jobs import Jobs
from optidash_integrations.server.webhooks import Webhooks

async def main():
    database = Database(sys.argv[1])
    jobs = Jobs(database, lease_seconds=float(sys.argv[3]))
    webhooks = Webhooks(database, Path(sys.argv[2]), allowed=["127.0.0.1"], jobs=jobs)
    async def perform(work):
        if work.name == "slow":
            print("begun", flush=True)
            await asyncio.Event().wait()
        return {"success": True, "code": 200, "id": work.id}
    await webhooks.start(perform)
    print("started", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await webhooks.close()
    database.close()

asyncio.run(main())
"""


class Child:
    """A process of a server that works on webhooks."""

    def __init__(self, database: Database, folder: Path, lease_seconds: float = 60.0) -> None:
        url = database.url.render_as_string(hide_password=False)
        arguments = [url, str(folder), str(lease_seconds)]
        command = [sys.executable, "-W", "error", "-c", f"import sys\n{WORKING}", *arguments]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, cwd=ROOT, **pipes)
        self.heard("started")

    def heard(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def end(self) -> int:
        self.process.communicate("\n", timeout=30)
        return self.process.returncode


async def add(database: Database, key: Key, url: str, identity: str, name: str = "") -> None:
    work = Work(identity, key, {}, "http://img.example.org", None, name)
    await asyncio.to_thread(Jobs(database).add, work, url, 0)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(is_so):
            pass


def states(database: Database) -> set[str]:
    with database.reading() as connection:
        return {row.status for row in connection.execute(table.select())}


async def test_two_processes_deliver_everything_once(
    database: Database, tmp_path: Path, receiver: Receiver, secret_key: tuple[Key, str]
) -> None:
    children = [Child(database, tmp_path) for _ in range(2)]
    names = [f"job-{number:02}" for number in range(24)]
    for name in names:
        await add(database, secret_key[0], receiver.url, name)
    await until(lambda: states(database) == {"delivered"})

    assert [child.end() for child in children] == [0, 0]
    assert sorted(delivery.document["id"] for delivery in receiver.deliveries) == names


async def test_what_a_killed_process_was_working_on_is_done_by_another(
    database: Database, tmp_path: Path, receiver: Receiver, secret_key: tuple[Key, str]
) -> None:
    child = Child(database, tmp_path, lease_seconds=1)
    await add(database, secret_key[0], receiver.url, "a", "slow")
    await asyncio.to_thread(child.heard, "begun")
    child.kill()
    following = Server(database, tmp_path, Clock("2100-01-01T00:00:00"), secret_key[0])
    await following.go()

    assert [delivery.document["id"] for delivery in receiver.deliveries] == ["a"]


async def test_a_delivery_that_a_killed_process_was_making_is_made_again(
    database: Database, tmp_path: Path, receiver: Receiver, secret_key: tuple[Key, str]
) -> None:
    receiver.talks.clear()
    child = Child(database, tmp_path)
    await add(database, secret_key[0], receiver.url, "a")
    assert await asyncio.to_thread(receiver.got.acquire, timeout=20)
    assert states(database) == {"dispatched"}
    child.kill()
    receiver.talks.set()
    following = Server(database, tmp_path, Clock("2100-01-01T00:00:00"), secret_key[0])
    await following.go()

    assert [delivery.headers["webhook-id"] for delivery in receiver.deliveries] == ["a", "a"]
    assert following.told()["status"] == "delivered"
