"""Many images, several at a time: each is optimised, kept, skipped or has failed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from optidash_integrations.cli.files import Original, printable
from optidash_integrations.cli.targets import StoppedError, Targets, Writer
from optidash_integrations.errors import AnimatedImageError, OptidashError
from optidash_integrations.formats import JPEG, Format
from optidash_integrations.limits import Limits
from optidash_integrations.negotiation import base_format
from optidash_integrations.operations import Operations
from optidash_integrations.pool import Pool
from optidash_integrations.processors import Processor
from optidash_integrations.variants import Variant

if TYPE_CHECKING:
    from optidash_integrations.probes import Probe

T = TypeVar("T")


ANIMATED = "it is animated"


class Outcome(Enum):
    """What became of an original."""

    OPTIMISED = "optimised"
    KEPT = "kept"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an original: sizes in bytes, formats, and in words why it was no better."""

    original: Original
    outcome: Outcome
    before: int = 0
    after: int = 0
    source_format: Format | None = None
    format: Format | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """An original that is worth working on: what its header says, and the result's format."""

    original: Original
    probe: Probe
    output: Format


@dataclass(frozen=True)
class Work:
    """What to do to every image, `output` being None where each keeps its format."""

    processor: Processor
    operations: Operations
    output: Format | None
    limits: Limits
    overwrite: bool

    def expected(self, original: Original) -> Format:
        """Return the format that an original's result will have, as far as its head tells."""
        return self.format_of(original.format or JPEG, alpha=False)

    def format_of(self, own: Format, *, alpha: bool) -> Format:
        if self.output:
            return self.output
        return own if own.name in self.processor.formats else base_format(own, alpha=alpha)


class Batch:
    """Works through originals in `jobs` threads."""

    def __init__(self, work: Work, targets: Targets, writer: Writer) -> None:
        self.work = work
        self.targets = targets
        self.writer = writer

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
        """Return what work on an original gives; what goes wrong with it is its own affair."""
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
        work, target = self.work, self.targets.of(original)
        if self.is_there(original, target):
            return skipped(original, target)
        probe = work.processor.probe(original.path, work.limits)
        job = Job(original, probe, work.format_of(probe.format, alpha=probe.alpha))
        if not probe.is_animated:
            target = self.targets.of(original, job.output)
            if self.is_there(original, target):
                return skipped(original, target)
        return job

    def made(self, job: Job, variant: Variant) -> Result:
        """Put a result in its place, or the original's own bytes where that is no worse."""
        original, probe, output = job.original, job.probe, job.output
        if output is probe.format and not is_better(variant, probe):
            return self.kept(original, probe, "it would not be smaller")
        made = Result(
            original, Outcome.OPTIMISED, probe.bytes, len(variant.content), probe.format, output
        )
        return self.written(made, variant.content)

    def kept(self, original: Original, probe: Probe, why: str) -> Result:
        """Put the original's own bytes where a result would go."""
        size, own = probe.bytes, probe.format
        return self.written(
            Result(original, Outcome.KEPT, size, size, own, own, why), original.path
        )

    def written(self, made: Result, content: bytes | Path) -> Result:
        target = self.targets.of(made.original, made.format)
        if self.is_there(made.original, target):
            return skipped(made.original, target)
        if made.outcome is Outcome.OPTIMISED or not self.targets.replaces(made.original, target):
            self.writer.write(target, content)
        return made

    def is_there(self, original: Original, target: Path) -> bool:
        """Say whether a target holds something that is not to be overwritten."""
        if self.work.overwrite or self.targets.replaces(original, target):
            return False
        return target.exists()


def failed(original: Original, why: str) -> Result:
    return Result(original, Outcome.FAILED, why=why)


def skipped(original: Original, target: Path) -> Result:
    return Result(original, Outcome.SKIPPED, why=f"{printable(target)} is already there")


def is_better(variant: Variant, probe: Probe) -> bool:
    """Say whether a result in the source's format is worth having in its place."""
    size = (probe.upright_width, probe.upright_height)
    return (variant.width, variant.height) != size or len(variant.content) < probe.bytes


def sentence(error: Exception, original: Original) -> str:
    """Return what an error says, without the name of the file, in printable characters."""
    said = str(error)
    if isinstance(error, OSError) and error.strerror:
        said = error.strerror
        if error.filename and Path(str(error.filename)) != original.path:
            said = f"{error.strerror}: {error.filename}"
    return printable(said.removeprefix(f"{original.path}: "))
