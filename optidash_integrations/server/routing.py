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
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(gone(request))
    try:
        await asyncio.wait([task, watch], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect()
    finally:
        for each in (task, watch):
            each.cancel()
        await asyncio.wait([task, watch])
        if not task.cancelled():
            task.exception()


async def gone(request: Request) -> None:
    """Wait until the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def check_encoding(request: Request) -> None:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidError("Content-Encoding must be identity")
