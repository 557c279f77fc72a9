"""What `optimize` does with what it was asked for."""

from __future__ import annotations

import json
import os
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from optidash_integrations import settings
from optidash_integrations.bulk import DELAY
from optidash_integrations.cli import report
from optidash_integrations.cli.batch import MOVING, Batch, Outcome, Work
from optidash_integrations.cli.files import Search, printable
from optidash_integrations.cli.rehearsal import Rehearsal, afforded, rehearsed
from optidash_integrations.cli.remote import ApiBatch, Way
from optidash_integrations.cli.targets import Targets, WouldOverwriteError, Writer
from optidash_integrations.errors import OptionError
from optidash_integrations.formats import BY_NAME, Format
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations, Output
from optidash_integrations.processors import ApiProcessor, Processor, choose
from optidash_integrations.settings import Settings

PRESETS = Path("optidash.toml")
"""Where presets are looked for, in the folder that the command runs in."""

STDIN = "-"

HALTED = "Stopped after the first failure; --keep-going goes on with the others."

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
    as_json: bool = False

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
    asked: Operations,
    format_name: str | None,
    *,
    overwrite: bool,
    keep_going: bool,
) -> Work:
    """Return what to do to every image; `format_name` wins over the operations' own.

    Raises MistakeError for a format that is not written here.
    """
    own = asked.output.format if asked.output else None
    label = "--format" if format_name else "output.format"
    name = format_name or own or "auto"
    output = chosen_format(name, processor, label)
    operations = asked | Operations(output=Output(format=name))
    if output and output not in MOVING and operations.output and operations.output.animated is None:
        operations |= Operations(output=Output(animated=False))
    return Work(processor, operations, output, limits_from(chosen), overwrite, keep_going)


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
    limits = replace(chosen.limits, patient=True)
    if "max_width" not in named:
        limits = replace(limits, max_width=chosen.max_pixels)
    return limits if "max_height" in named else replace(limits, max_height=chosen.max_pixels)


def operations(asked: Mapping[str, Mapping[str, object]], limits: Limits) -> Operations:
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


def from_file(path: Path, limits: Limits) -> Operations:
    """Return the operations in a file of JSON, `-` being stdin.

    Raises MistakeError that names the file for what can't be read or is wrong in it.
    """
    name = "stdin" if str(path) == STDIN else printable(path)
    return checked(name, parsed(name, content_of(path), json.loads), limits)


def preset(name: str, path: Path | None, limits: Limits) -> Operations:
    """Return the operations that a file keeps under a name, in `presets`; None is `PRESETS`.

    The file is JSON where its name ends so, else TOML. Raises MistakeError as `from_file` does.
    """
    file = path or PRESETS
    if path is None and not file.exists():
        raise MistakeError(f"--preset needs {PRESETS} in this folder, or --presets FILE")
    label = printable(file)
    read = json.loads if file.suffix.lower() == ".json" else tomllib.loads
    known = parsed(label, content_of(file), read).get("presets", {})
    if not isinstance(known, Mapping) or name not in known:
        names = ", ".join(sorted(map(printable, known))) or "none"
        raise MistakeError(f'{label} has no preset "{printable(name)}"; it has {names}')
    return checked(f'{label}, preset "{printable(name)}"', known[name], limits)


def content_of(path: Path) -> str:
    """Return a file's text, without the mark that some editors put before it."""
    try:
        raw = sys.stdin.buffer.read() if str(path) == STDIN else path.read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise MistakeError(f"{printable(path)}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise MistakeError(f"{printable(path)} is not written in UTF-8") from error


def parsed(name: str, text: str, read: Any) -> Mapping[str, Any]:
    try:
        found = read(text)
    except (ValueError, RecursionError) as error:
        kind = "JSON" if read is json.loads else "TOML"
        raise MistakeError(f"{name} is not {kind}: {error}") from error
    if not isinstance(found, Mapping):
        raise MistakeError(f"{name} holds no object of operations")
    return found


def checked(name: str, document: Mapping[str, object], limits: Limits) -> Operations:
    try:
        return Operations.from_dict(document, limits=limits)
    except OptionError as error:
        raise MistakeError(f"{name}: {error}") from error


def chosen_format(name: str, processor: Processor, label: str) -> Format | None:
    """Return the format of that name, None for auto.

    Raises MistakeError, which begins with `label`, for one that is not written here.
    """
    if name == "auto":
        return None
    if name not in processor.formats:
        names = ", ".join(["auto", *sorted(processor.formats)])
        raise MistakeError(f"{label} takes one of {names} here, not {name}")
    return BY_NAME[name]


def perform(task: Task, way: Way | None) -> bool:
    """Do the work and tell of it; return whether no file failed."""
    started = time.monotonic()
    complain_of_unreadable(task.found)
    if task.found.unreadable and not task.work.keep_going:
        click.echo(HALTED, err=True)
        return False
    writer = Writer(durable=task.output is None)
    if way is None:
        batch = Batch(task.work, task.targets, writer)
    else:
        batch = ApiBatch(task.work, task.targets, writer, way)
    results = []
    originals = task.found.originals
    with (
        report.following(len(originals), silent=task.as_json) as (advance, tell),
        closing(batch.run(originals, task.jobs, advance)) as coming,
    ):
        for each in coming:
            tell(each)
            results.append(each)
    seconds = time.monotonic() - started
    if task.as_json:
        click.echo(report.as_json(results, seconds))
    else:
        report.summarise(results, task.found.unread, seconds)
    if any(each.outcome is Outcome.LEFT for each in results):
        click.echo(HALTED, err=True)
    return not any(each.outcome is Outcome.FAILED for each in results)


def rehearse(task: Task, way: Way | None) -> bool:
    """Say what would be done; return whether no file would fail and all calls can be made.

    It looks at all files, also after one that would fail.
    """
    complain_of_unreadable(task.found)
    work = replace(task.work, keep_going=True)
    rehearsal = Rehearsal(work, task.targets, Writer(durable=False))
    results = []
    with closing(rehearsal.run(task.found.originals, task.jobs, report.ignore)) as coming:
        for each in coming:
            results.append(each)
            if not task.as_json:
                report.say(each, rehearsal.line(each))
    counts = Counter(each.outcome for each in results)
    if task.as_json:
        click.echo(report.as_json(results, None))
    else:
        click.echo(rehearsed(counts))
    calls = counts[Outcome.OPTIMISED]
    fits = way is None or afforded(calls, task.settings, err=task.as_json)
    return fits and not counts[Outcome.FAILED]


def complain_of_unreadable(found: Search) -> None:
    for error in found.unreadable:
        report.complain(printable(str(error.filename)), error.strerror or str(error))
