"""The middleware, for sync and async projects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from optidash_integrations.django import conf
from optidash_integrations.django.facts import (
    head_of,
    hidden_headers,
    length_of,
    local_path,
    read,
    read_async,
    request_of,
    response_of,
    with_body,
)
from optidash_integrations.exchange import INNER, Answer, FileBody, Verdict
from optidash_integrations.flows import Flow
from optidash_integrations.interception import Interception
from optidash_integrations.processors import choose
from optidash_integrations.ready import environ_key
from optidash_integrations.service import Service
from optidash_integrations.variants import ImageData

T = TypeVar("T")


class OptidashMiddleware:
    """Let the images that a project answers with leave optimised.

    Stands first in `MIDDLEWARE`: above SessionMiddleware and GZipMiddleware, so that it sees
    cookies, and bodies before they are compressed. Raises `SettingsError` or
    `ProcessorMissingError` when the project starts with wrong settings.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        choose(conf.current())  # what is wrong shows when the project starts
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer a request."""
        return self.call_async(request) if self.is_async else self.call(request)

    def call(self, request: HttpRequest) -> HttpResponseBase:
        service = conf.service()
        key = ready_key(service, request)
        if key and (found := service.ready.find(key)):
            return response_of(Answer(200, *found))
        interception = service.intercept(request_of(request))
        response: HttpResponseBase
        is_async = hasattr(request, "scope")  # sync middleware under ASGI
        if interception is None:
            response = self.get_response(request)
            return response
        try:
            early = self.run(interception.early()) if interception.public else None
            if early is not None:
                keep(service, key, interception, early)
                return response_of(early, is_async=is_async)
            with hidden_headers(request, interception):
                response = self.get_response(request)
            outcome = Outcome(response, is_async=is_async)
            if self.run(looked_up(interception, outcome)):
                data = outcome.path or read(response, outcome.length)
                self.run(worked_on(interception, outcome, data))
            return outcome.response
        finally:
            interception.close()

    async def call_async(self, request: HttpRequest) -> HttpResponseBase:
        service = conf.service()
        key = ready_key(service, request)
        if key and (found := service.ready.find(key)):
            return response_of(Answer(200, *found))
        interception = service.intercept(request_of(request))
        response: HttpResponseBase
        if interception is None:
            response = await self.get_response(request)
            return response
        try:
            early = await self.run_async(interception.early()) if interception.public else None
            if early is not None:
                keep(service, key, interception, early)
                return response_of(early, is_async=True)
            with hidden_headers(request, interception):
                response = await self.get_response(request)
            outcome = Outcome(response, is_async=True)
            if await self.run_async(looked_up(interception, outcome)):
                data = outcome.path or await read_async(response, outcome.length)
                await self.run_async(worked_on(interception, outcome, data))
            return outcome.response
        finally:
            interception.close()

    def run(self, flow: Flow[T]) -> T | None:
        """Carry out a flow; whatever fails in it, the view's response goes through."""
        service = conf.service()
        try:
            result: T = service.run(flow)
        except Exception as error:  # noqa: BLE001  the visitor gets the original
            service.pass_over(error)
            return None
        return result

    async def run_async(self, flow: Flow[T]) -> T | None:
        """Do the same on the event loop."""
        service = conf.service()
        try:
            result: T = await service.run_async(flow)
        except Exception as error:  # noqa: BLE001  the visitor gets the original
            service.pass_over(error)
            return None
        return result


class Outcome:
    """The response on its way out: the view's, until there is a better one."""

    def __init__(self, response: HttpResponseBase, *, is_async: bool = False) -> None:
        self.response = response
        self.is_async = is_async
        self.head = head_of(response)
        self.path: Path | None = None
        self.length = 0

    def put(self, answer: Answer) -> None:
        """Put an answer in the place of the view's response."""
        if answer.body is INNER and self.path is not None:
            answer = replace(answer, body=FileBody(self.path, 0, self.length, self.length))
        self.response = response_of(answer, self.response, is_async=self.is_async)


def ready_key(service: Service, request: HttpRequest) -> Hashable | None:
    """Return the key of an answer that may be ready; None where there can be none."""
    if not service.public_paths:
        return None
    key = environ_key(request.META, service.ready)
    scope = getattr(request, "scope", None)  # where Django's META lacks the path as it was sent
    return key if scope is None or key is None else (key, scope.get("raw_path"))


def keep(
    service: Service, key: Hashable | None, interception: Interception, answer: Answer
) -> None:
    """Make an answer ready for the next request with the same key."""
    if key and interception.hit and answer.status == 200:
        service.ready.put(key, interception.hit, answer.headers)


def looked_up(interception: Interception, outcome: Outcome) -> Flow[bool]:
    """Answer from the head of the view's response; True where its body is needed."""
    if not interception.considers(outcome.head):
        return False
    outcome.path = local_path(outcome.response)
    length = length_of(outcome.response, outcome.head, outcome.path)
    if not interception.fits(length):
        return False
    outcome.length = length or 0
    in_file = outcome.path is not None
    verdict = yield from interception.from_head(outcome.head, length, in_file=in_file)
    if isinstance(verdict, Answer):
        outcome.put(verdict)
    return verdict is Verdict.BODY


def worked_on(interception: Interception, outcome: Outcome, data: ImageData | None) -> Flow[None]:
    """Answer with what becomes of the body; None is one that could not be read whole."""
    if data is None:
        return
    if isinstance(data, bytes):
        outcome.response = with_body(outcome.response, data)
    verdict = yield from interception.from_body(outcome.head, data)
    if isinstance(verdict, Answer):
        outcome.put(verdict)
