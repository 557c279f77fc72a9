"""Thousands of images of all formats through one process, whose memory must not keep growing.

    python -m tests.soak.memory --images 5000

Files are whole ones, small and large, still and moving; operations are chosen at random among all.
Prints the resident memory after every fifth part, and ends with 1 where it is more than 10 % larger
after the last than after the first, or where anything but an image or a refusal came out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from optidash_integrations import formats
from optidash_integrations.engine.process import process
from optidash_integrations.engine.tools import Tools
from optidash_integrations.errors import OptidashError, ProcessorError
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from tests.fuzz.cases import OUTPUTS
from tests.fuzz.documents import document
from tests.fuzz.samples import Sample, samples
from tests.fuzz.worker import tools_in
from tests.sites.photos import encoded, pixels

PARTS = 5
GROWTH = 1.10
"""How much larger the memory may be after the last part than after the first."""

THREADS = 2
LIMITS = Limits(max_width=800, max_height=800, svg=True)
SIDES = ((600, 900), (1600, 1200), (3000, 2000))
"""Sizes of photographs beside the small files."""

LARGE = 0.06
"""The part of all images that are such photographs."""

MIB = 1024 * 1024


@dataclass
class Report:
    """What came of the images; `sizes` are the resident bytes after each of them."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    @property
    def levels(self) -> list[float]:
        """Resident bytes after each part: the middle of the sizes in the last tenth of it."""
        part = max(1, len(self.sizes) // PARTS)
        ends = range(part, part * PARTS + 1, part)
        return [statistics.median(self.sizes[end - max(1, part // 10) : end]) for end in ends]

    @property
    def is_good(self) -> bool:
        return not self.wrong and self.levels[-1] <= self.levels[0] * GROWTH

    def __str__(self) -> str:
        levels = ", ".join(f"{level / MIB:.0f}" for level in self.levels)
        made = ", ".join(f"{number} {what}" for what, number in self.counts.most_common())
        return (
            f"{len(self.sizes)} images: {made}\n"
            f"resident memory after each fifth: {levels} MiB, "
            f"grown by {self.levels[-1] / self.levels[0] - 1:+.1%}"
        )


def files() -> tuple[list[Sample], list[Sample]]:
    """Return the whole files that are read, and photographs."""
    small = [sample for sample in samples() if sample.is_good]
    large = [
        Sample(f"photo {side} {name}", encoded(pixels(*side), name), True)
        for side in SIDES
        for name in ("jpeg", "png", "webp")
    ]
    return small, large


def tried(number: int, known: tuple[list[Sample], list[Sample]], tools: Tools) -> str:
    """Process the image of a number; return what came out, or what was raised."""
    chance = Random(f"memory {number}")
    sample = chance.choice(known[chance.random() < LARGE])
    name = chance.choice(OUTPUTS)
    output = formats.BY_NAME[name] if name else None
    try:
        operations = Operations.from_dict(document(chance), limits=LIMITS)
        found = process(sample.data, operations, output, LIMITS, tools)
    except ProcessorError as error:
        return f"! {sample.name} {operations.to_dict()} {error!r}"
    except OptidashError:
        return "refused"
    return found.content_type


def soak(images: int, folder: Path) -> Report:
    """Process so many images, in two threads as a service does."""
    report, known, tools = Report(), files(), tools_in(folder)

    def measured(number: int) -> str:
        what = tried(number, known, tools)
        report.sizes.append(resident())
        return what

    with ThreadPoolExecutor(THREADS) as pool:
        for what in pool.map(measured, range(images)):
            if what.startswith("!"):
                report.wrong.append(what)
            else:
                report.counts[what] += 1
    return report


def resident() -> int:
    """Return this process's resident memory in bytes."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.memory")
    parser.add_argument("--images", type=int, default=5000)
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="optidash-soak-") as folder:
        report = soak(given.images, Path(folder))
    print(f"{report}, in {time.monotonic() - began:.0f} s")
    for sentence in report.wrong:
        print(sentence)
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
