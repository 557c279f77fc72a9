"""What a request asks of an image, and what it gets."""

from __future__ import annotations

from dataclasses import dataclass

from optidash_integrations.formats import Format
from optidash_integrations.negotiation import Accepted
from optidash_integrations.operations import Operations

NOTHING_ASKED = Operations()


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request asks of an image, before it is known which one it is."""

    accept: Accepted | None
    asked: Operations
    signed: bool = False
    version: str | None = None
    expires: float | None = None
    detail: str | None = None
    download: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What a request gets of a known source: now, and `later` where that would take too long."""

    key: str
    operations: Operations
    output: Format
    negotiated: bool
    keepable: bool
    note: str | None = None
    later: Choice | None = None


def is_lasting(wish: Wish, choice: Choice, transforms: str) -> bool:
    """Say whether the same wish gets the same choice and head for as long as the source stays.

    Options that `bounded` transforms have changed may be let through later.
    """
    is_final = choice.note is None or transforms != "bounded"
    return wish.expires is None and choice.later is None and is_final
