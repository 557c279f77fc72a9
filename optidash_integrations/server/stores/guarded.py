"""Connections of boto3 that lead to public addresses alone."""

from __future__ import annotations

import socket
from collections.abc import Collection
from typing import Any

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)

from optidash_integrations.guard import RefusedAddressError, checked_addresses


def guard(client: Any, allowed: Collection[str]) -> None:
    """Let a client connect only to addresses that were checked, and to the hosts in `allowed`."""
    manager = client._endpoint.http_session._manager  # botocore has no public way
    manager.pool_classes_by_scheme = {
        "http": pool_of(AWSHTTPConnectionPool, AWSHTTPConnection, allowed),
        "https": pool_of(AWSHTTPSConnectionPool, AWSHTTPSConnection, allowed),
    }


def pool_of(pool: type[Any], connection: type[Any], allowed: Collection[str]) -> type[Any]:
    def connect(self: Any) -> socket.socket:
        return connected(self, allowed)

    # The name in the address stays as it is, and with it Host, SNI and the certificate's check.
    guarded = type(connection.__name__, (connection,), {"_new_conn": connect})
    return type(pool.__name__, (pool,), {"ConnectionCls": guarded})


def connected(connection: Any, allowed: Collection[str]) -> socket.socket:
    """Open a socket to the first address that answers; raises OSError where none does."""
    last = OSError(f"{connection.host} has no address")
    try:
        addresses = checked_addresses(connection.host, connection.port, allowed)
    except RefusedAddressError as error:
        raise OSError(str(error)) from error
    for address in addresses:
        try:
            return socket.create_connection((address, connection.port), connection.timeout)
        except OSError as error:
            last = error
    raise last
