"""The address guard: which hosts a URL from elsewhere may lead to.

Whoever opens the socket asks here, and connects to the very address that was checked: a name that
resolves to another one a moment later gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]

# What Python takes for global, and is not: ways to reach an IPv4 address of any kind.
TUNNELS = tuple(
    ipaddress.ip_network(network) for network in ("2002::/16", "2001::/32", "192.88.99.0/24")
)
# All that is handed out of IPv6; outside lie further ways to IPv4 (::/96, 64:ff9b::/96).
UNICAST = ipaddress.ip_network("2000::/3")
DOCUMENTATION = ipaddress.ip_network("3fff::/20")  # RFC 9637, which older Pythons don't know


class RefusedAddressError(Exception):
    """A host is not on the public internet, and nobody has allowed it."""


def is_public(address: str) -> bool:
    """Say whether an IP address lies on the public internet."""
    try:
        found: Address = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    found = mapped or found
    if found.version == 6 and (found not in UNICAST or found in DOCUMENTATION):
        return False
    tunnelled = any(found.version == net.version and found in net for net in TUNNELS)
    return found.is_global and not found.is_multicast and not tunnelled


def resolved(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host. Raises OSError where it has none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{host} is no name of a host") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def checked_addresses(
    host: str, port: int, allowed: Collection[str] = (), resolve: Resolve = resolved
) -> Sequence[str]:
    """Return the addresses to connect to for a host.

    Raises RefusedAddressError where one of them is not public, unless `allowed` has the host's
    name; OSError where there is none.
    """
    addresses = resolve(host, port)
    if host.lower() not in allowed and not all(map(is_public, addresses)):
        raise RefusedAddressError(f"{host} is not on the public internet, and not allowed")
    return addresses
