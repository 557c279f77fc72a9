"""The middleware, for sync and async projects."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from optidash_integrations.django import conf
from optidash_integrations.django.facts import (
    body_of,
    head_of,
    hidden_headers,
    length_of,
    local_path,
    request_of,
    response_of,
    with_body,
)
from optidash_integrations.errors import OptidashError
from optidash_integrations.exchange import Answer, Verdict
from optidash_integrations.flows import Do, Flow
from optidash_integrations.interception import Interception
from optidash_integrations.service import Service

logger = logging.getLogger(__name__)

T = TypeVar("T")


class OptidashMiddleware:
    """Let the images that a project answers with leave optimised.

    Stands first in `MIDDLEWARE`: above SessionMiddleware and GZipMiddleware, so that it sees
    cookies, and bodies before they are compressed.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer a request."""
        return self.call_async(request) if self.is_async else self.call(request)

    def call(self, request: HttpRequest) -> HttpResponseBase:
        interception = conf.service().intercept(request_of(request))
        response: HttpResponseBase
        if interception is None:
            response = self.get_response(request)
            return response
        try:
            early = self.run(interception.early()) if interception.public else None
            if early is not None:
                return response_of(early)
            with hidden_headers(request, interception):
                response = self.get_response(request)
            outcome = Outcome(response)
            self.run(finished(interception, outcome))
            return outcome.response
        finally:
            interception.close()

    async def call_async(self, request: HttpRequest) -> HttpResponseBase:
        interception = conf.service().intercept(request_of(request))
        response: HttpResponseBase
        if interception is None:
            response = await self.get_response(request)
            return response
        try:
            early = await self.run_async(interception.early()) if interception.public else None
            if early is not None:
                return response_of(early, is_async=True)
            with hidden_headers(request, interception):
                response = await self.get_response(request)
            outcome = Outcome(response, is_async=True)
            await self.run_async(finished(interception, outcome))
            return outcome.response
        finally:
            interception.close()

    def run(self, flow: Flow[T]) -> T | None:
        """Carry out a flow; whatever fails in it, the view's response goes through."""
        service = conf.service()
        try:
            result: T = service.run(flow)
        except Exception as error:  # noqa: BLE001  the visitor gets the original
            passed_over(service, error)
            return None
        return result

    async def run_async(self, flow: Flow[T]) -> T | None:
        """Do the same on the event loop."""
        service = conf.service()
        try:
            result: T = await service.run_async(flow)
        except Exception as error:  # noqa: BLE001  the visitor gets the original
            passed_over(service, error)
            return None
        return result


def passed_over(service: Service, error: Exception) -> None:
    if isinstance(error, OptidashError) and service.settings.on_error == "raise":
        raise error
    logger.error("an image is passed on as it is", exc_info=error)


@dataclass
class Outcome:
    """The response on its way out: the view's, until there is a better one."""

    response: HttpResponseBase
    is_async: bool = False


def finished(interception: Interception, outcome: Outcome) -> Flow[None]:
    """Put in place what becomes of the view's response."""
    response = outcome.response
    head = head_of(response)
    if not interception.considers(head):
        return
    path = local_path(response)
    length = length_of(response, head, path)
    if length is None or not interception.fits(length):
        return
    verdict = yield from interception.from_head(head, length, in_file=path is not None)
    if verdict is Verdict.BODY:
        data = path if path is not None else (yield Do(lambda: body_of(response)))
        if isinstance(data, bytes):
            outcome.response = with_body(response, data)
        verdict = yield from interception.from_body(head, data)
    if isinstance(verdict, Answer):
        outcome.response = response_of(verdict, outcome.response, is_async=outcome.is_async)
