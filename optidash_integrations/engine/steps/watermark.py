"""A picture laid over the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optidash_integrations.engine.watermarks import Watermarks, laid, opened
from optidash_integrations.errors import (
    BrokenImageError,
    ImageError,
    ImageTooLargeError,
    OptionError,
    Said,
    SourceNotFoundError,
    UnsupportedImageError,
)

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.engine.job import Job
    from optidash_integrations.operations import Watermark


def watermarked(image: pyvips.Image, job: Job) -> pyvips.Image:
    asked = job.operations.watermark
    if asked is None or not asked.has_effect:
        return image
    mark = job.memo.get("watermark")
    if mark is None:
        mark = job.memo["watermark"] = mark_for(asked, job)
    return laid(
        image,
        mark,
        gravity=asked.gravity or "center",
        padding=asked.padding or 0,
        opacity=1.0 if asked.opacity is None else asked.opacity,
        size=asked.size,
        tile=bool(asked.tile),
    )


def mark_for(asked: Watermark, job: Job) -> pyvips.Image:
    """Return the watermark: from its address where one is given, else the registered one.

    Raises OptionError where it can't be read: the source is not to blame for that.
    """
    name = "watermark.id" if asked.url is None else "watermark.url"
    try:
        if asked.url is None:
            return Watermarks(job.tools.watermarks, job.limits).load(asked.id or "")
        if job.tools.fetch is None:
            raise OptionError(name, "nothing here: no host may be asked for pictures", asked.url)
        return opened(job.tools.fetch(asked.url), job.limits)
    except (ImageError, SourceNotFoundError) as error:
        found = next(
            (words for kind, words in UNREAD if isinstance(error, kind)), "one that is gone"
        )
        raise OptionError(name, "a picture that can be read here", Said(found)) from error


UNREAD = (
    (ImageTooLargeError, "one past the limits"),
    (BrokenImageError, "a damaged one"),
    (UnsupportedImageError, "one of a format that is not read"),
)
