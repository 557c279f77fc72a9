"""Image addresses: options as query, signed and verified.

The signature is HMAC-SHA-256 over the path as the browser sends it, without the host, `?`, and the
canonical query: aliases resolved, names sorted, everything percent-encoded anew. So a proxy that
reorders or re-encodes does no harm, and a parameter that was not signed does.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, unquote_plus, unquote_to_bytes

from optidash_integrations.errors import EarlyError, ExpiredError, QueryError, SettingsError
from optidash_integrations.query import ALIASES, OPTION_NAMES, OTHER_NAMES, pairs_of

LABEL = "optidash-integrations/urls"
SHORT = 16
"""How many characters of a signature addresses carry, and at least so many verify: 96 bits."""

EXPIRY_STEPS = 8
"""An expiring address stays the same for this part of its life."""

HOST = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//[^/?#]*", re.IGNORECASE)

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ImageQuery:
    """The query of an image address, taken apart.

    `options` are the pairs that change the image, under the names that came; `pairs` all of them,
    decoded. `starts` and `expires` are in seconds since the epoch, as they came.
    """

    options: tuple[Pair, ...]
    pairs: tuple[Pair, ...]
    version: str | None = None
    expires: str | None = None
    signature: str | None = None
    key_id: str | None = None
    download: str | None = None
    starts: str | None = None

    @classmethod
    def parse(cls, query: str, *, strict: bool = True) -> ImageQuery:
        """Take a query apart.

        `strict` resolves aliases and raises QueryError for a repeated name. Otherwise only
        canonical names count, and what is repeated of `v`, `nbf`, `exp`, `kid`, `s` and `dl`
        belongs to somebody else.
        """
        pairs = tuple(pairs_of(query))
        if strict:
            by_canonical_name(pairs)
        others: dict[str, list[str]] = {}
        options = []
        for name, value in pairs:
            canonical = ALIASES.get(name, name) if strict else name
            if canonical in OTHER_NAMES:
                others.setdefault(canonical, []).append(value)
            elif strict or canonical in OPTION_NAMES:
                options.append((name, value))
        named = {name: values[0] for name, values in others.items() if len(values) == 1}
        return cls(
            tuple(options),
            pairs,
            version=named.get("v"),
            expires=named.get("exp"),
            signature=named.get("s"),
            key_id=named.get("kid"),
            download=named.get("dl"),
            starts=named.get("nbf"),
        )


def by_canonical_name(pairs: Iterable[Pair]) -> dict[str, str]:
    """Return values by canonical name. Raises QueryError for a repeated name."""
    named: dict[str, str] = {}
    for name, value in pairs:
        canonical = ALIASES.get(name, name)
        if canonical in named:
            raise QueryError(name, "one value", [named[canonical], value])
        named[canonical] = value
    return named


def canonical_query(pairs: Iterable[Pair]) -> str:
    """Return the query that is signed. Raises QueryError for a repeated name."""
    named = by_canonical_name(pairs)
    named.pop("s", None)
    return "&".join(f"{encoded(name)}={encoded(named[name])}" for name in sorted(named))


def canonical_path(path: str) -> str:
    """Return a path percent-encoded one way, whatever way it came; an encoded slash stays one."""
    return "/".join(quote(unquote_to_bytes(part), safe="") for part in path.split("/"))


def encoded(text: str) -> str:
    return quote(text, safe="")


def derived_key(secret: str | bytes) -> bytes:
    """Return the signing key that is made from a framework's secret key."""
    key = secret.encode() if isinstance(secret, str) else secret
    return hmac.new(key, LABEL.encode(), hashlib.sha256).digest()


class Signer:
    """Signs and verifies addresses with `keys`, newest first: all verify, the first signs.

    `clock` gives seconds since the epoch, for addresses that expire; by `skew` seconds it may
    differ from the clock of whoever signed. Without keys a signer is false, verifies nothing, and
    raises SettingsError when it has to sign.
    """

    def __init__(
        self, keys: Sequence[str | bytes], *, clock: Callable[[], float], skew: float = 0.0
    ) -> None:
        self.keys = tuple(key.encode() if isinstance(key, str) else key for key in keys)
        self.clock = clock
        self.skew = skew

    def __bool__(self) -> bool:
        return bool(self.keys)

    def signature(self, path: str, pairs: Iterable[Pair]) -> str:
        """Return the whole signature by the newest key, 43 characters.

        Raises QueryError for a repeated name.
        """
        if not self.keys:
            raise SettingsError(["signing_keys takes at least one key to sign with; none is given"])
        return signature_of(message_of(path, pairs), self.keys[0])

    def signed(
        self,
        address: str,
        pairs: Sequence[Pair],
        *,
        expires: float | None = None,
        starts: datetime | float | None = None,
    ) -> str:
        """Return an address with these parameters and, last, its signature.

        `expires` is in seconds from now, rounded up by at most an eighth, so that the same address
        comes out for a while. `starts` is the moment from which on it is good: a datetime, or
        seconds since the epoch. Raises QueryError where the address's own query repeats a name.
        """
        if starts is not None:
            pairs = [*pairs, ("nbf", str(whole_seconds(starts)))]
        if expires is not None:
            pairs = [*pairs, ("exp", str(self.expiry(expires)))]
        unsigned = with_query(address, pairs, without=("s",))
        path, query = path_and_query(unsigned)
        return with_query(unsigned, [("s", self.signature(path, pairs_of(query))[:SHORT])])

    def expiry(self, seconds: float) -> int:
        step = max(1, math.ceil(seconds / EXPIRY_STEPS))
        return math.ceil((self.clock() + seconds) / step) * step

    def verify(self, path: str, query: ImageQuery) -> bool:
        """Say whether a request's address is signed, its path as the browser sent it.

        The first 16 characters of a signature are enough. Raises ExpiredError and EarlyError where
        it is not good now, QueryError for a repeated name.
        """
        given = query.signature
        if not given or len(given) < SHORT or not given.isascii():
            return False
        message = message_of(path, query.pairs)
        known = [signature_of(message, key)[: len(given)] for key in self.keys]
        if not any(hmac.compare_digest(given, each) for each in known):
            return False
        self.check_time(query.starts, query.expires)
        return True

    def check_time(self, starts: str | None, expires: str | None) -> None:
        """Raise where it is too early, or too late. A moment that is none never comes, or has
        passed.
        """
        now = self.clock()
        if expires is not None:
            if not is_moment(expires):
                raise ExpiredError("exp takes seconds since the epoch: the address has expired")
            if now >= int(expires) + self.skew:
                raise ExpiredError("the address has expired")
        if starts is not None:
            if not is_moment(starts):
                raise EarlyError("nbf takes seconds since the epoch: the address is never valid")
            if now < int(starts) - self.skew:
                raise EarlyError("the address is not valid yet")


def is_moment(text: str) -> bool:
    """Say whether a text is a number of whole seconds since the epoch."""
    return text.isascii() and text.isdigit() and len(text) < SHORT


def whole_seconds(moment: datetime | float) -> int:
    """Return a moment in seconds since the epoch; a fraction of one waits for the next."""
    return math.ceil(moment.timestamp() if isinstance(moment, datetime) else moment)


def message_of(path: str, pairs: Iterable[Pair]) -> str:
    return f"{canonical_path(path)}?{canonical_query(pairs)}"


def signature_of(message: str, key: bytes) -> str:
    digest = hmac.new(key, message.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def path_and_query(address: str) -> tuple[str, str]:
    """Return what a browser sends of an address: its path, and its query without `?`."""
    host = HOST.match(address)
    target = address[host.end() :] if host else address
    path, _, query = target.partition("#")[0].partition("?")
    return path or "/", query


def with_query(address: str, pairs: Iterable[Pair], *, without: Sequence[str] = ()) -> str:
    """Return an address with parameters behind its own, and its fragment last.

    Its own ones of the same name are replaced, those named in `without` dropped; the rest of it
    stays letter for letter.
    """
    added = list(pairs)
    if not added and not without:
        return address
    replaced = {name for name, _ in added} | set(without)
    rest, hash_sign, fragment = address.partition("#")
    path, _, query = rest.partition("?")
    parts = [part for part in query.split("&") if part and name_of(part) not in replaced]
    parts += [f"{encoded(name)}={encoded(value)}" for name, value in added]
    return path + ("?" if parts else "") + "&".join(parts) + hash_sign + fragment


def name_of(parameter: str) -> str:
    return unquote_plus(parameter.partition("=")[0])
