"""Who may use the image endpoint, how often, and which options count."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from optidash_integrations.credentials import (
    ApiKeys,
    Credentials,
    CredentialsError,
    ForbiddenError,
    Jwt,
    Visit,
)
from optidash_integrations.errors import AccessError, QueryError, SettingsError
from optidash_integrations.exchange import Request
from optidash_integrations.operations import Operations
from optidash_integrations.query import ALIASES
from optidash_integrations.remote import Remote
from optidash_integrations.settings import Settings
from optidash_integrations.transforms import TransformPolicy
from optidash_integrations.urls import ImageQuery, Pair, Signer, with_query

if TYPE_CHECKING:
    from optidash_integrations.ratelimit import RateLimit

__all__ = ["Access", "ApiKeys", "Jwt"]

PUBLIC = "public"
SIGNED = "signed"


class Access:
    """Signatures, the `transforms` policy, the `access` rule, the rate limit and the remote hosts
    of one set of settings, in one process.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.signer = Signer(settings.signing_keys, clock=clock, skew=settings.clock_skew)
        self.policy = TransformPolicy(
            settings.transforms,
            settings.widths,
            settings.variants_per_source,
            max_height=settings.max_height,
        )
        self.rate = rate_of(settings, clock)
        self.remote = Remote(settings)

    def close(self) -> None:
        """Drop downloads that wait, and end connections."""
        self.remote.close()
        if self.rate is not None:
            self.rate.close()

    def is_signed(self, request: Request, query: ImageQuery, *, intercepted: bool) -> bool:
        """Say whether a request's address is signed.

        Raises ExpiredError and EarlyError where it is, and is not good now.
        """
        if query.signature is None or not self.signer:
            return False
        if intercepted and any(name in ALIASES for name, _ in query.pairs):
            return False  # there an alias is no option of ours, so a signature can't mean it
        try:
            return self.signer.verify(request.raw_path or quote(request.path), query)
        except QueryError:
            return False

    def check(self, rule: object, signed: bool, visitor: object, visit: Visit) -> bool:
        """Say whether the answer may be for everybody who knows the address.

        `rule` is `public`, `signed`, credentials, a callable of the framework's request and the
        name that returns True for whoever may, or several of them, of which one has to let in.
        Raises `CredentialsError` where a valid credential would help, else `AccessError`.
        """
        refusals: list[AccessError] = []
        for each in sorted(rules_of(rule), key=cost):
            try:
                if each == PUBLIC or (each == SIGNED and signed):
                    return True
                ask(each, visitor, visit)
            except AccessError as refusal:
                refusals.append(refusal)
            else:
                return False
        raise worst(refusals, visit.name)

    def address(
        self,
        path: str,
        pairs: list[Pair],
        asked: Operations,
        *,
        rule: object,
        expires: float | None = None,
        starts: datetime | float | None = None,
    ) -> str:
        """Return the address for a path and options, signed where it would not work otherwise.

        `asked` is what the options mean; `expires` and `starts` as `Signer.signed` takes them, and
        only a signed address has them. Raises QueryError where the path has a query of its own
        that says one of them already.
        """
        is_timed = expires is not None or starts is not None
        if self.signer and (is_timed or self.needs_signature(asked, rule)):
            return self.signer.signed(path, pairs, expires=expires, starts=starts)
        return with_query(path, pairs)

    def needs_signature(self, asked: Operations, rule: object) -> bool:
        """Say whether these operations count only in a signed address."""
        if SIGNED in rules_of(rule) and PUBLIC not in rules_of(rule):
            return True
        if self.settings.transforms == "any":
            return False
        if self.settings.transforms == "none":
            return asked != Operations()
        return self.policy.snapped(asked) != asked


def rules_of(rule: Any) -> tuple[Any, ...]:
    """Return the rules of which any lets in."""
    return rule if isinstance(rule, tuple) else (rule,)


def cost(rule: object) -> int:
    """Put what needs no look at the visitor first, and what the site has written last."""
    return 0 if isinstance(rule, str) else 1 if isinstance(rule, Credentials) else 2


def ask(rule: object, visitor: object, visit: Visit) -> None:
    """Raise AccessError where one rule does not let this visitor in."""
    if isinstance(rule, Credentials):
        rule.check(visit)
    elif rule == SIGNED:
        raise AccessError(f"the address of {visit.name} is not signed, or not rightly")
    elif not callable(rule) or rule(visitor, visit.name) is not True:
        raise ForbiddenError(f"{visit.name} is not for this visitor")


def worst(refusals: list[AccessError], name: str) -> AccessError:
    """Return the refusal to tell: that a valid credential is not enough, else that one is needed.

    Of several challenges the one counts that says what was wrong with what came.
    """
    for refusal in refusals:
        if isinstance(refusal, ForbiddenError):
            return refusal
    challenges = [each for each in refusals if isinstance(each, CredentialsError)]
    if challenges:
        return max(challenges, key=lambda each: len(each.challenge))
    return refusals[0] if refusals else AccessError(f"{name} is for nobody")


def parameters_of(rule: object) -> frozenset[str]:
    """Return the names of query parameters that credentials may come in."""
    found = (each.parameter for each in rules_of(rule) if isinstance(each, Credentials))
    return frozenset(name for name in found if name)


def rate_of(settings: Settings, clock: Callable[[], float]) -> RateLimit | None:
    """Return what counts requests. Raises `SettingsError` where the library is not installed."""
    if settings.rate_limit is None:
        return None
    try:
        from optidash_integrations.ratelimit import RateLimit
    except ImportError as error:
        raise SettingsError(
            ['rate_limit needs a library: pip install "optidash-integrations[limits]"']
        ) from error
    return RateLimit(settings.rate_limit, settings.cache_url, clock=clock)
