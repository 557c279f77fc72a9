"""The steps from a source's pixels to those of a result, in the order in which they are done.

Each takes the image and the job and returns the image; a step without work returns what it got.
Of an animation they see one frame at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from optidash_integrations.engine.steps.adjust import adjusted
from optidash_integrations.engine.steps.border import bordered
from optidash_integrations.engine.steps.canvas import on_canvas
from optidash_integrations.engine.steps.colours import eight_bits, flattened, slim
from optidash_integrations.engine.steps.enhance import enhanced
from optidash_integrations.engine.steps.filters import filtered
from optidash_integrations.engine.steps.flip import flipped
from optidash_integrations.engine.steps.mask import masked
from optidash_integrations.engine.steps.padding import padded
from optidash_integrations.engine.steps.resolution import enlarged
from optidash_integrations.engine.steps.rotate import rotated
from optidash_integrations.engine.steps.text import lettered
from optidash_integrations.engine.steps.watermark import watermarked
from optidash_integrations.engine.steps.window import windowed

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.engine.job import Job

__all__ = ["STEPS", "done"]

STEPS = (
    eight_bits,
    windowed,
    on_canvas,
    enlarged,
    rotated,
    flipped,
    enhanced,
    adjusted,
    filtered,
    watermarked,
    lettered,
    masked,
    bordered,
    padded,
    flattened,
    slim,
)


def done(image: pyvips.Image, job: Job) -> pyvips.Image:
    """Return the image after all steps."""
    for step in STEPS:
        image = step(image, job)
    return image
