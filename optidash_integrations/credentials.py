"""Credentials that open the image endpoint: API keys and JSON Web Tokens.

Both may be rotated: several keys are valid at once, each under an id. What a visitor sent is never
logged, and never part of a cache key.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from optidash_integrations.addresses import is_header_safe
from optidash_integrations.errors import AccessError, SettingsError

DIGEST = "sha256:"
BEARER = "Bearer"
REALM = "images"
KEY_HEADER = "x-api-key"
LONGEST = 8_192
"""No credential is longer, in characters."""

ALGORITHMS = frozenset(
    f"{family}{bits}" for family in ("HS", "RS", "ES", "PS") for bits in (256, 384, 512)
) | {"EdDSA"}


class CredentialsError(AccessError):
    """No credential, or one that is not valid; `challenge` is what WWW-Authenticate says."""

    public_status = 401
    public = "A valid key or token is needed for this image."

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        said = f', error="invalid_token", error_description="{reason}"' if reason else ""
        self.challenge = f'{BEARER} realm="{REALM}"{said}'


class ForbiddenError(AccessError):
    """The credential is valid, and not for this image."""

    public = "This image is not for you."


@dataclass(frozen=True, slots=True)
class Visit:
    """What a rule may look at: header fields, query parameters, the image's name, and the time in
    seconds since the epoch, by `skew` of which clocks may differ.
    """

    headers: Mapping[str, str]
    query: Mapping[str, str]
    name: str
    now: float
    skew: float = 0.0


class Credentials:
    """A rule that wants a credential."""

    parameter: str | None

    def check(self, visit: Visit) -> None:
        """Raise `CredentialsError` where there is no valid one, `ForbiddenError` where it is not
        enough.
        """
        raise NotImplementedError


@dataclass(frozen=True, init=False)
class ApiKeys(Credentials):
    """Let in whoever sends one of these keys.

    `keys` are texts, or a mapping of ids to texts; each text a key, or `sha256:` and the digest of
    one in hex (`ApiKeys.digest`). They are kept as digests. A key is sent as `Authorization: Bearer
    …` or `X-Api-Key`; with `parameter` also in the query, where web servers may log it.
    """

    digests: tuple[tuple[str, bytes], ...] = field(repr=False)
    parameter: str | None

    def __init__(
        self, keys: Mapping[str, str] | Iterable[str], *, parameter: str | None = None
    ) -> None:
        object.__setattr__(self, "digests", tuple((i, digest_of(k)) for i, k in named(keys)))
        object.__setattr__(self, "parameter", parameter)
        if not self.digests:
            raise SettingsError(["ApiKeys takes at least one key; none is given"])

    @staticmethod
    def digest(key: str) -> str:
        """Return what may be kept in settings in place of a key."""
        return DIGEST + hashlib.sha256(key.encode()).hexdigest()

    def check(self, visit: Visit) -> None:
        """Compare each credential that came with each key, in constant time."""
        given = [*bearer(visit), visit.headers.get(KEY_HEADER), parameter(self, visit)]
        keys = [key for key in given if key and len(key) <= LONGEST]
        if not keys:
            raise CredentialsError("no key was sent")
        sent = [hashlib.sha256(key.encode("utf-8", "replace")).digest() for key in keys]
        # A list, so that the time does not tell which key it was.
        if not any([hmac.compare_digest(s, d) for s in sent for _, d in self.digests]):  # noqa: C419
            raise CredentialsError("the key is not valid", reason="the key is not valid")


def named(keys: Mapping[str, str] | Iterable[str]) -> list[tuple[str, str]]:
    """Return keys with their ids; those without one are numbered."""
    if isinstance(keys, str):
        raise SettingsError(["ApiKeys takes a list of keys, or a mapping of ids to keys"])
    if isinstance(keys, Mapping):
        return [(str(name), key) for name, key in keys.items()]
    return [(str(number), key) for number, key in enumerate(keys)]


def digest_of(key: str) -> bytes:
    if not is_header_safe(key):
        raise SettingsError(["ApiKeys takes keys of printable ASCII characters"])
    if not key.startswith(DIGEST):
        return hashlib.sha256(key.encode()).digest()
    try:
        digest = bytes.fromhex(key.removeprefix(DIGEST))
    except ValueError:
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        raise SettingsError(["ApiKeys takes 64 hexadecimal digits after sha256:"])
    return digest


@dataclass(frozen=True, init=False)
class Jwt(Credentials):
    """Let in whoever sends a token that one of these keys has signed, as `Authorization: Bearer …`.

    `keys` is a key (a secret, or a public key as PEM), several of them, or a mapping of ids to
    keys: then a token's `kid` chooses. `algorithms` are named explicitly. `exp` is required unless
    `expires` is False; `exp` and `nbf` allow `leeway` seconds, without it as many as the
    `clock_skew` setting. `prefix_claim` names a claim with a
    text or a list of texts: the image's name has to begin with one of them. With `parameter` a
    token may come in the query too. Raises `SettingsError` where PyJWT is not installed.
    """

    keys: tuple[tuple[str | None, Any], ...] = field(repr=False)
    algorithms: tuple[str, ...]
    audience: str | None
    issuer: str | None
    leeway: float | None
    expires: bool
    prefix_claim: str | None
    parameter: str | None

    def __init__(
        self,
        keys: Any,
        *,
        algorithms: Iterable[str],
        audience: str | None = None,
        issuer: str | None = None,
        leeway: float | None = None,
        expires: bool = True,
        prefix_claim: str | None = None,
        parameter: str | None = None,
    ) -> None:
        values = {
            "keys": keyed(keys),
            "algorithms": checked_algorithms(algorithms),
            "audience": audience,
            "issuer": issuer,
            "leeway": leeway,
            "expires": expires,
            "prefix_claim": prefix_claim,
            "parameter": parameter,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        library()

    def check(self, visit: Visit) -> None:
        """Read the token and everything that it claims before the image is looked at."""
        tokens = [t for t in (*bearer(visit), parameter(self, visit)) if t and len(t) <= LONGEST]
        if not tokens:
            raise CredentialsError("no token was sent")
        claims = self.claims(tokens[0])
        self.check_time(claims, visit)
        if self.prefix_claim is not None and not begins(visit.name, claims.get(self.prefix_claim)):
            raise ForbiddenError(f"{self.prefix_claim} of the token does not name {visit.name}")

    def claims(self, token: str) -> Mapping[str, Any]:
        """Return what a token claims. Raises `CredentialsError` where nobody of ours signed it."""
        jwt = library()
        try:
            wanted = jwt.get_unverified_header(token).get("kid")
        except jwt.PyJWTError as error:
            raise CredentialsError(f"no token: {error}", reason="not a token") from error
        options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
        problem: Exception | None = None
        for name, key in self.keys:
            if name is not None and name != wanted:
                continue
            try:
                found: Mapping[str, Any] = jwt.decode(
                    token,
                    key,
                    algorithms=list(self.algorithms),
                    audience=self.audience,
                    issuer=self.issuer,
                    options=options,
                )
            except (jwt.PyJWTError, ValueError, TypeError) as error:
                problem = error
            else:
                return found
        raise CredentialsError(
            f"the token is not valid: {problem or 'no key has its id'}",
            reason="the token is not valid",
        ) from problem

    def check_time(self, claims: Mapping[str, Any], visit: Visit) -> None:
        """Compare `exp` and `nbf` with the time. A time that is no number is none."""
        ends, begins_at = seconds(claims.get("exp")), seconds(claims.get("nbf"))
        now, leeway = visit.now, visit.skew if self.leeway is None else self.leeway
        if ends is None and ("exp" in claims or self.expires):
            raise CredentialsError("the token has no exp", reason="the token does not expire")
        if ends is not None and now >= ends + leeway:
            raise CredentialsError("the token has expired", reason="the token has expired")
        if "nbf" in claims and (begins_at is None or now < begins_at - leeway):
            raise CredentialsError("the token is not valid yet", reason="not valid yet")


def library() -> Any:
    """Return PyJWT. Raises `SettingsError` where it is not installed."""
    try:
        import jwt
    except ImportError as error:
        raise SettingsError(
            ['Jwt needs PyJWT: pip install "optidash-integrations[jwt]"']
        ) from error
    return jwt


def keyed(keys: Any) -> tuple[tuple[str | None, Any], ...]:
    """Return keys with the ids that tokens name them by."""
    if isinstance(keys, Mapping):
        found: tuple[tuple[str | None, Any], ...] = tuple((str(i), k) for i, k in keys.items())
    elif isinstance(keys, str | bytes):
        found = ((None, keys),)
    else:
        found = tuple((None, key) for key in keys)
    if not found or not all(isinstance(key, str | bytes) and key for _, key in found):
        raise SettingsError(["Jwt takes a key, a list of keys, or a mapping of ids to keys"])
    return found


def checked_algorithms(algorithms: Iterable[str]) -> tuple[str, ...]:
    """Return algorithms; none that needs no key, and no secret ones beside public ones."""
    found = () if isinstance(algorithms, str) else tuple(algorithms)
    if not found or not ALGORITHMS.issuperset(found):
        raise SettingsError([f"algorithms takes a list of some of {', '.join(sorted(ALGORITHMS))}"])
    if len({name.startswith("HS") for name in found}) > 1:  # a public key would serve as secret
        raise SettingsError(["algorithms takes those of secrets or those of key pairs, not both"])
    return found


def bearer(visit: Visit) -> list[str]:
    """Return the credential of the Authorization header, where there is one."""
    scheme, _, value = visit.headers.get("authorization", "").strip().partition(" ")
    return [value.strip()] if scheme.lower() == BEARER.lower() and value.strip() else []


def parameter(rule: Credentials, visit: Visit) -> str | None:
    return visit.query.get(rule.parameter) if rule.parameter else None


def begins(name: str, prefixes: object) -> bool:
    allowed = [prefixes] if isinstance(prefixes, str) else prefixes
    if not isinstance(allowed, list):
        return False
    return any(isinstance(each, str) and bool(each) and name.startswith(each) for each in allowed)


def seconds(claim: object) -> float | None:
    if isinstance(claim, bool) or not isinstance(claim, int | float) or not math.isfinite(claim):
        return None
    return float(claim)
