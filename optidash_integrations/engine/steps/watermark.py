"""A picture laid over the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optidash_integrations.engine.watermarks import Watermarks, laid, opened
from optidash_integrations.errors import OptionError

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
    """Return the watermark: from its address where one is given, else the registered one."""
    if asked.url is None:
        return Watermarks(job.tools.watermarks, job.limits).load(asked.id or "")
    if job.tools.fetch is None:
        raise OptionError(
            "watermark.url", "nothing here: no host may be asked for pictures", asked.url
        )
    return opened(job.tools.fetch(asked.url), job.limits)
