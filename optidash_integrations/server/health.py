"""What those who run a server look at: whether it lives, whether it can work, and its numbers."""

from __future__ import annotations

import logging

from starlette.requests import Request
from starlette.responses import Response

from optidash_integrations.errors import OptidashError
from optidash_integrations.flows import in_thread
from optidash_integrations.server import metrics as numbers
from optidash_integrations.server.authentication import Authentication, is_loopback
from optidash_integrations.server.database import Database
from optidash_integrations.server.engine_pool import Engines
from optidash_integrations.server.gate import exchange_of
from optidash_integrations.server.seams import Jobs
from optidash_integrations.server.studio import Studio

logger = logging.getLogger(__name__)


class Health:
    """The addresses outside the API that tell of the server itself."""

    def __init__(
        self,
        engines: Engines,
        database: Database,
        authentication: Authentication,
        studio: Studio,
        jobs: Jobs | None,
    ) -> None:
        self.engines = engines
        self.database = database
        self.authentication = authentication
        self.studio = studio
        self.jobs = jobs

    async def healthz(self, request: Request) -> Response:
        """Say that this process lives."""
        return Response("ok\n", media_type="text/plain")

    async def readyz(self, request: Request) -> Response:
        """Say whether work can be done: an engine process is there, and the database."""
        if not self.engines.is_ready:
            return Response("no engine process is ready\n", 503, media_type="text/plain")
        try:
            await in_thread(self.look_at_database)
        except OptidashError:
            return Response("the database can't be reached\n", 503, media_type="text/plain")
        return Response("ok\n", media_type="text/plain")

    def look_at_database(self) -> None:
        with self.database.reading():
            pass

    async def show_metrics(self, request: Request) -> Response:
        """Give the numbers to this machine, and to those who have a key."""
        if not is_loopback(exchange_of(request.scope).client):
            authorization = request.headers.get("authorization")
            await in_thread(self.authentication.key, authorization)
        self.studio.look()
        text = await in_thread(self.numbers)
        return Response(text, media_type=numbers.CONTENT_TYPE)

    def numbers(self) -> bytes:
        """Return all numbers; those of webhooks as they were, where the database can't be asked."""
        metrics = self.studio.metrics
        if self.jobs is not None:
            try:
                metrics.look_at_webhooks(self.jobs.counts())
            except OptidashError as error:
                logger.warning("webhooks can't be counted: %s", error)
        return metrics.text()
