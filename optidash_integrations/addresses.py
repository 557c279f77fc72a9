"""Addresses of APIs and of what they keep: which may be spoken to, and how."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from optidash_integrations.errors import OptionError, Said

PORTS = {"http": 80, "https": 443}
LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost"})


def checked_url(url: object, name: str, *, allow_http: bool) -> SplitResult:
    """Return the parts of an address that may be called.

    Raises OptionError, which calls it `name`, for anything but https, or http on this machine or
    where that is allowed; and for credentials in it, which would end up in logs.
    """
    takes = "an address that begins with https://"
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        port = parts.port
    except ValueError:
        raise OptionError(name, takes, Said("one that can't be read")) from None
    if parts.scheme not in PORTS or not parts.hostname or port == 0 or has_control(str(url)):
        raise OptionError(name, takes, without_secrets(str(url)))
    if parts.username is not None or parts.password is not None:
        raise OptionError(name, f"{takes} and has no user name", without_secrets(str(url)))
    if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname):
        raise OptionError(
            name,
            f"{takes} (http only on this machine, or with allow_http)",
            without_secrets(str(url)),
        )
    return parts


def normal_url(url: str) -> str:
    """Return an address with scheme and host in lower case, and no slash at its end."""
    scheme, separator, rest = url.strip().partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}{separator}{host.lower()}{slash}{path}".rstrip("/")


def is_header_safe(key: object) -> bool:
    """Say whether a key can stand in a header."""
    return isinstance(key, str) and key != "" and key.isascii() and not has_control(key)


def has_control(text: str) -> bool:
    """Say whether a text has control characters or white space in it."""
    return any(not c.isprintable() or c.isspace() for c in text)


def is_loopback(host: str) -> bool:
    """Say whether a host, by name or number, is this machine."""
    name = host.lower().rstrip(".")
    if name in LOOPBACK_NAMES or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or PORTS.get(parts.scheme, 0)


def is_same_origin(one: str, other: str) -> bool:
    """Say whether two addresses have scheme, host and port in common."""
    try:
        return origin_of(one) == origin_of(other)
    except ValueError:
        return False


def host_of(url: str) -> str:
    """Return an address's host, for messages."""
    try:
        return urlsplit(url).hostname or "nowhere"
    except ValueError:
        return "nowhere"


def without_secrets(url: str) -> str:
    """Return an address for messages: no user name, no password, no query."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that can't be read"
    if not parts.scheme or not host:  # whatever stands before an @ may be a password
        return re.split(r"[?#]", url)[0].rpartition("@")[2][:60]
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{port}{parts.path}"
