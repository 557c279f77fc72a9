"""What the app asks of external storage and of webhooks, shown with ones that keep a record."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from optidash_integrations.errors import OptionError
from optidash_integrations.server.database import Database
from optidash_integrations.server.keys import Key, Keys
from optidash_integrations.server.refusals import MissingError, RefusedError
from optidash_integrations.server.seams import Document, Perform, Work
from tests.server.live import Live, configured, data, image, running, wait_until
from tests.sites.photos import photo

HOOK = {"webhook": {"url": "https://example.org/hook"}}


class UnavailableError(RefusedError):
    public_status = 502


class Shelf:
    """A store that is a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_closed = False

    def checked(self, document: Mapping[str, Any], key: Key) -> object:
        if "path" not in document:
            raise OptionError("store.path", "the name of an object", None)
        return document["path"], key.name

    def put(self, place: object, file: Path, name: str, media_type: str) -> str:
        assert isinstance(place, tuple)
        if place[0] == "full":
            raise UnavailableError("The store is full")
        shutil.copy(file, self.folder / place[0])
        return f"https://{place[1]}.example.org/{place[0]}?{media_type}"

    def close(self) -> None:
        self.is_closed = True


class Book:
    """Jobs that are begun at once and delivered into a list."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.perform: Perform | None = None
        self.works: list[Work] = []
        self.delivered: list[Document] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self, perform: Perform) -> None:
        self.perform = perform

    async def close(self) -> None:
        self.perform = None

    def counts(self) -> Mapping[str, int]:
        return {"created": len(self.works), "delivered": len(self.delivered)}

    def checked(self, document: Mapping[str, Any]) -> object:
        if "url" not in document:
            raise OptionError("webhook.url", "an address", None)
        return document["url"]

    async def accept(self, work: Work, webhook: object) -> None:
        if work.source is not None:
            shutil.copy(work.source, self.folder / work.id)
            work = replace(work, source=self.folder / work.id)
        self.works.append(work)
        self.tasks.append(asyncio.create_task(self.do(work)))

    async def do(self, work: Work) -> None:
        assert self.perform is not None
        self.delivered.append(await self.perform(work))

    def listing(self, key: Key, query: Mapping[str, str]) -> Document:
        return {"success": True, "code": 200, "webhooks": [{"id": key.name, **query}]}

    def one(self, key: Key, id: str) -> Document:
        if id != "known":
            raise MissingError("There is no such webhook")
        return {"success": True, "code": 200, "webhook": {"id": id}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def shelf(folder: Path) -> Shelf:
    return Shelf(folder)


@pytest.fixture(scope="module")
def book(folder: Path) -> Book:
    return Book(folder)


@pytest.fixture(scope="module")
def live(folder: Path, shelf: Shelf, book: Book) -> Iterator[Live]:
    with running(configured(folder), storing=shelf, jobs=book) as found:
        yield found
    assert shelf.is_closed
    assert book.perform is None


def test_a_stored_result_lies_where_the_caller_said_and_nowhere_else(
    live: Live, shelf: Shelf
) -> None:
    before = live.results()
    answer = live.upload(image(), data({"store": {"path": "cat.jpg"}}))
    assert answer.json["output"]["url"] == "https://shop.example.org/cat.jpg?image/jpeg"
    assert (shelf.folder / "cat.jpg").stat().st_size == answer.json["output"]["bytes"]
    assert live.results() == before
    assert live.left_behind() == []


def test_a_wrong_store_is_refused_before_it_costs_anything(live: Live) -> None:
    before = live.ask("GET", "/1.0/account").json["credits"]["used"]
    answer = live.upload(image(), data({"store": {"provider": "x"}}))
    assert (answer.status, answer.json["message"][:10]) == (422, "store.path")
    assert live.ask("GET", "/1.0/account").json["credits"]["used"] == before


def test_a_store_that_fails_is_told_of_and_costs_nothing(live: Live) -> None:
    before = live.ask("GET", "/1.0/account").json["credits"]["used"]
    answer = live.upload(image(), data({"store": {"path": "full"}}))
    assert (answer.status, answer.json["message"]) == (502, "The store is full")
    assert live.ask("GET", "/1.0/account").json["credits"]["used"] == before


def test_a_webhook_is_accepted_at_once_and_delivers_the_whole_document(
    live: Live, book: Book
) -> None:
    answer = live.upload(image(name="boat.jpg"), data({**HOOK, "resize": {"width": 60}}))
    assert answer.status == 202
    assert answer.json == {"success": True, "code": 202, "id": answer.json["id"]}
    wait_until(lambda: book.delivered)
    document = book.delivered.pop()
    assert (document["success"], document["id"]) == (True, answer.json["id"])
    assert (document["input"]["name"], document["output"]["width"]) == ("boat.jpg", 60)
    path = "/temp/" + document["output"]["url"].partition("/temp/")[2]
    assert live.ask("GET", path, key=False).status == 200
    assert live.left_behind() == []


def test_what_fails_later_is_delivered_too(live: Live, book: Book) -> None:
    answer = live.upload(image(photo()[:300]), data(HOOK))
    assert answer.status == 202
    wait_until(lambda: book.delivered)
    document = book.delivered.pop()
    assert (document["success"], document["code"], document["id"]) == (
        False,
        422,
        answer.json["id"],
    )
    assert document["message"]


def test_a_fetch_is_done_later_as_well(live: Live, book: Book) -> None:
    answer = live.fetch({"url": "http://10.0.0.1/x.jpg", **HOOK})
    assert answer.status == 202
    wait_until(lambda: book.delivered)
    assert "not on the public internet" in book.delivered.pop()["message"]
    assert book.works[-1].source is None


@pytest.mark.parametrize(
    "document", [{"webhook": {"delay": 5}}, {**HOOK, "nonsense": {}}, {**HOOK, "resize": 5}]
)
def test_what_is_wrong_is_said_at_once(live: Live, document: dict[str, Any]) -> None:
    assert live.upload(image(), data(document)).status == 422


def test_webhooks_are_listed_for_their_key(live: Live) -> None:
    for path in ("/1.0/webhooks/?status=failed", "/1.0/webhooks?status=failed"):
        found = live.ask("GET", path).json["webhooks"]
        assert found == [{"id": "shop", "status": "failed"}]
    assert live.ask("GET", "/1.0/webhooks/known/").json["webhook"] == {"id": "known"}
    assert live.ask("GET", "/1.0/webhooks/unknown").status == 404


def test_no_work_is_taken_on_for_an_account_that_has_no_calls_left(live: Live, book: Book) -> None:
    with closing(Database(live.configuration.database)) as database:
        _, secret = Keys(database).create("poor", monthly_quota=1)
    headers = {"Authorization": f"Bearer {secret}"}
    before = len(book.works)
    answers = [
        live.upload(image(), data(more), headers=headers).status for more in ({}, HOOK, HOOK)
    ]
    assert answers == [200, 402, 402]
    assert len(book.works) == before
    assert live.left_behind() == []


def test_webhooks_are_counted_for_prometheus(live: Live, book: Book) -> None:
    live.upload(image(), data(HOOK))
    text = live.ask("GET", "/metrics", key=False).body.decode()
    line = 'optidash_server_webhooks{status="created"} '
    assert float(text.partition(line)[2].split()[0]) == len(book.works) > 0
