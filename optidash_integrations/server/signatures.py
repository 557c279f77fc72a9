"""Webhooks are signed, so that a receiver knows who sent them (standardwebhooks.com, version 1).

The secret follows from the API key that the request was sent with, so that none need be exchanged:
both sides can tell it, and the server keeps no more of a key than its hash.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping

ID = "webhook-id"
TIMESTAMP = "webhook-timestamp"
SIGNATURE = "webhook-signature"

PREFIX = "whsec_"
VERSION = "v1"
CONTEXT = b"optidash-integrations/webhooks"
TOLERANCE = 300
"""How many seconds a receiver's clock may differ from the sender's."""


def webhook_secret(api_key: str) -> str:
    """Return the secret that deliveries for an API key are signed with, as libraries take it."""
    secret = secret_of(hashlib.sha256(api_key.encode()).digest())
    return PREFIX + base64.b64encode(secret).decode()


def secret_of(digest: bytes) -> bytes:
    """Return the secret for a key of which only the SHA-256 is known."""
    return hmac.digest(digest, CONTEXT, "sha256")


def signed_headers(identity: str, content: bytes, secret: bytes, seconds: int) -> dict[str, str]:
    """Return the headers of a delivery that is sent at a time, in seconds since 1970."""
    return {
        **plain_headers(identity, seconds),
        SIGNATURE: signature(identity, seconds, content, secret),
    }


def plain_headers(identity: str, seconds: int) -> dict[str, str]:
    """Return those of a delivery that nobody signs, since the request came without a key."""
    return {ID: identity, TIMESTAMP: str(seconds)}


def signature(identity: str, seconds: int, content: bytes, secret: bytes) -> str:
    signed = f"{identity}.{seconds}.".encode() + content
    found = hmac.digest(secret, signed, "sha256")
    return f"{VERSION},{base64.b64encode(found).decode()}"


def is_signed(
    headers: Mapping[str, str],
    content: bytes,
    secret: str,
    *,
    clock: Callable[[], float] = time.time,
) -> bool:
    """Say for a receiver whether a delivery was signed with a secret, and not long ago.

    `headers` have names in lower case, `content` is the body as it came.
    """
    try:
        seconds = int(headers.get(TIMESTAMP, ""))
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (ValueError, binascii.Error):
        return False
    expected = signature(headers.get(ID, ""), seconds, content, key)
    given = headers.get(SIGNATURE, "").split()
    found = any(hmac.compare_digest(one.encode(), expected.encode()) for one in given)
    return found and abs(clock() - seconds) <= TOLERANCE
