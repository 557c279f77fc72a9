"""Many images, several at a time: each is optimised, kept, skipped or has failed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from optidash_integrations.cli.files import Original, printable
from optidash_integrations.cli.targets import StoppedError, Targets, Writer
from optidash_integrations.engine.plan import Plan
from optidash_integrations.errors import AnimatedImageError, OptidashError
from optidash_integrations.formats import GIF, ICO, JPEG, PNG, SVG, WEBP, Format
from optidash_integrations.limits import Limits
from optidash_integrations.negotiation import base_format
from optidash_integrations.operations import Operations
from optidash_integrations.pool import Pool
from optidash_integrations.processors import ApiProcessor, Processor
from optidash_integrations.variants import Metadata, Variant

if TYPE_CHECKING:
    from optidash_integrations.probes import Probe

T = TypeVar("T")


ANIMATED = "it is animated"
NOT_SMALLER = "it would not be smaller"

MOVING = (WEBP, GIF)
"""Formats in which an animation stays one."""

PLAYED = (*MOVING, PNG)
"""Formats whose frames are read; of an AVIF it is the first one alone."""

DRAWN = (ICO, SVG)
"""What becomes a PNG where each image keeps its format, with transparent pixels or without."""

PLAIN = frozenset({"crop", "resize", "scale", "detect", "optimize", "output"})
"""Operations that a plan tells all about, or that leave the picture as it is."""


class Outcome(Enum):
    """What became of an original."""

    OPTIMISED = "optimised"
    KEPT = "kept"
    SKIPPED = "skipped"
    FAILED = "failed"
    LEFT = "not begun"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an original: sizes in bytes, formats, and in words why it was no better.

    `target` is where the result lies, `metadata` what the processor told of it.
    """

    original: Original
    outcome: Outcome
    before: int = 0
    after: int = 0
    source_format: Format | None = None
    format: Format | None = None
    why: str = ""
    target: Path | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """An original that is worth working on: what its header says, and the result's format."""

    original: Original
    probe: Probe
    output: Format


@dataclass(frozen=True)
class Work:
    """What to do to every image, `output` being None where each keeps its format.

    Without `keep_going` no other image is begun after one has failed.
    """

    processor: Processor
    operations: Operations
    output: Format | None
    limits: Limits
    overwrite: bool
    keep_going: bool = True

    def expected(self, original: Original) -> Format:
        """Return the format that an original's result will have, as far as its head tells."""
        return self.format_of(original.format or JPEG, alpha=False)

    def format_of(self, own: Format, *, alpha: bool) -> Format:
        if self.output:
            return self.output
        if own.name in self.processor.formats:
            return own
        return PNG if own in DRAWN else base_format(own, alpha=alpha)

    def leaves_alone(self, probe: Probe, output: Format) -> bool:
        """Say whether an animation is kept: nobody has asked for its first frame alone."""
        if not probe.is_animated:
            return False
        if isinstance(self.processor, ApiProcessor):
            return True
        return not (self.is_still or (output in MOVING and probe.format in PLAYED))

    @property
    def is_still(self) -> bool:
        """Whether the first frame of an animation is asked for."""
        asked = self.operations.output
        return asked is not None and asked.animated is False

    def shows_the_same(self, probe: Probe) -> bool:
        """Say whether a result shows what its original does."""
        if probe.is_animated and self.is_still:
            return False
        size = (probe.upright_width, probe.upright_height)
        plan = Plan.of(self.operations, *size, self.limits)
        return plan.keeps_pixels and self.operations.canonical().keys() <= PLAIN

    def is_worth_having(self, variant: Variant, probe: Probe, output: Format) -> bool:
        """Say whether a result is to be had in the place of its original."""
        size = (probe.upright_width, probe.upright_height)
        if (variant.width, variant.height) != size or len(variant.content) < probe.bytes:
            return True
        if output is not probe.format and not probe.is_animated:
            return True
        return not self.shows_the_same(probe)


class Batch:
    """Works through originals in `jobs` threads."""

    def __init__(self, work: Work, targets: Targets, writer: Writer) -> None:
        self.work = work
        self.targets = targets
        self.writer = writer
        self.halted = threading.Event()

    def run(
        self, originals: Sequence[Original], jobs: int, done: Callable[[Result], None]
    ) -> Generator[Result]:
        """Yield results in the originals' order; `done` is called in a thread, as they come.

        A caller that stops early, by KeyboardInterrupt too, leaves no file half written.
        """
        pool = Pool(jobs, len(originals), name="optidash-cli")

        def told(future: Future[Result]) -> None:
            if future.exception() is None:
                done(future.result())

        try:
            futures = [pool.submit(partial(self.result, each)).future for each in originals]
            for future in futures:
                future.add_done_callback(told)
            for future in futures:
                yield future.result()
        finally:
            self.writer.close()
            pool.close()

    def result(self, original: Original) -> Result:
        """Return what became of one original."""
        return self.guarded(original, lambda: self.optimised(original))

    def guarded(self, original: Original, work: Callable[[], T]) -> T | Result:
        """Return what work on an original gives; what goes wrong with it is its own affair.

        Without `keep_going` it is the last one that is begun.
        """
        found = self.attempted(original, work)
        is_failed = isinstance(found, Result) and found.outcome is Outcome.FAILED
        if is_failed and not self.work.keep_going:
            self.halted.set()
        return found

    def attempted(self, original: Original, work: Callable[[], T]) -> T | Result:
        try:
            return work()
        except (OptidashError, OSError) as error:
            return failed(original, sentence(error, original))
        except StoppedError:
            raise
        except Exception as error:  # noqa: BLE001  the others go on
            return failed(original, printable(f"{type(error).__name__}: {error}"))

    def optimised(self, original: Original) -> Result:
        job = self.prepared(original)
        if isinstance(job, Result):
            return job
        work = self.work
        if work.leaves_alone(job.probe, job.output):
            return self.kept(original, job.probe, ANIMATED)
        try:
            variant = work.processor.process(
                original.path, work.operations, job.output, work.limits
            )
        except AnimatedImageError:
            return self.kept(original, job.probe, ANIMATED)
        return self.made(job, variant)

    def prepared(self, original: Original) -> Job | Result:
        """Return what is to be done for an original, or why there is nothing; write nothing.

        Raises as `Processor.probe` does.
        """
        if self.halted.is_set():
            return Result(original, Outcome.LEFT)
        work, target = self.work, self.targets.of(original)
        if self.is_there(original, target):
            return skipped(original, target)
        probe = work.processor.probe(original.path, work.limits)
        job = Job(original, probe, work.format_of(probe.format, alpha=probe.alpha))
        if not work.leaves_alone(probe, job.output):
            target = self.targets.of(original, job.output)
            if self.is_there(original, target):
                return skipped(original, target)
        return job

    def made(self, job: Job, variant: Variant) -> Result:
        """Put a result in its place, or the original's own bytes where that is no worse."""
        original, probe, output = job.original, job.probe, job.output
        if not self.work.is_worth_having(variant, probe, output):
            return self.kept(original, probe, NOT_SMALLER, variant.metadata)
        made = Result(
            original,
            Outcome.OPTIMISED,
            probe.bytes,
            len(variant.content),
            probe.format,
            output,
            metadata=variant.metadata,
        )
        return self.written(made, variant.content)

    def kept(
        self, original: Original, probe: Probe, why: str, metadata: Metadata | None = None
    ) -> Result:
        """Put the original's own bytes where a result would go."""
        size, own = probe.bytes, probe.format
        kept = Result(original, Outcome.KEPT, size, size, own, own, why, metadata=metadata)
        return self.written(kept, original.path)

    def written(self, made: Result, content: bytes | Path) -> Result:
        target = self.targets.of(made.original, made.format)
        if self.is_there(made.original, target):
            return skipped(made.original, target)
        if made.outcome is Outcome.OPTIMISED or not self.targets.replaces(made.original, target):
            self.writer.write(target, content)
        return replace(made, target=target)

    def is_there(self, original: Original, target: Path) -> bool:
        """Say whether a target holds something that is not to be overwritten."""
        if self.work.overwrite or self.targets.replaces(original, target):
            return False
        return target.exists()


def failed(original: Original, why: str) -> Result:
    return Result(original, Outcome.FAILED, why=why)


def skipped(original: Original, target: Path) -> Result:
    why = f"{printable(target)} is already there"
    return Result(original, Outcome.SKIPPED, why=why, target=target)


def sentence(error: Exception, original: Original) -> str:
    """Return what an error says, without the name of the file, in printable characters."""
    said = str(error)
    if isinstance(error, OSError) and error.strerror:
        said = error.strerror
        if error.filename and Path(str(error.filename)) != original.path:
            said = f"{error.strerror}: {error.filename}"
    return printable(said.removeprefix(f"{original.path}: "))
