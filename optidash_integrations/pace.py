"""How long formats take: learned from what was encoded, in seconds a megapixel of the result."""

from __future__ import annotations

import threading

from optidash_integrations.engine.plan import Plan
from optidash_integrations.errors import OptionError
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.records import SourceRecord

LEAST_PIXELS = 200_000
"""What smaller images take is mostly something else than encoding, and tells nothing of larger."""

NEWEST = 0.3
"""How much the newest figure counts against those before."""


class Pace:
    """The pace of each format, by media type; unknown until a first image was encoded."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.known: dict[str, float] = {}

    def learn(self, media_type: str, pixels: int, seconds: float) -> None:
        """Take note of how long a result of so many pixels took."""
        if pixels < LEAST_PIXELS:
            return
        pace = seconds / pixels * 1e6
        with self.lock:
            before = self.known.get(media_type, pace)
            self.known[media_type] = (1 - NEWEST) * before + NEWEST * pace

    def expected(
        self, media_type: str, operations: Operations, record: SourceRecord, limits: Limits
    ) -> float:
        """Return about how many seconds a variant will take; 0 where nothing is known yet."""
        pace = self.known.get(media_type)
        if pace is None:
            return 0.0
        try:
            plan = Plan.of(operations, record.width, record.height, limits)
        except OptionError:
            return 0.0
        return pace * plan.final_width * plan.final_height / 1e6
