"""What `optimize` does with what it was asked for."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click

from optidash_integrations import settings
from optidash_integrations.bulk import DELAY
from optidash_integrations.cli import report
from optidash_integrations.cli.batch import Batch, Outcome, Work
from optidash_integrations.cli.files import Search, printable
from optidash_integrations.cli.rehearsal import Rehearsal, afforded, rehearsed
from optidash_integrations.cli.remote import ApiBatch, Way
from optidash_integrations.cli.targets import Targets, WouldOverwriteError, Writer
from optidash_integrations.errors import OptionError
from optidash_integrations.formats import BY_NAME, Format
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.processors import ApiProcessor, Processor, choose
from optidash_integrations.settings import Settings

LONGEST_DELAY = 60.0
"""Seconds that one may ask for between two calls."""


class MistakeError(click.ClickException):
    """What was asked for can't be done as it was said."""

    exit_code = 2


@dataclass(frozen=True)
class Task:
    """What `optimize` was asked for, and the files it found."""

    work: Work
    settings: Settings
    found: Search
    output: Path | None
    jobs: int

    @property
    def targets(self) -> Targets:
        """Where results go. Raises MistakeError where they would overwrite originals."""
        try:
            return Targets(
                self.output, {each: self.work.expected(each) for each in self.found.originals}
            )
        except WouldOverwriteError as error:
            raise MistakeError(
                f"results in --output would overwrite originals such as {error}: "
                "choose another folder, or --in-place"
            ) from error


@contextmanager
def processor_for(chosen: Settings) -> Iterator[Processor]:
    """Give the processor that the settings choose; what it holds open is closed."""
    processor = choose(chosen)
    try:
        yield processor
    finally:
        if isinstance(processor, ApiProcessor):
            processor.close()


def work_for(
    processor: Processor,
    chosen: Settings,
    asked: dict[str, dict[str, object]],
    format_name: str,
    *,
    overwrite: bool,
) -> Work:
    """Return what to do to every image. Raises MistakeError for a wrong option."""
    limits = limits_from(chosen)
    output = chosen_format(format_name, processor)
    return Work(processor, operations(asked, limits), output, limits, overwrite)


def way_of(processor: Processor, chosen: Settings, delay: float | None) -> Way | None:
    """Return how the API is called, None where it is not. Raises MistakeError for the delay."""
    if not isinstance(processor, ApiProcessor):
        if delay is not None:
            raise MistakeError("--delay is for the API, and no OPTIDASH_API_KEY chooses it")
        return None
    seconds = DELAY if delay is None else delay
    if not 0 <= seconds <= LONGEST_DELAY:
        raise MistakeError(f"--delay takes 0 to {LONGEST_DELAY:.0f} seconds, not {seconds:g}")
    return Way(processor, chosen, seconds, partial(click.echo, err=True))


def limits_from(chosen: Settings) -> Limits:
    """Return the settings' limits, on a result's sides only those that the environment sets."""
    named = {name.removeprefix(settings.PREFIX).lower() for name in os.environ}
    sides = {"max_width", "max_height"} - named
    return replace(chosen.limits, **dict.fromkeys(sides, chosen.max_pixels))


def operations(asked: dict[str, dict[str, object]], limits: Limits) -> Operations:
    """Return the operations that options ask for. Raises MistakeError that names the option."""
    given = {
        name: {word: value for word, value in parameters.items() if value is not None}
        for name, parameters in asked.items()
    }
    try:
        return Operations.from_dict({k: v for k, v in given.items() if v}, limits=limits)
    except OptionError as error:
        option = error.name.rpartition(".")[2]
        raise MistakeError(f"--{option} takes {error.expected}, not {error.got}") from error


def chosen_format(name: str, processor: Processor) -> Format | None:
    """Return the format of that name, None for auto.

    Raises MistakeError for one that is not written here.
    """
    if name == "auto":
        return None
    if name not in processor.formats:
        names = ", ".join(["auto", *sorted(processor.formats)])
        raise MistakeError(f"--format takes one of {names} here, not {name}")
    return BY_NAME[name]


def perform(task: Task, way: Way | None) -> bool:
    """Do the work and tell of it; return whether no file failed."""
    started = time.monotonic()
    complain_of_unreadable(task.found)
    writer = Writer(durable=task.output is None)
    if way is None:
        batch = Batch(task.work, task.targets, writer)
    else:
        batch = ApiBatch(task.work, task.targets, writer, way)
    results = []
    originals = task.found.originals
    with (
        report.following(len(originals)) as (advance, tell),
        closing(batch.run(originals, task.jobs, advance)) as coming,
    ):
        for each in coming:
            tell(each)
            results.append(each)
    report.summarise(results, task.found.unread, time.monotonic() - started)
    return not any(each.outcome is Outcome.FAILED for each in results)


def rehearse(task: Task, way: Way | None) -> bool:
    """Say what would be done; return whether no file would fail and all calls can be made."""
    complain_of_unreadable(task.found)
    rehearsal = Rehearsal(task.work, task.targets, Writer(durable=False))
    counts: Counter[Outcome] = Counter()
    with closing(rehearsal.run(task.found.originals, task.jobs, report.ignore)) as coming:
        for each in coming:
            counts[each.outcome] += 1
            report.say(each, rehearsal.line(each))
    click.echo(rehearsed(counts))
    fits = way is None or afforded(counts[Outcome.OPTIMISED], task.settings)
    return fits and not counts[Outcome.FAILED]


def complain_of_unreadable(found: Search) -> None:
    for error in found.unreadable:
        report.complain(printable(str(error.filename)), error.strerror or str(error))
