"""The image endpoint as a view."""

from __future__ import annotations

from functools import partial

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from optidash_integrations.django import conf
from optidash_integrations.django.facts import request_of, response_of
from optidash_integrations.django.storages import find
from optidash_integrations.endpoint import Endpoint
from optidash_integrations.exchange import Answer


def image(request: HttpRequest, alias: str, name: str) -> HttpResponseBase:
    """Answer with an image of the storage `alias`, at the size and in the format asked for."""
    service = conf.service()
    endpoint = Endpoint(service, partial(find, alias), access="signed")
    asked, client = request_of(request), request.META.get("REMOTE_ADDR", "")
    key = endpoint.key(asked, alias, name)
    found = service.ready.find(key) if key is not None else None
    if found is not None:
        answer = Answer(200, *found)
    else:
        keep = service.ready.keeper(key)
        answer = service.run(endpoint.answer(asked, name, request, client, keep))
    return response_of(answer, is_async=hasattr(request, "scope"))
