"""What httpx raises, as errors of ours."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from optidash_integrations.errors import (
    ApiError,
    ApiTimeoutError,
    ConnectionFailedError,
    OptionError,
    ProtocolError,
)
from optidash_integrations.guard import RefusedAddressError

DISCONNECTED = ("disconnected", "closed connection", "incomplete")


@contextmanager
def translated() -> Iterator[None]:
    """Turn what httpx raises into errors of ours."""
    try:
        yield
    except httpx.RemoteProtocolError as error:
        raise translation(error) from None  # it quotes the answer, see `unquoted`
    except httpx.HTTPError as error:
        raise translation(error) from error
    except (httpx.InvalidURL, UnicodeError) as error:  # UnicodeError: a name that IDNA forbids
        raise OptionError("url", "an address that can be called", str(error)) from error


def translation(error: httpx.HTTPError) -> ApiError:
    said = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        unsent = isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout)
        return ApiTimeoutError(f"the API did not answer in time: {said}", sent=not unsent)
    if isinstance(error, httpx.LocalProtocolError):
        return ConnectionFailedError(f"the request can't be sent: {said}", is_retryable=False)
    if isinstance(error, httpx.RemoteProtocolError):
        if any(word in said.lower() for word in DISCONNECTED):
            return ConnectionFailedError(f"the connection broke off: {said}")
        return ProtocolError(f"the answer is not HTTP: {unquoted(said)}")
    if isinstance(error, httpx.DecodingError):
        return ProtocolError(f"the answer can't be decoded: {said}")
    if isinstance(error, httpx.ConnectError | httpx.ProxyError | httpx.UnsupportedProtocol):
        final = has_cause(error, ssl.SSLCertVerificationError) or has_cause(
            error, RefusedAddressError
        )
        return ConnectionFailedError(f"no connection: {said}", sent=False, is_retryable=not final)
    return ConnectionFailedError(f"the connection broke off: {said}")


def unquoted(said: str) -> str:
    """Return what is wrong with an answer without its own words: a signature may be among them."""
    return QUOTED.sub("", said)


QUOTED = re.compile(r":? ?(bytearray\()?b['\"].*", re.DOTALL)


def has_cause(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Say whether an error goes back to one of this kind."""
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False
