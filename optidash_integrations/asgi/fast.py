"""What is looked at before anything else: the key of an answer that may be ready."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from optidash_integrations.asgi.messages import Message, Scope, Send
from optidash_integrations.exchange import Answer
from optidash_integrations.ready import SPECIAL as SPECIAL_NAMES
from optidash_integrations.ready import Hit, ReadyAnswers

SPECIAL = frozenset(name.encode() for name in SPECIAL_NAMES)
TOLD = frozenset({b"host", b"accept", b"cookie"})
OF_INTEREST = SPECIAL | TOLD

Key = tuple[str, bytes | None, bytes, bytes, int]


def key_of(scope: Scope, ready: ReadyAnswers) -> tuple[Key, bool] | None:
    """Return the key of a plain GET, and whether it came with a cookie; None for any other."""
    if scope["method"] != "GET":
        return None
    host = accept = b""
    has_cookie = False
    for name, value in scope["headers"]:
        if name in OF_INTEREST:
            if name in SPECIAL:
                return None
            if name == b"host":
                host = value
            elif name == b"accept":
                if accept:
                    return None  # several lines that would have to be joined
                accept = value
            else:
                has_cookie = True
    number = ready.accept_class(accept)
    return (scope["path"], scope.get("raw_path"), scope["query_string"], host, number), has_cookie


def after_head(key: Key, message: Message, *, has_cookie: bool) -> Hashable | None:
    """Return the key of the answer to a plain GET to which the app says this; None without one."""
    try:
        heads = tuple(message["headers"])
        hash(heads)
    except (KeyError, TypeError):
        return None
    return (key, has_cookie, message["status"], heads)


def keep(ready: ReadyAnswers, key: Hashable | None, hit: Hit | None, answer: Answer) -> None:
    """Make an answer ready for the next request with the same key."""
    if key is None or hit is None or answer.status != 200:
        return
    head = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    ready.put(key, hit, head)


async def send_ready(found: tuple[Any, bytes], send: Send) -> None:
    """Send an answer; those around us may change its head, so they get a list of their own."""
    head, body = found
    await send({"type": "http.response.start", "status": 200, "headers": head.copy()})
    await send({"type": "http.response.body", "body": body})
