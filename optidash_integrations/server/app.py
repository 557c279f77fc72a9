"""The self-hosted image API as a Starlette app: routes, and what all requests share."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from optidash_integrations.asgi.messages import request_of
from optidash_integrations.errors import OptidashError
from optidash_integrations.flows import in_thread
from optidash_integrations.server import asked as asking
from optidash_integrations.server import provisioning, replies
from optidash_integrations.server.authentication import Authentication
from optidash_integrations.server.configuration import Configuration
from optidash_integrations.server.database import Database
from optidash_integrations.server.engine_pool import Engines
from optidash_integrations.server.fetching import Fetching, wanted_of
from optidash_integrations.server.gate import API, Exchange, Gate, exchange_of
from optidash_integrations.server.health import Health
from optidash_integrations.server.keys import Keys
from optidash_integrations.server.limits import KeyLimits
from optidash_integrations.server.metrics import Metrics
from optidash_integrations.server.openapi import document as openapi
from optidash_integrations.server.reception import (
    MOST_DOCUMENT,
    Pace,
    Upload,
    check_length,
    read_all,
)
from optidash_integrations.server.refusals import InvalidError, MissingError
from optidash_integrations.server.routing import (
    Endpoint,
    check_encoding,
    failed,
    missed,
    named,
    unless_gone,
)
from optidash_integrations.server.seams import NO_WEBHOOKS, Jobs, Storing, Work
from optidash_integrations.server.spending import Spending
from optidash_integrations.server.studio import Room, Studio
from optidash_integrations.server.temporary import Temporary, Workroom
from optidash_integrations.server.usage import Usage

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
LOOK_SECONDS = 5.0
MOST_NAME = 64 * 1024
HOST = re.compile(r"[A-Za-z0-9._~\[\]:-]{1,255}")
NO_WEBHOOK = "There is no such webhook"


class Server:
    """All parts of a server process, and what its addresses do."""

    def __init__(
        self,
        configuration: Configuration,
        storing: Storing | None = None,
        jobs: Jobs | None = None,
        clock: Callable[[], float] = time.time,
        database: Database | None = None,
    ) -> None:
        self.configuration = configuration
        self.storing = storing
        self.jobs = jobs
        self.database = database or Database(configuration.database)
        self.keys = Keys(self.database, clock=clock)
        self.spending = Spending(Usage(self.database, clock=clock))
        rate, redis_url = configuration.rate_limit, configuration.redis_url
        self.limits = KeyLimits(rate, redis_url, shared=configuration.rates, clock=clock)
        self.authentication = Authentication(self.keys, insecure=configuration.insecure)
        self.metrics = Metrics()
        self.temporary = Temporary(
            configuration.data_dir / "temp",
            configuration.temp_seconds,
            configuration.temp_bytes,
            clock,
        )
        self.workroom = Workroom(configuration.data_dir / "work")
        self.engines = Engines(configuration)
        fetching = Fetching(
            configuration.allowed_hosts, configuration.fetch_seconds, configuration.max_input_bytes
        )
        self.studio = Studio(
            configuration.limits,
            self.engines,
            self.temporary,
            self.workroom,
            fetching,
            self.spending,
            self.metrics,
            storing,
        )

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Be there from the first request to the last."""
        await in_thread(self.workroom.open)
        self.engines.start()
        keepers = [asyncio.create_task(self.sweep()), asyncio.create_task(self.spending.run())]
        if self.jobs is not None:
            await self.jobs.start(self.studio.perform)
        try:
            yield
        finally:
            if self.jobs is not None:
                await self.jobs.close()
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            await self.engines.close()
            await self.spending.written()
            self.studio.close()
            if self.storing is not None:
                await in_thread(self.storing.close)
            self.workroom.close()
            self.limits.close()
            self.database.close()

    async def sweep(self) -> None:
        """Delete what has been kept for long enough, as long as the server runs."""
        last = -SWEEP_SECONDS
        while True:
            if self.temporary.is_due or time.monotonic() - last >= SWEEP_SECONDS:
                last = time.monotonic()
                try:
                    await in_thread(self.temporary.sweep)
                    await in_thread(self.engines.deadly.sweep)
                except OSError as error:
                    logger.error("results could not be deleted: %s", error)
            self.studio.look()
            await asyncio.sleep(LOOK_SECONDS)

    # Images

    async def upload(self, request: Request) -> Response:
        """`POST /1.0/upload`."""
        self.engines.check_room()  # before anything else: a refused body is read by nobody
        limit = self.configuration.max_input_bytes
        check_length(request.headers.get("content-length"), limit)
        check_encoding(request)
        kind = request.headers.get("content-type", "")
        async with self.studio.room() as room:
            pace = Pace(self.configuration.body_seconds)
            upload = await room.received(request.stream(), kind, limit, pace)
            return await self.worked(
                request, room, asking.operations_document(upload.document), upload
            )

    async def fetch(self, request: Request) -> Response:
        """`POST /1.0/fetch`."""
        check_encoding(request)
        async with self.studio.room() as room:
            document = asking.operations_document(await self.body(request, MOST_DOCUMENT))
            if "url" not in document:
                raise InvalidError("'url' parameter is missing")
            return await self.worked(request, room, document, None)

    async def worked(
        self, request: Request, room: Room, document: dict[str, Any], upload: Upload | None
    ) -> Response:
        """Answer a request for an image, whose body has been read."""
        exchange = exchange_of(request.scope)
        asked = asking.read(document, self.configuration.limits)
        exchange.is_binary = exchange.is_binary or asked.is_binary
        asking.check_combination(asked, binary=exchange.is_binary)
        base_url = self.base_url(request)
        if asked.get("webhook"):
            await self.studio.place(asked, exchange.key)  # what is wrong with it is told now
            return await self.accepted(exchange, document, upload, room, base_url)

        async def work() -> Response:
            source = upload or await self.studio.fetched(document, room)
            done = await self.studio.made(
                exchange.id,
                exchange.key,
                asked,
                source,
                room,
                base_url,
                binary=exchange.is_binary,
            )
            if done.answer is not None:
                return replies.image_reply(done.answer, done.document)
            return replies.json_reply(done.document)

        return await unless_gone(request, work())

    async def accepted(
        self,
        exchange: Exchange,
        document: dict[str, Any],
        upload: Upload | None,
        room: Room,
        base_url: str,
    ) -> Response:
        """Answer 202 to a request that is done later."""
        if self.jobs is None:
            raise InvalidError(NO_WEBHOOKS)
        if upload is None:
            wanted_of(document.get("url"), document.get("headers"))
        webhook = await in_thread(self.jobs.checked, document["webhook"])
        await in_thread(self.spending.usage.check, exchange.key)
        work = Work(exchange.id, exchange.key, document, base_url)
        if upload is not None:
            source = await in_thread(room.file, upload.source)
            work = replace(work, source=source, name=upload.name, size=upload.size)
        await self.jobs.accept(work, webhook)
        return replies.json_reply({"success": True, "code": 202, "id": exchange.id}, 202)

    async def temp(self, request: Request) -> Response:
        """`GET /temp/{uuid}/{name}`."""
        names = request.path_params
        answer = await in_thread(
            self.temporary.answer, request_of(request.scope), names["uuid"], names["name"]
        )
        return replies.AnswerResponse(answer)

    # Accounts, keys, webhooks

    async def account(self, request: Request) -> Response:
        """`GET /1.0/account`."""
        exchange = exchange_of(request.scope)
        document = await in_thread(self.spending.account, exchange.key)
        return replies.json_reply({**document, "id": exchange.id})

    async def create_key(self, request: Request) -> Response:
        """`POST /1.0/keys`."""
        document = asking.parsed(await self.body(request, MOST_NAME) or b"null")
        caller = exchange_of(request.scope).key
        return replies.json_reply(await in_thread(provisioning.create, self.keys, caller, document))

    async def rename_key(self, request: Request) -> Response:
        """`PUT /1.0/keys/{key}`."""
        document = asking.parsed(await self.body(request, MOST_NAME) or b"null")
        caller, secret = exchange_of(request.scope).key, request.path_params["key"]
        return replies.json_reply(
            await in_thread(provisioning.rename, self.keys, caller, secret, document)
        )

    async def webhooks(self, request: Request) -> Response:
        """`GET /1.0/webhooks/`."""
        exchange = exchange_of(request.scope)
        if self.jobs is None:
            empty = {"success": True, "code": 200, "id": exchange.id, "webhooks": []}
            return replies.json_reply(empty)
        query = dict(request.query_params)
        return replies.json_reply(await in_thread(self.jobs.listing, exchange.key, query))

    async def webhook(self, request: Request) -> Response:
        """`GET /1.0/webhooks/{id}`."""
        if self.jobs is None:
            raise MissingError(NO_WEBHOOK)
        caller, identity = exchange_of(request.scope).key, request.path_params["id"]
        return replies.json_reply(await in_thread(self.jobs.one, caller, identity))

    async def describe(self, request: Request) -> Response:
        """Give the OpenAPI document."""
        return replies.json_reply(openapi(self.base_url(request), self.configuration.limits))

    # What they share

    def base_url(self, request: Request) -> str:
        """Return where the client reached the server, without a slash at the end."""
        if self.configuration.public_url:
            return self.configuration.public_url.rstrip("/")
        host = request.headers.get("host", "")
        if not HOST.fullmatch(host):
            host = "localhost"
        return f"{request.scope['scheme']}://{host}"

    async def body(self, request: Request, most_bytes: int) -> bytes:
        return await read_all(request.stream(), most_bytes, Pace(self.configuration.body_seconds))

    def routes(self) -> list[Route]:
        """Return all addresses; those of the API with and without a slash at the end."""
        api: list[tuple[str, str, Endpoint]] = [
            ("POST", "/upload", self.upload),
            ("POST", "/fetch", self.fetch),
            ("GET", "/account", self.account),
            ("POST", "/keys", self.create_key),
            ("PUT", "/keys/{key}", self.rename_key),
            ("GET", "/webhooks", self.webhooks),
            ("GET", "/webhooks/{id}", self.webhook),
            ("GET", "/openapi.json", self.describe),
        ]
        health = Health(self.engines, self.database, self.authentication, self.studio, self.jobs)
        others: list[tuple[str, str, Endpoint]] = [
            ("GET", "/temp/{uuid}/{name}", self.temp),
            ("GET", "/healthz", health.healthz),
            ("GET", "/readyz", health.readyz),
            ("GET", "/metrics", health.show_metrics),
        ]
        found = [
            Route(f"{API}{path}{end}", named(f"{API}{path}", endpoint), methods=[method])
            for method, path, endpoint in api
            for end in ("", "/")
        ]
        return found + [
            Route(path, named(path, endpoint), methods=[method])
            for method, path, endpoint in others
        ]


def create(
    configuration: Configuration,
    *,
    storing: Storing | None = None,
    jobs: Jobs | None = None,
    clock: Callable[[], float] = time.time,
    database: Database | None = None,
) -> Starlette:
    """Return the app. Without `storing` and `jobs` it refuses `store` and `webhook`.

    What it was given it closes when it ends; `database` is that of `jobs`. `clock` gives seconds
    since 1970. Raises SettingsError for a wrong configuration.
    """
    server = Server(configuration, storing, jobs, clock, database)
    gate = Middleware(
        Gate,
        authentication=server.authentication,
        limits=server.limits,
        metrics=server.metrics,
    )
    app = Starlette(
        routes=server.routes(),
        middleware=[gate],
        exception_handlers={HTTPException: missed, OptidashError: failed},
        lifespan=server.lifespan,
    )
    app.router.redirect_slashes = False
    app.state.server = server
    return app
