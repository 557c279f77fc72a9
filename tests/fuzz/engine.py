"""Damaged files and operations chosen at random, through the engine, for as long as asked.

    python -m tests.fuzz.engine --seconds 600
    python -m tests.fuzz.engine --again build/fuzz/8-1234-made_apng.json

Every case has to end in a variant that is what it says, or in an error of ours that blames the
source or the operations, in time and within the memory allowed. What does not is kept in
`build/fuzz`. Prints a table, and ends with 1 where anything was kept. The seed and the number in a
finding's name bring the same case about again, as does its file.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.fuzz.cases import Case, case_of
from tests.fuzz.samples import samples
from tests.fuzz.worker import Outcome, Worker

KEPT = Path("build") / "fuzz"
MIB = 1024 * 1024


@dataclass
class Report:
    """What came of all cases."""

    counts: Counter[str] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)
    slowest: float = 0.0
    peak: int = 0
    greediest: str = ""

    def add(self, case: Case, outcome: Outcome, folder: Path) -> None:
        word = outcome.detail.partition(":")[0]
        self.counts[f"{outcome.kind}: {word}" if outcome.is_good else outcome.kind] += 1
        self.slowest = max(self.slowest, outcome.seconds)
        if outcome.peak > self.peak:
            self.peak, self.greediest = outcome.peak, case.name
        if not outcome.is_good:
            path = case.keep(folder)
            self.found.append(f"{path}: {outcome.kind}: {outcome.detail}")
            print(self.found[-1], flush=True)

    def __str__(self) -> str:
        rows = [f"{number:8}  {what}" for what, number in self.counts.most_common()]
        return "\n".join(
            [
                *rows,
                f"{self.counts.total()} cases, {len(self.found)} findings, "
                f"slowest {self.slowest:.1f} s, "
                f"memory at most {self.peak / MIB:.0f} MiB (in {self.greediest})",
            ]
        )


def fuzz(cases: Iterator[Case], seconds: float, folder: Path) -> Report:
    """Try cases until there are none or time is up."""
    report = Report()
    end = time.monotonic() + seconds
    folder.mkdir(parents=True, exist_ok=True)
    worker = Worker(folder / "errors.log")
    try:
        for case in cases:
            report.add(case, worker.outcome(case), folder)
            if time.monotonic() > end:
                break
    finally:
        worker.stop()
    return report


def cases_from(seed: int, first: int) -> Iterator[Case]:
    """Yield cases for ever, from a number on."""
    known = samples()
    return (case_of(seed, number, known) for number in count(first))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.engine")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--again", type=Path, nargs="+", help="findings to try once more")
    parser.add_argument("--folder", type=Path, default=KEPT, help="where findings are kept")
    given = parser.parse_args()
    again = [Case.read(path) for path in given.again or ()]
    cases = iter(again) if again else cases_from(given.seed, given.first)
    report = fuzz(cases, given.seconds, given.folder)
    print(report)
    return 1 if report.found else 0


if __name__ == "__main__":
    sys.exit(main())
