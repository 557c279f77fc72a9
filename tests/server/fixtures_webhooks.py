"""One process's webhooks for tests, driven by hand."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from optidash_integrations.server.database import Database
from optidash_integrations.server.deliveries import Deliverer, Wanted
from optidash_integrations.server.keys import Key, Keys
from optidash_integrations.server.seams import Document, Work
from optidash_integrations.server.webhooks import Webhooks
from tests.server.clocks import Clock

HERE = ["127.0.0.1"]


class Server:
    """One process's webhooks, driven by hand: what is due is done when a test says so."""

    def __init__(self, database: Database, folder: Path, clock: Clock, key: Key) -> None:
        self.clock = clock
        self.key = key
        self.folder = folder
        self.performed: list[Work] = []
        self.document: Document = {"success": True, "code": 200}
        deliverer = Deliverer(allowed=HERE, seconds=5, clock=clock, chance=lambda: 0.0)
        self.webhooks = Webhooks(
            database, folder / "kept", allowed=HERE, deliverer=deliverer, clock=clock
        )
        self.webhooks.perform = self.perform

    async def perform(self, work: Work) -> Document:
        self.performed.append(work)
        return {**self.document, "id": work.id}

    async def accept(
        self, url: str, identity: str = "a", delay: int = 0, source: Path | None = None
    ) -> None:
        work = Work(identity, self.key, {}, "http://img.example.org", source)
        await self.webhooks.accept(work, Wanted(url, delay))

    async def go(self) -> None:
        """Do what is due, then deliver what is due."""
        for lane in self.webhooks.lanes:
            await asyncio.gather(*await self.webhooks.look(lane))

    def told(self, identity: str = "a") -> dict[str, Any]:
        return dict(self.webhooks.one(self.key, identity)["webhook"])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def secret_key(database: Database) -> tuple[Key, str]:
    key, secret = Keys(database).create("shop", is_primary=True)
    return key, secret


@pytest.fixture
def server(database: Database, tmp_path: Path, clock: Clock, secret_key: tuple[Key, str]) -> Server:
    return Server(database, tmp_path, clock, secret_key[0])
