"""Who may use the image endpoint, and which options count."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import quote

from optidash_integrations.errors import AccessError, QueryError
from optidash_integrations.exchange import Request
from optidash_integrations.operations import Operations
from optidash_integrations.query import ALIASES
from optidash_integrations.settings import Settings
from optidash_integrations.transforms import TransformPolicy
from optidash_integrations.urls import ImageQuery, Pair, Signer, with_query

PUBLIC = "public"
SIGNED = "signed"


class Access:
    """Signatures, the `transforms` policy and the `access` rule of one set of settings."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.signer = Signer(settings.signing_keys, clock=clock)
        self.policy = TransformPolicy(
            settings.transforms,
            settings.widths,
            settings.variants_per_source,
            max_height=settings.max_height,
        )

    def is_signed(self, request: Request, query: ImageQuery, *, intercepted: bool) -> bool:
        """Say whether a request's address is signed. Raises AccessError where it has expired."""
        if query.signature is None or not self.signer:
            return False
        if intercepted and any(name in ALIASES for name, _ in query.pairs):
            return False  # there an alias is no option of ours, so a signature can't mean it
        try:
            return self.signer.verify(request.raw_path or quote(request.path), query)
        except QueryError:
            return False

    def check(self, rule: object, signed: bool, visitor: object, name: str) -> None:
        """Raise AccessError where this visitor may not have the image `name`.

        `rule` is `public`, `signed`, or a callable of the framework's request and the name that
        returns True for whoever may.
        """
        if rule == PUBLIC:
            return
        if rule == SIGNED:
            if not signed:
                raise AccessError(f"the address of {name} is not signed, or not rightly")
        elif not callable(rule) or rule(visitor, name) is not True:
            raise AccessError(f"{name} is not for this visitor")

    def address(
        self,
        path: str,
        pairs: list[Pair],
        asked: Operations,
        *,
        rule: object,
        expires: float | None = None,
    ) -> str:
        """Return the address for a path and options, signed where it would not work otherwise.

        `asked` is what the options mean. Raises QueryError where the path has a query of its own
        that says one of them already.
        """
        if self.signer and (expires is not None or self.needs_signature(asked, rule)):
            return self.signer.signed(path, pairs, expires=expires)
        return with_query(path, pairs)

    def needs_signature(self, asked: Operations, rule: object) -> bool:
        """Say whether these operations count only in a signed address."""
        if rule == SIGNED:
            return True
        if self.settings.transforms == "any":
            return False
        if self.settings.transforms == "none":
            return asked != Operations()
        return self.policy.snapped(asked) != asked
