"""Image addresses: options as query, signed and verified.

The signature is HMAC-SHA-256 over the path as the browser sends it, without the host, `?`, and the
canonical query: aliases resolved, names sorted, values percent-encoded anew. So a proxy that
reorders or re-encodes does no harm, and a parameter that was not signed does.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes, urlsplit, urlunsplit

from optidash_integrations.errors import AccessError, QueryError
from optidash_integrations.query import ALIASES, OPTION_NAMES, OTHER_NAMES, pairs_of

LABEL = "optidash-integrations/urls"
SHORT = 16
"""How many characters of a signature addresses carry, and at least so many verify: 96 bits."""

EXPIRY_STEPS = 8
"""An expiring address stays the same for this part of its life."""

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ImageQuery:
    """The query of an image address, taken apart.

    `options` are the pairs that change the image, under the names that came; `pairs` all of them.
    """

    options: tuple[Pair, ...]
    pairs: tuple[Pair, ...]
    version: str | None = None
    expires: str | None = None
    signature: str | None = None

    @classmethod
    def parse(cls, query: str, *, strict: bool = True) -> ImageQuery:
        """Take a query apart.

        `strict` resolves aliases and raises QueryError for a repeated name; otherwise only
        canonical names count, and of other people's parameters nothing is asked.
        """
        pairs = tuple(pairs_of(query))
        named: dict[str, str] = {}
        options = []
        for name, value in pairs:
            canonical = ALIASES.get(name, name) if strict else name
            if canonical in OPTION_NAMES or (strict and canonical not in OTHER_NAMES):
                options.append((name, value))
            elif canonical in OTHER_NAMES:
                if canonical in named:
                    raise QueryError(name, "one value", [named[canonical], value])
                named[canonical] = value
        return cls(tuple(options), pairs, named.get("v"), named.get("exp"), named.get("s"))


def canonical_query(pairs: Iterable[Pair]) -> str:
    """Return the query that is signed. Raises QueryError for a repeated name."""
    named: dict[str, str] = {}
    for name, value in pairs:
        canonical = ALIASES.get(name, name)
        if canonical in named:
            raise QueryError(name, "one value", [named[canonical], value])
        named[canonical] = value
    named.pop("s", None)
    return "&".join(f"{encoded(name)}={encoded(named[name])}" for name in sorted(named))


def encoded(text: str) -> str:
    return quote(text, safe="")


def canonical_path(path: str) -> str:
    """Return a path percent-encoded one way, whatever way it came."""
    return quote(unquote_to_bytes(path), safe="/")


def derived_key(secret: str | bytes) -> bytes:
    """Return the signing key that is made from a framework's secret key."""
    key = secret.encode() if isinstance(secret, str) else secret
    return hmac.new(key, LABEL.encode(), hashlib.sha256).digest()


class Signer:
    """Signs and verifies addresses with `keys`, newest first: all verify, the first signs.

    `clock` gives seconds since the epoch, for addresses that expire.
    """

    def __init__(self, keys: Sequence[bytes], *, clock: Callable[[], float]) -> None:
        self.keys = tuple(keys)
        self.clock = clock

    def __bool__(self) -> bool:
        return bool(self.keys)

    def signature(self, path: str, pairs: Iterable[Pair], key: bytes | None = None) -> str:
        """Return the whole signature, 43 characters; `key` instead of the newest one."""
        message = f"{canonical_path(path)}?{canonical_query(pairs)}"
        digest = hmac.new(key or self.keys[0], message.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def signed(self, address: str, pairs: Sequence[Pair], *, expires: float | None = None) -> str:
        """Return an address with these parameters and, last, its signature.

        `expires` is in seconds from now, rounded up so that the same address comes out for a while.
        """
        if expires is not None:
            pairs = [*pairs, ("exp", str(self.expiry(expires)))]
        own = tuple(pairs_of(urlsplit(address).query))
        signature = self.signature(urlsplit(address).path, (*own, *pairs))
        return with_query(address, [*pairs, ("s", signature[:SHORT])])

    def expiry(self, seconds: float) -> int:
        step = max(1, math.ceil(seconds / EXPIRY_STEPS))
        return math.ceil((self.clock() + seconds) / step) * step

    def verify(self, path: str, query: ImageQuery) -> bool:
        """Say whether a request's address is signed. Raises AccessError where it has expired."""
        given = query.signature
        if not given or len(given) < SHORT or not given.isascii():
            return False
        pairs = query.pairs
        signatures = [self.signature(path, pairs, key)[: len(given)] for key in self.keys]
        if not any(hmac.compare_digest(given, each) for each in signatures):
            return False
        if query.expires is not None and self.clock() >= float(query.expires):
            raise AccessError("the address has expired")
        return True


def with_query(address: str, pairs: Iterable[Pair]) -> str:
    """Return an address with parameters added behind those it has; its fragment stays last."""
    added = "&".join(f"{encoded(name)}={encoded(value)}" for name, value in pairs)
    if not added:
        return address
    scheme, host, path, query, fragment = urlsplit(address)
    return urlunsplit((scheme, host, path, f"{query}&{added}" if query else added, fragment))
