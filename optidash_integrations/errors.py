"""Everything this package raises on purpose.

    OptidashError
    ├── SettingsError         a setting is wrong or unknown            (also a ValueError)
    ├── OptionError      422  an operation is wrong or unknown         (also a ValueError)
    │   └── QueryError   400  the same, in the query of an image's address
    ├── ImageError       422  the source is to blame
    │   ├── UnsupportedImageError  415
    │   │   └── AnimatedImageError      would be flattened, so it is left as it is
    │   ├── ImageTooLargeError     413
    │   ├── BrokenImageError       422
    │   └── DeadlyImageError       422  a process that worked on it came to its end
    ├── SourceNotFoundError   404
    ├── AccessError      403  the address is not signed, or not rightly
    │   ├── ExpiredError          or not any more (the status is a setting)
    │   └── EarlyError            or not yet
    ├── ProcessorError   500  the processor is to blame
    │   ├── ProcessorMissingError  it is not installed
    │   ├── TooSlowError           the work took longer than allowed
    │   └── ForkedTooLateError     it was started before this process was forked
    ├── BusyError        503  nobody is to blame, now is not the time
    │   ├── SourceChangedError
    │   ├── QueueFullError
    │   ├── DeadlineError
    │   ├── ReadOnlyError
    │   └── CircuitOpenError       the API failed too often, and is left alone
    └── ApiError              a call of the API came to nothing
        ├── AuthenticationError      401, 403   (also a ProcessorError, as those below)
        ├── QuotaExceededError       402
        ├── InvalidOperationsError   400, 422
        ├── RequestRefusedError      any other 4xx
        ├── RejectedImageError       415        (also an UnsupportedImageError)
        ├── RejectedSizeError        413        (also an ImageTooLargeError)
        ├── RateLimitError           429        (also a BusyError)
        ├── BudgetExceededError                 (also a BusyError)
        ├── ApiUnavailableError                 (also a ProcessorError)
        │   ├── ServerError          5xx
        │   ├── ConnectionFailedError
        │   │   └── ApiTimeoutError
        │   └── DownloadError
        └── ProtocolError                       (also a ProcessorError)

Each class knows the status that an image endpoint answers (`public_status`) and a sentence fit for
strangers (`public`); the message is for the site's own log. The statuses beside the `ApiError`s are
those of the API's answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class OptidashError(Exception):
    """Anything this package raises on purpose."""

    public_status = 500
    public = "The image could not be prepared."


class SettingsError(OptidashError, ValueError):
    """One or more settings that are wrong or unknown; `problems` holds a sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[Any, ...]:
        """Be made again in another process."""
        return type(self), (self.problems,)


class OptionError(OptidashError, ValueError):
    """An operation or parameter that is unknown or out of range.

    `name` is its name as the caller wrote it, `expected` what is accepted, `got` what came.
    """

    public_status = 422
    public = "The image options are not valid."

    def __init__(self, name: str, expected: str, got: object) -> None:
        super().__init__(f"{name} takes {expected}, not {shown(got)}")
        self.name = name
        self.expected = expected
        self.got = got

    def __reduce__(self) -> tuple[Any, ...]:
        """Be made again in another process; what came may not get there, its words do."""
        return remade, (type(self), self.name, self.expected, str(self))


def remade(kind: type[OptionError], name: str, expected: str, message: str) -> OptionError:
    """Return an OptionError from another process."""
    error = kind(name, expected, None)
    error.args = (message,)
    return error


class QueryError(OptionError):
    """An image option in an address that is unknown or out of range."""

    public_status = 400


class ImageError(OptidashError):
    """The source itself can't be processed; trying again would not help until it changes."""

    public_status = 422
    public = "The image could not be read."


class UnsupportedImageError(ImageError):
    """Not an image, or of a type that this processor does not read or write."""

    public_status = 415
    public = "This type of image is not supported."


class AnimatedImageError(UnsupportedImageError):
    """Animated, and this processor would flatten it; whoever meets this keeps the source."""


class ImageTooLargeError(ImageError):
    """More bytes, pixels or frames than the settings allow."""

    public_status = 413
    public = "The image is too large."


class BrokenImageError(ImageError):
    """Of a known type, but damaged."""


class DeadlyImageError(ImageError):
    """A process that worked on the source came to its end, so nobody tries again."""


class SourceNotFoundError(OptidashError):
    """No image of this name."""

    public_status = 404
    public = "There is no such image."


class AccessError(OptidashError):
    """The address is not signed, or its signature is wrong or expired."""

    public_status = 403
    public = "This address is not signed, or its signature is not valid."


class ExpiredError(AccessError):
    """The address is rightly signed, and was good until a moment that has passed."""

    public = "This address has expired."


class EarlyError(AccessError):
    """The address is rightly signed, and good from a moment on that is to come."""

    public = "This address is not valid yet."


class ProcessorError(OptidashError):
    """The processor failed through no fault of the source."""


class ProcessorMissingError(ProcessorError):
    """The processor that the settings name is not installed."""


class TooSlowError(ProcessorError):
    """The work on the source took longer than `max_seconds` allows."""

    public = "The image takes too long to prepare."


class ForkedTooLateError(ProcessorError):
    """The engine was used before this process was forked, and can't be used in it."""


class BusyError(OptidashError):
    """It can't be done now; later it may."""

    public_status = 503
    public = "The image is not ready yet."


class SourceChangedError(BusyError):
    """The source changed between being looked at and being worked on."""


class QueueFullError(BusyError):
    """As many jobs wait as the `queue` setting allows, or those before this one take too long."""


class DeadlineError(BusyError):
    """The result was not ready within the `deadline` setting."""


class ReadOnlyError(BusyError):
    """There is no such variant, and the `read_only` setting lets none be made."""


class CircuitOpenError(BusyError):
    """The API has failed too often lately, or asked to be left alone for a while."""


class ApiError(OptidashError):
    """A call of the API came to nothing.

    `status` is the HTTP status of its answer, None where there was none; `request_id` the id that
    it gave the call, or nothing; `message` its own words where it said any; `document` the whole
    error document; `seconds` how long it wants to be left alone, None where it did not say.
    `is_retryable` says whether the same call may do better later.
    """

    is_retryable = False

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        request_id: str = "",
        document: Mapping[str, object] | None = None,
        seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.request_id = request_id
        self.document = document
        self.seconds = seconds


class AuthenticationError(ApiError, ProcessorError):
    """The key is missing, wrong, or not allowed to do this."""


class QuotaExceededError(ApiError, ProcessorError):
    """The account has no calls left."""


class InvalidOperationsError(ApiError, ProcessorError):
    """The API does not accept the operations, or could not read the image; it says which."""


class RequestRefusedError(ApiError, ProcessorError):
    """The API refused for another reason: no such address or webhook, a conflict."""


class RejectedImageError(ApiError, UnsupportedImageError):
    """The API does not read images of this type."""


class RejectedSizeError(ApiError, ImageTooLargeError):
    """The image is larger than the API takes."""


class RateLimitError(ApiError, BusyError):
    """Too many calls; `seconds` is when there may be more, None where nothing tells."""

    is_retryable = True


class BudgetExceededError(ApiError, BusyError):
    """As many calls were made this month as `monthly_budget` allows."""


class ApiUnavailableError(ApiError, ProcessorError):
    """The API can't be reached, or fails; later it may not."""

    is_retryable = True


class ServerError(ApiUnavailableError):
    """The API answered that it failed; after 500, 502, 503 and 504 it is worth another try."""

    def __init__(self, message: str, *, status: int | None = None, **facts: Any) -> None:
        super().__init__(message, status=status, **facts)
        self.is_retryable = status in PASSING


PASSING = frozenset({500, 502, 503, 504})


class ConnectionFailedError(ApiUnavailableError):
    """There was no connection, or it broke off. `sent` says whether the call may have arrived."""

    def __init__(self, message: str, *, sent: bool = True, is_retryable: bool = True) -> None:
        super().__init__(message)
        self.sent = sent
        self.is_retryable = is_retryable


class ApiTimeoutError(ConnectionFailedError):
    """The API was silent for longer than `timeout`, or sent its answer too slowly."""


class DownloadError(ApiUnavailableError):
    """The image that came is not whole, or not the one that its metadata tell of."""


class ProtocolError(ApiError, ProcessorError):
    """The API's answer can't be understood, or is not what was asked for."""


class Said:
    """Words of ours in the place of a value that is not to be shown, or has no text."""

    def __init__(self, words: str) -> None:
        self.words = words

    def __repr__(self) -> str:
        return self.words


def shown(value: object, limit: int = 60) -> str:
    """Return `value` as a short, printable piece of a message, at most `limit` characters."""
    try:
        text = f'"{value}"' if isinstance(value, str) else repr(value)
    except ValueError:  # an integer of more digits than Python writes
        text = type(value).__name__
    text = text.encode("ascii", "backslashreplace").decode("ascii")
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "~"
