"""Who calls: HTTP Basic with the key as user name and no password, or the key as Bearer token."""

from __future__ import annotations

import base64
import binascii
import ipaddress

from optidash_integrations.exchange import Headers
from optidash_integrations.server.keys import Key, Keys
from optidash_integrations.server.refusals import ForbiddenError, RefusedError

REALM = "Optidash API"
CHALLENGES: Headers = [
    ("www-authenticate", f'Basic realm="{REALM}", charset="UTF-8"'),
    ("www-authenticate", f'Bearer realm="{REALM}"'),
]
LONGEST = 1_024
"""No key is longer, in characters."""

EVERYBODY = Key(id="everybody", name="everybody")
"""Who calls a server that asks for no key."""

STRANGER = Key(id="", name="")
"""Who calls without a key that is known, or where none is asked for."""


class UnauthorizedError(RefusedError):
    """No key, or one that is not valid."""

    public_status = 401

    def __init__(self, reason: str, headers: Headers | None = None) -> None:
        super().__init__(reason, headers or CHALLENGES)


class Authentication:
    """Finds the key that a request was sent with; with `insecure`, all are let in without one."""

    def __init__(self, keys: Keys, *, insecure: bool = False) -> None:
        self.keys = keys
        self.insecure = insecure

    def key(self, authorization: str | None) -> Key:
        """Return the key that an `Authorization` header holds.

        Raises UnauthorizedError where there is none that is valid, DatabaseUnavailableError where
        that can't be known.
        """
        known = self.known(authorization)
        if known is not None:
            return known
        secret = secret_in(authorization or "")
        if not secret:
            raise UnauthorizedError("Authentication failed: no API key was sent")
        key = self.keys.verify(secret) if len(secret) <= LONGEST else None
        if key is None:
            raise UnauthorizedError("Authentication failed: the API key is not valid")
        return key

    def known(self, authorization: str | None) -> Key | None:
        """Return the key that a header holds, where memory knows it; this waits for nothing.

        Raises UnauthorizedError where the header can't be read.
        """
        if self.insecure:
            return EVERYBODY
        secret = secret_in(authorization or "")
        return self.keys.known(secret) if secret else None


def secret_in(authorization: str) -> str:
    """Return the key in the value of an `Authorization` header; empty where there is none.

    Raises UnauthorizedError where it can't be read.
    """
    scheme, _, value = authorization.strip().partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return value
    if scheme.lower() == "basic":
        return user_in(value)
    if scheme:
        raise UnauthorizedError("Authentication failed: use HTTP Basic or a Bearer token")
    return ""


def user_in(value: str) -> str:
    """Return the user name of HTTP Basic (RFC 7617); a password is none of the contract."""
    try:
        pair = base64.b64decode(value.encode("ascii"), validate=True).decode()
    except (UnicodeError, binascii.Error):
        raise UnauthorizedError(
            "Authentication failed: the Authorization header can't be read"
        ) from None
    user, _, password = pair.partition(":")
    if password:
        raise UnauthorizedError("Authentication failed: the password must be empty")
    return user


def check_transport(scheme: str, client: str) -> None:
    """Raise ForbiddenError where a request came in plain HTTP from elsewhere than this machine.

    `scheme` is that of the visitor's own connection, `client` the address it came from: behind a
    proxy that is trusted, what the proxy says of them.
    """
    if scheme.lower() not in ("https", "wss") and not is_loopback(client):
        raise ForbiddenError("The API is served over HTTPS only")


def is_loopback(client: str) -> bool:
    """Say whether an address is this machine's own."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
