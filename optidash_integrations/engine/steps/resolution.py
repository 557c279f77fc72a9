"""Enlarging by a whole factor, with details where a model knows any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optidash_integrations.engine.superres import enlarge

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.engine.job import Job


def enlarged(image: pyvips.Image, job: Job) -> pyvips.Image:
    factor = job.plan.factor
    return enlarge(image, factor, job.tools.super_resolution_model) if factor > 1 else image
