"""Everything this package raises on purpose.

    OptidashError
    ├── SettingsError         a setting is wrong or unknown            (also a ValueError)
    ├── OptionError      422  an operation is wrong or unknown         (also a ValueError)
    │   └── QueryError   400  the same, in the query of an image's address
    ├── ImageError       422  the source is to blame
    │   ├── UnsupportedImageError  415
    │   │   └── AnimatedImageError      would be flattened, so it is left as it is
    │   ├── ImageTooLargeError     413
    │   └── BrokenImageError       422
    ├── SourceNotFoundError   404
    ├── AccessError      403  the address is not signed, or not rightly
    ├── ProcessorError   500  the processor is to blame
    │   ├── ProcessorMissingError  it is not installed
    │   └── ForkedTooLateError     it was started before this process was forked
    └── BusyError        503  nobody is to blame, now is not the time
        ├── SourceChangedError
        ├── QueueFullError
        └── DeadlineError

Each class knows the status that an image endpoint answers and a sentence fit for strangers
(`public`); the message is for the site's own log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class OptidashError(Exception):
    """Anything this package raises on purpose."""

    status = 500
    public = "The image could not be prepared."


class SettingsError(OptidashError, ValueError):
    """One or more settings that are wrong or unknown; `problems` holds a sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class OptionError(OptidashError, ValueError):
    """An operation or parameter that is unknown or out of range.

    `name` is its name as the caller wrote it, `expected` what is accepted, `got` what came.
    """

    status = 422
    public = "The image options are not valid."

    def __init__(self, name: str, expected: str, got: object) -> None:
        super().__init__(f"{name} takes {expected}, not {shown(got)}")
        self.name = name
        self.expected = expected
        self.got = got


class QueryError(OptionError):
    """An image option in an address that is unknown or out of range."""

    status = 400


class ImageError(OptidashError):
    """The source itself can't be processed; trying again would not help until it changes."""

    status = 422
    public = "The image could not be read."


class UnsupportedImageError(ImageError):
    """Not an image, or of a type that this processor does not read or write."""

    status = 415
    public = "This type of image is not supported."


class AnimatedImageError(UnsupportedImageError):
    """Animated, and this processor would flatten it; whoever meets this keeps the source."""


class ImageTooLargeError(ImageError):
    """More bytes, pixels or frames than the settings allow."""

    status = 413
    public = "The image is too large."


class BrokenImageError(ImageError):
    """Of a known type, but damaged."""


class SourceNotFoundError(OptidashError):
    """No image of this name."""

    status = 404
    public = "There is no such image."


class AccessError(OptidashError):
    """The address is not signed, or its signature is wrong or expired."""

    status = 403
    public = "This address is not signed, or its signature is not valid."


class ProcessorError(OptidashError):
    """The processor failed through no fault of the source."""


class ProcessorMissingError(ProcessorError):
    """The processor that the settings name is not installed."""


class ForkedTooLateError(ProcessorError):
    """The engine was used before this process was forked, and can't be used in it."""


class BusyError(OptidashError):
    """It can't be done now; later it may."""

    status = 503
    public = "The image is not ready yet."


class SourceChangedError(BusyError):
    """The source changed between being looked at and being worked on."""


class QueueFullError(BusyError):
    """As many jobs wait as the `queue` setting allows, or those before this one take too long."""


class DeadlineError(BusyError):
    """The result was not ready within the `deadline` setting."""


def shown(value: object, limit: int = 60) -> str:
    """Return `value` as a short, printable piece of a message, at most `limit` characters."""
    try:
        text = f'"{value}"' if isinstance(value, str) else repr(value)
    except ValueError:  # an integer of more digits than Python writes
        text = type(value).__name__
    text = text.encode("ascii", "backslashreplace").decode("ascii")
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "~"
