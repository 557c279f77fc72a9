"""A clock that is set by hand."""

from __future__ import annotations

from datetime import UTC, datetime


class Clock:
    """Seconds since 1970 that pass only when a test says so."""

    def __init__(self, moment: str = "2026-11-20T12:00:00") -> None:
        self.seconds = 0.0
        self.set(moment)

    def __call__(self) -> float:
        return self.seconds

    def set(self, moment: str) -> None:
        """Set the time, in UTC."""
        self.seconds = datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
