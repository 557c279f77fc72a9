"""Faults in which the API says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from email.utils import format_datetime

from tests.api.answers import failure
from tests.api.calls import Call
from tests.api.fault import CLOSE, Fault

MESSAGES = {
    401: "Authentication failed",
    402: "No credits left",
    403: "Your plan does not include this",
    404: "There is no such thing",
    413: "The image is too large",
    415: "The image is of no known type",
    422: "Super-resolution 'factor' parameter must be a positive integer",
    500: "Something went wrong",
    503: "Out of service",
}


def status(
    code: int,
    message: str | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    *,
    early: bool = False,
) -> Fault:
    """Answer with an error, as JSON in its place, or with `body` and nothing else.

    `early` does so before the request's body is read, and closes the connection after it.
    """
    text = MESSAGES.get(code, f"Status {code}") if message is None else message
    more = tuple((headers or {}).items())

    async def play(call: Call) -> None:
        closing = (CLOSE,) if early else ()
        if body is not None:
            await call.say(code, [*more, *closing], body)
        else:
            answer = failure(code, text, is_binary=call.is_binary)
            await call.say(code, [*answer.pairs, *more, *closing], answer.body.read())
        if early:
            await call.end()

    return Fault(f"status({code})", play, reads_body=not early)


def retry_after(
    wait: int | str | datetime | None = 1, *, code: int = 429, reset: int | None = None
) -> Fault:
    """Answer that the limit is exceeded. `wait` is the value of `Retry-After`, None for none.

    `reset` is what `X-RateLimit-Reset` says, else the same seconds.
    """
    seconds = reset if reset is not None else wait if isinstance(wait, int) else 778
    value = format_datetime(wait, usegmt=True) if isinstance(wait, datetime) else wait
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(seconds)}
    if value is not None:
        headers["Retry-After"] = str(value)
    fault = status(code, f"Rate limit exceeded. Retry in {seconds} seconds.", headers)
    return replace(fault, name=f"retry_after({value})")


def success_false_200(message: str = MESSAGES[422], code: int = 422) -> Fault:
    """Tell of a failure with `code`, but under the HTTP status 200."""

    async def play(call: Call) -> None:
        answer = failure(code, message, is_binary=call.is_binary)
        await call.say(200, answer.pairs, answer.body.read())

    return Fault("success_false_200", play)


def redirect(to: str, code: int = 307) -> Fault:
    """Send the client elsewhere."""
    return replace(status(code, headers={"Location": to}, body=b""), name=f"redirect({code})")
