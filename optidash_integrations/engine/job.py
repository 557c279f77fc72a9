"""What is to be done to one picture, as the steps are told it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from optidash_integrations.colours import WHITE, Colour
from optidash_integrations.engine.inks import CLEAR, over
from optidash_integrations.engine.tools import Tools
from optidash_integrations.engine.watch import Watch
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations

if TYPE_CHECKING:
    from optidash_integrations.engine.plan import Plan
    from optidash_integrations.probes import Probe


EFFECTS = frozenset(
    (
        "super_resolution",
        "rotate",
        "flip",
        "auto",
        "adjust",
        "filter",
        "watermark",
        "text",
        "mask",
        "border",
        "padding",
    )
)
"""The operations that do more than cut and resample."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done to one picture.

    `alpha` says whether the result can have transparent pixels, `background` what lies behind
    them where it can't. With `keeps_values` the pixels' values and the profile stay as they are,
    with `keeps_profile` the colours are worked on and written in the source's own space. `watch`
    stops the work when its time is up, `memo` is for what the first frame of an animation tells
    for all.
    """

    data: bytes
    probe: Probe
    plan: Plan
    operations: Operations = field(default_factory=Operations)
    tools: Tools = field(default_factory=Tools)
    alpha: bool = True
    background: Colour = WHITE
    keeps_values: bool = False
    keeps_profile: bool = False
    limits: Limits = field(default_factory=Limits)
    watch: Watch = field(default_factory=partial(Watch, math.inf))
    memo: dict[str, Any] = field(default_factory=dict)

    @property
    def reads_again(self) -> bool:
        """Whether a step reads pixels more than once, or not from top to bottom."""
        asked = self.operations.canonical()
        return self.plan.search is not None or not asked.keys().isdisjoint(EFFECTS)

    def fill(self, colour: Colour | None) -> Colour:
        """Return the colour of room that a step makes: transparent where none was asked for."""
        wanted = CLEAR if colour is None else colour
        return wanted if self.alpha else over(wanted, self.background)
