"""Figures of two things, taken in turns, and the ratio between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.load import Load

PER_SECOND, MILLISECONDS, MEGABYTES = "requests/s", "ms", "MB"


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds, the seconds of one, and what makes the load."""

    load: Load
    seconds: float
    rounds: int


@dataclass(frozen=True)
class Comparison:
    """What one thing did beside another, round by round; both figures in `unit`."""

    case: str
    ours: str
    against: str
    unit: str
    figures: tuple[float, ...]
    others: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """Ours to the other, of each round."""
        return [ours / other for ours, other in zip(self.figures, self.others, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the rounds."""
        return median(self.ratios)

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest ratio of a round."""
        return min(self.ratios), max(self.ratios)

    @property
    def added(self) -> float:
        """How much more ours is than the other: the median of the rounds, in `unit`."""
        return median(ours - other for ours, other in zip(self.figures, self.others, strict=True))

    def document(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        low, high = self.spread
        return {
            "case": self.case,
            "ours": self.ours,
            "against": self.against,
            "unit": self.unit,
            "better": "higher" if self.unit == PER_SECOND else "lower",
            "ratio": round(self.ratio, 4),
            "lowest": round(low, 4),
            "highest": round(high, 4),
            "added": round(self.added, 3),
            "our_figures": [round(figure, 2) for figure in self.figures],
            "other_figures": [round(figure, 2) for figure in self.others],
        }


def in_turns(takers: Sequence[Callable[[], float]], rounds: int) -> list[tuple[float, ...]]:
    """Take a figure of each in turn, `rounds` times: A B C A B C …; return those of each."""
    taken = [tuple(take() for take in takers) for _ in range(rounds)]
    return list(zip(*taken, strict=True))


def by_round(figures: Sequence[float], size: int) -> tuple[float, ...]:
    """Return the median of each `size` figures."""
    return tuple(median(figures[first : first + size]) for first in range(0, len(figures), size))
