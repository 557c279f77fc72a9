"""What endpoints have in common: how they are called, how errors leave, when work is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from optidash_integrations.server.gate import exchange_of
from optidash_integrations.server.refusals import InvalidError, RefusedError

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]


class StatusError(RefusedError):
    """An address that is not there, or not for this method."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message, list((headers or {}).items()))
        self.public_status = status


def named(route: str, endpoint: Endpoint) -> Endpoint:
    """Return an endpoint that tells its address's pattern to the log."""

    async def called(request: Request) -> Response:
        exchange_of(request.scope).route = route
        return await endpoint(request)

    return called


async def failed(request: Request, error: Exception) -> Response:
    """Answer an error of ours."""
    raise error


async def missed(request: Request, error: Exception) -> Response:
    """Answer what the routes say: 404 and 405."""
    assert isinstance(error, HTTPException)
    message = {404: "There is no such address", 405: "This address does not take this method"}
    raise StatusError(
        error.status_code, message.get(error.status_code, error.detail), error.headers
    )


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do work for as long as the client waits for it. Raises ClientDisconnect."""
    watch = Watch(asyncio.current_task())
    watching = asyncio.ensure_future(watch.over(request))
    try:
        return await work
    except asyncio.CancelledError:
        if watch.is_alone:
            raise ClientDisconnect() from None
        raise
    finally:
        watching.cancel()


class Watch:
    """Cancels a task when its client has closed the connection."""

    def __init__(self, task: asyncio.Task[Any] | None) -> None:
        assert task is not None, "requests are answered in tasks"
        self.task = task
        self.has_cancelled = False

    async def over(self, request: Request) -> None:
        """Wait until the client has gone."""
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.has_cancelled = True
        self.task.cancel()

    @property
    def is_alone(self) -> bool:
        """Whether nobody else has cancelled the task; ask once."""
        return self.has_cancelled and self.task.uncancel() == 0


def check_encoding(request: Request) -> None:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidError("Content-Encoding must be identity")
