"""What the server answers when it does not do what it was asked."""

from __future__ import annotations

from typing import Any

from optidash_integrations.errors import OptidashError
from optidash_integrations.exchange import Headers


class RefusedError(OptidashError):
    """A request that is answered with an error.

    `public_status` is its status, `public` the message that its JSON carries, and `headers` go
    with it.
    """

    def __init__(self, message: str, headers: Headers | None = None) -> None:
        super().__init__(message)
        self.public = message
        self.headers: Headers = headers or []

    def __reduce__(self) -> tuple[Any, ...]:
        """Be made again in another process."""
        return type(self), (self.public, self.headers)


class ForbiddenError(RefusedError):
    """The key is valid, and not for this."""

    public_status = 403


class MissingError(RefusedError):
    """There is no such thing, or it is not the caller's."""

    public_status = 404


class TakenError(RefusedError):
    """Another one has this name already."""

    public_status = 409


class InvalidError(RefusedError):
    """What was sent can be read, and is not what is taken."""

    public_status = 422
