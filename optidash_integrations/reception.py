"""The endpoint's door: what a request asks for, whether it is let in, and how often."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optidash_integrations.access import parameters_of, rules_of
from optidash_integrations.credentials import CredentialsError, Visit
from optidash_integrations.errors import (
    AccessError,
    ExpiredError,
    QueryError,
    SourceNotFoundError,
)
from optidash_integrations.exchange import Answer, Headers, Request
from optidash_integrations.flows import Do, Flow
from optidash_integrations.headers import directives, error
from optidash_integrations.query import pairs_of
from optidash_integrations.referers import Referers
from optidash_integrations.service import Service
from optidash_integrations.urls import ImageQuery, name_of
from optidash_integrations.wishes import Wish

if TYPE_CHECKING:
    from optidash_integrations.ratelimit import Tally

REMOTE_NAME = "remote"
"""`<mount>/remote?url=…` is an image on another host; no image in a folder has such a name."""

URL = "url"
OF_A_SIGNATURE = frozenset({"s", "sig", "nbf", "starts", "exp", "expires", "kid"})


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: what it wants of an image, and what its visitor shows to get in.

    `request` is without credentials in its query, so that they reach neither a log nor a cache
    key. `url` is the address of a remote image as it came, or None. `is_open` says whether the
    answer may be kept for everybody.
    """

    request: Request
    wish: Wish
    name: str
    url: str | None
    visit: Visit
    is_open: bool = True


class Reception:
    """Lets visitors of the endpoint in. `rule` counts where the settings name no `access`."""

    def __init__(self, service: Service, rule: object) -> None:
        self.service = service
        self.rule = service.settings.access or rule
        self.referers = Referers(service.settings.referers)

    @property
    def asks_nobody(self) -> bool:
        """Say whether the address alone tells who is let in."""
        return not self.referers and all(isinstance(rule, str) for rule in rules_of(self.rule))

    def asked(self, request: Request, name: str) -> Asked:
        """Take a request apart.

        Raises QueryError, and AccessError where it is signed for another time.
        """
        service, secret = self.service, parameters_of(self.rule)
        shown = dict(pairs_of(request.query)) if secret else {}
        if secret:
            request = replace(request, query=without(request.query, secret))
        url = None
        if name == REMOTE_NAME and service.access.remote:
            wish, url = remote_wish(service, request)
        else:
            wish = service.wish(request, intercepted=False)
        skew = service.settings.clock_skew
        visit = Visit(request.headers, shown, url or name, service.clock(), skew)
        return Asked(request, wish, name, url, visit)

    def counted(self, client: str) -> Flow[Tally | None]:
        """Count a request, where `rate_limit` is set."""
        rate = self.service.access.rate
        if rate is None:
            return None
        tally: Tally = (yield Do(lambda: rate.hit(client))) if rate.is_shared else rate.hit(client)
        return tally

    def admitted(self, asked: Asked, visitor: object) -> Flow[bool]:
        """Return whether the answer may be for everybody. Raises AccessError.

        Behind a guard of referers it never is: a shared cache would hand its copy to every site's
        visitors, and by `Vary: Referer` both it and browsers would keep one for each page.
        """
        self.referers.check(asked.request)
        access, signed = self.service.access, asked.wish.signed
        if any(callable(rule) for rule in rules_of(self.rule)):  # it may ask a database
            is_open: bool = yield Do(lambda: access.check(self.rule, signed, visitor, asked.visit))
        else:
            is_open = access.check(self.rule, signed, visitor, asked.visit)
        return is_open and not self.referers

    def refused(self, problem: AccessError, name: str) -> Answer:
        """Return the answer to a visitor who is not let in."""
        settings, missing = self.service.settings, SourceNotFoundError
        self.service.note(name, problem)
        is_expired = isinstance(problem, ExpiredError)
        status = settings.expired_status if is_expired else problem.public_status
        if settings.hide_refused or status == missing.public_status:
            return error(missing.public_status, missing.public)
        answer = error(status, problem.public)
        if isinstance(problem, CredentialsError):
            answer.headers.append(("www-authenticate", problem.challenge))
        return answer


def remote_wish(service: Service, request: Request) -> tuple[Wish, str]:
    """Return what is asked of a remote image, and its address."""
    query = ImageQuery.parse(request.query)
    url = dict(query.pairs).get(URL)
    if not url:
        raise QueryError(URL, "the address of an image", "nothing")
    signed = service.access.is_signed(request, query, intercepted=False)
    rest = replace(request, query=without(request.query, {URL, *OF_A_SIGNATURE}))
    wish = service.wish(rest, intercepted=False)
    expires = float(query.expires) if signed and query.expires else None
    return replace(wish, signed=signed, expires=expires), url


def without(query: str, names: Iterable[str]) -> str:
    """Return a query, as it came, without some parameters."""
    dropped = frozenset(names)
    return "&".join(part for part in query.split("&") if name_of(part) not in dropped)


def too_many(tally: Tally) -> Answer:
    """Return the answer to a visitor who has asked too often."""
    answer = error(429, f"Too many requests; try again in {tally.reset} seconds.")
    answer.headers.append(("retry-after", str(tally.reset)))
    return answer


def tally_headers(answer: Answer, tally: Tally) -> Headers:
    """Return the header fields that tell where a visitor stands.

    What a shared cache may keep, or update from a 304, tells everybody's limit alone.
    """
    present = dict(answer.headers).get("cache-control")
    is_kept = directives(present).keys().isdisjoint({"private", "no-store"})
    return tally.headers()[:1] if is_kept else tally.headers()
