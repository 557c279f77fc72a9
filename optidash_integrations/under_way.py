"""What is known of the request under way where no argument reaches: below the HTTP library.

Its connections renew the place that the request holds among those of all processes, and its loggers
tell nothing of what an answer says: a result's address has a signature in it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


class Lease(Protocol):
    """Something held for a while, which has to be renewed now and then. `renew` may block."""

    @property
    def is_due(self) -> bool:
        """Whether it is time to."""

    def renew(self) -> None:
        """Hold it for as long again."""


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A request of ours, and what it holds meanwhile."""

    lease: Lease | None = None


UNDER_WAY: ContextVar[UnderWay | None] = ContextVar("UNDER_WAY", default=None)


@contextmanager
def under_way(lease: Lease | None = None) -> Iterator[None]:
    """Let all that is done meanwhile in this thread or task be known as part of a request."""
    token = UNDER_WAY.set(UnderWay(lease))
    try:
        yield
    finally:
        with suppress(ValueError):  # a task that nobody awaits any more ends in another context
            UNDER_WAY.reset(token)


def lease_due() -> Lease | None:
    """Return what the request under way holds and has to renew now; None where it need not."""
    request = UNDER_WAY.get()
    lease = request.lease if request is not None else None
    return lease if lease is not None and lease.is_due else None


# httpcore writes at DEBUG the arguments and the result of each of its steps, as a text.
LOGGERS = ("connection", "http11", "http2", "proxy", "socks")
TELLING = re.compile(r"[a-z_0-9]+\.(started|complete|failed)")
HARMLESS = ("connect_tcp.", "start_tls.")
STATUS = re.compile(r" return_value=\(b'HTTP/[0-9.]+', (\d+),")
EXCEPTION = re.compile(r" exception=([A-Za-z]+)\(")


def told_of(message: str) -> str:
    """Return what may be told of a step: its name, an answer's status, an error's kind."""
    step = TELLING.match(message)
    if step is None or (message.startswith(HARMLESS) and step[1] != "failed"):
        return message
    status, exception = STATUS.match(message, step.end()), EXCEPTION.match(message, step.end())
    more = f" status={status[1]}" if status else f" exception={exception[1]}" if exception else ""
    return step[0] + more


def discreet(record: logging.LogRecord) -> bool:
    """Cut a record of a request of ours; leave those of anybody else as they are."""
    if UNDER_WAY.get() is not None:
        record.msg, record.args = told_of(record.getMessage()), None
    return True


for name in LOGGERS:
    logging.getLogger(f"httpcore.{name}").addFilter(discreet)
