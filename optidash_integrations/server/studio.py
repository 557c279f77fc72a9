"""The way of an image through the server: source, engine, storage, and the document of both."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from optidash_integrations.errors import OptidashError, ProcessorError
from optidash_integrations.exchange import Answer, FileBody
from optidash_integrations.flows import in_thread
from optidash_integrations.headers import NO_STORE
from optidash_integrations.server import asked as asking
from optidash_integrations.server import replies
from optidash_integrations.server.engine_pool import Engines, OverloadedError
from optidash_integrations.server.engine_process import SHARED, Job
from optidash_integrations.server.fetching import Fetching, wanted_of
from optidash_integrations.server.keys import Key
from optidash_integrations.server.metrics import Metrics
from optidash_integrations.server.reception import Pace, Upload, received
from optidash_integrations.server.refusals import InvalidError
from optidash_integrations.server.seams import NO_STORAGE, Document, Storing, Work
from optidash_integrations.server.spending import Spending
from optidash_integrations.server.temporary import Temporary, Workroom, result_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from optidash_integrations.limits import Limits
    from optidash_integrations.server.asked import Asked

FETCHES = 16
"""Downloads at a time."""

MORE_ROOMS = 256
"""Requests that may be read, or fetched for, beside those that wait for the engine."""

IN_MEMORY = 1024 * 1024
"""Results of up to so many bytes are sent from memory, others from their files."""

UPLOADS_IN_MEMORY = 64 * 1024 * 1024
LEAST_IN_MEMORY = 64 * 1024
"""Uploads up to what the engine shares wait in memory; the more there are, the smaller ones."""


@dataclass(frozen=True, slots=True)
class Done:
    """A result: its document, and for a binary answer what sends it."""

    document: Document
    answer: Answer | None = None


class Room:
    """The files of one request, and how many bytes of an upload need none."""

    def __init__(self, workroom: Workroom, memory: int = 0) -> None:
        self.workroom = workroom
        self.memory = memory
        self.paths: list[Path] = []

    def place(self) -> Path:
        """Return where a file may be made that is gone in the end."""
        path = self.workroom.place()
        self.paths.append(path)
        return path

    async def received(
        self, body: AsyncIterator[bytes], kind: str, most_bytes: int, pace: Pace
    ) -> Upload:
        """Read a multipart body; see `reception.received`."""
        path = self.place()
        return self.taken(await received(body, kind, path, most_bytes, pace, self.memory), path)

    def taken(self, upload: Upload, path: Path) -> Upload:
        """Take note of what came, for which there was a place."""
        if upload.source is not path:
            self.let_go(path)
        return upload

    def file(self, source: Path | bytes) -> Path:
        """Return a source as a file."""
        if isinstance(source, Path):
            return source
        path = self.place()
        path.write_bytes(source)
        return path

    def let_go(self, path: Path) -> None:
        """Take note that a file is not there, or not this request's any more."""
        self.paths.remove(path)

    def clear(self) -> None:
        """Delete all files."""
        paths, self.paths = self.paths, []
        for path in paths:
            with suppress(OSError):
                path.unlink()


class Studio:
    """Has images worked on. `storing` is None where results can't be stored elsewhere."""

    def __init__(
        self,
        limits: Limits,
        engines: Engines,
        temporary: Temporary,
        workroom: Workroom,
        fetching: Fetching,
        spending: Spending,
        metrics: Metrics,
        storing: Storing | None = None,
    ) -> None:
        self.limits = limits
        self.engines = engines
        self.temporary = temporary
        self.workroom = workroom
        self.fetching = fetching
        self.spending = spending
        self.metrics = metrics
        self.storing = storing
        self.threads = ThreadPoolExecutor(FETCHES, "optidash-fetch")
        self.fetches = 0
        self.open_rooms = 0
        self.most_rooms = engines.count + engines.queue + MORE_ROOMS

    @asynccontextmanager
    async def room(self) -> AsyncIterator[Room]:
        """Give places for the files of one request, which are gone in the end.

        Raises OverloadedError, before anything of the request is read, where too many wait.
        """
        self.engines.check_room()
        if self.open_rooms >= self.most_rooms:
            raise OverloadedError(self.engines.retry_after())
        self.open_rooms += 1
        share = max(LEAST_IN_MEMORY, UPLOADS_IN_MEMORY // self.open_rooms)
        room = Room(self.workroom, min(SHARED, share))
        try:
            yield room
        finally:
            self.open_rooms -= 1
            if room.paths:
                await in_thread(room.clear)

    async def fetched(self, document: Mapping[str, Any], room: Room) -> Upload:
        """Download the image that a document names. Raises OptionError, RefusedError."""
        wanted = wanted_of(document.get("url"), document.get("headers"))
        if self.fetches >= FETCHES + self.engines.queue:
            raise OverloadedError(self.engines.retry_after())
        self.fetches += 1
        loop = asyncio.get_running_loop()
        path = room.place()
        work = loop.run_in_executor(self.threads, self.fetching.fetch, wanted, path, room.memory)
        try:
            upload = await unhurried(work)
        finally:
            self.fetches -= 1
        return room.taken(upload, path)

    async def made(
        self,
        identity: str,
        key: Key,
        asked: Asked,
        upload: Upload,
        room: Room,
        base_url: str,
        *,
        binary: bool = False,
    ) -> Done:
        """Have the operations done on an image, and put the result where it belongs.

        Counts it for the key, unless it fails through a fault of ours. Raises OptidashError.
        """
        place = await self.place(asked, key)
        self.engines.check_room()
        spent = await self.spending.spend(key)
        try:
            job = Job(
                upload.source,
                room.place(),
                asked.operations.to_dict(),
                home=self.temporary.new_home() if place is None else None,
                name=upload.name,
                wanted=IN_MEMORY if binary else 0,
            )
            told = await self.engines.process(job)
            self.look()
            if "name" in told:
                room.let_go(job.result)
                done = self.kept(identity, told, upload, job, base_url)
            else:
                done = await in_thread(
                    self.finished, identity, told, upload, job, room, place, base_url, binary
                )
        except Exception as error:
            if not isinstance(error, OptidashError) or error.public_status >= 500:
                with suppress(OptidashError):
                    await self.spending.give_back(spent)
            raise
        output = done.document["output"]
        self.metrics.worked(upload.size, output["bytes"] or 0)
        return done

    def look(self) -> None:
        """Tell the metrics how it stands."""
        engines = self.engines
        self.metrics.look(engines.waiting, engines.running, len(engines.children))

    async def place(self, asked: Asked, key: Key) -> object:
        """Return where the result is to be stored, None for temporary storage."""
        store = asked.get("store")
        if store is None:
            return None
        if self.storing is None:
            raise InvalidError(NO_STORAGE)
        return await in_thread(self.storing.checked, store, key)

    def kept(
        self, identity: str, told: Mapping[str, Any], upload: Upload, job: Job, base_url: str
    ) -> Done:
        """Say what is known of a result that the engine has put where it belongs."""
        assert job.home is not None, "the engine was told where"
        name = told["name"]
        self.temporary.written += told["output"]["bytes"] or 0
        url = f"{base_url}/temp/{job.home.name}/{quote(name)}"
        content = told.get("content")
        answer = None if content is None else image_answer(content, told["type"])
        return Done(success_document(identity, told, upload.name, name, url), answer)

    def finished(
        self,
        identity: str,
        told: Mapping[str, Any],
        upload: Upload,
        job: Job,
        room: Room,
        place: object,
        base_url: str,
        binary: bool,
    ) -> Done:
        """Put a result where it belongs, and say what is known of it; runs in a thread."""
        name = result_name(upload.name, told["type"])
        answer = None
        if place is not None and self.storing is not None:
            url = self.storing.put(place, job.result, name, told["type"])
        else:
            length = job.result.stat().st_size
            file = job.result.open("rb") if binary else None
            kept = self.temporary.keep(job.result, name)
            url = f"{base_url}/temp/{kept.uuid}/{quote(kept.name)}"
            if file is not None:
                home = self.temporary.home(kept.uuid) / kept.name
                answer = image_answer(FileBody(home, 0, length, length, file), told["type"])
        room.clear()
        return Done(success_document(identity, told, upload.name, name, url), answer)

    async def perform(self, work: Work) -> Document:
        """Do a request that is answered later; see `seams.Perform`."""
        try:
            async with self.room() as room:
                return await self.performed(work, room)
        except OptidashError as error:
            return replies.failure_document(work.id, error)
        except Exception as error:  # noqa: BLE001  whoever asked is told of it
            failure = ProcessorError(f"{type(error).__name__}: {error}")
            return replies.failure_document(work.id, failure)

    async def performed(self, work: Work, room: Room) -> Document:
        asked = asking.read(work.document, self.limits)
        if work.source is None:
            upload = await self.fetched(work.document, room)
        else:
            upload = Upload(work.source, work.name, work.size, b"")
        done = await self.made(work.id, work.key, asked, upload, room, work.base_url)
        return done.document

    def close(self) -> None:
        """Begin no more downloads."""
        self.threads.shutdown(wait=False, cancel_futures=True)


async def unhurried(work: asyncio.Future[Upload]) -> Upload:
    """Wait for work in a thread; a caller who is cancelled goes on only when that has ended."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        if not work.cancel():
            await asyncio.wait([work])
        raise


def image_answer(body: FileBody | bytes, media_type: str) -> Answer:
    """Return the answer that sends an image."""
    length = len(body) if isinstance(body, bytes) else body.length
    headers = [
        ("content-type", media_type),
        ("content-length", str(length)),
        ("cache-control", NO_STORE),
    ]
    return Answer(200, headers, body)


def success_document(
    identity: str, told: Mapping[str, Any], source: str, result: str, url: str
) -> Document:
    """Return the document of 3.1 of the contract."""
    document: Document = {"success": True, "code": 200, "id": identity}
    given = {name: value for name, value in told["input"].items() if name != "url"}
    document["input"] = {**given, "name": source}
    document["output"] = {**told["output"], "url": url, "name": result}
    for name in replies.EXTRAS:
        if name in told:
            document[name] = told[name]
    return document
