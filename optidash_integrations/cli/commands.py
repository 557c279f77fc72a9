"""The `optidash` command and what it can do."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from optidash_integrations import __version__, cli, settings
from optidash_integrations.cli import report
from optidash_integrations.cli.batch import Batch, Outcome, Result, Work
from optidash_integrations.cli.files import Search, printable, search
from optidash_integrations.cli.targets import Targets, WouldOverwriteError, Writer
from optidash_integrations.errors import OptidashError, OptionError, SettingsError
from optidash_integrations.formats import BY_NAME, Format
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.processors import Processor, choose
from optidash_integrations.settings import Settings

FORMATS = ("auto", "jpg", "png", "webp", "avif", "gif")
COMPRESSIONS = ("lossless", "low", "medium", "high")


class MistakeError(click.ClickException):
    """What was asked for can't be done as it was said."""

    exit_code = 2


class Commands(click.Group):
    """A group whose commands end with one sentence and an exit code, never with a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; Ctrl-C is 130, wrong settings are 2, other errors of ours 1."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
            raise click.exceptions.Exit(cli.INTERRUPTED) from None
        except SettingsError as error:
            raise MistakeError(str(error)) from error
        except OptidashError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Commands)
@click.version_option(__version__, prog_name="optidash", message="%(prog)s %(version)s")
def optidash() -> None:
    """Optimise images.

    Settings come from the environment, as OPTIDASH_MAX_PIXELS.
    """


@optidash.command()
@click.argument(
    "paths",
    nargs=-1,
    required=True,
    metavar="PATH...",
    type=click.Path(exists=True, path_type=Path),
)
@click.option(
    "--output",
    "-o",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the results; it gets the folders of PATH.",
)
@click.option("--in-place", is_flag=True, help="Put results in the place of the originals.")
@click.option("--overwrite", is_flag=True, help="Overwrite files that lie where results go.")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(FORMATS),
    default="auto",
    show_default=True,
    help="Format of the results; auto keeps each file's own.",
)
@click.option("--width", type=int, metavar="N", help="Longest width, in pixels.")
@click.option("--height", type=int, metavar="N", help="Longest height, in pixels.")
@click.option(
    "--compression",
    type=click.Choice(COMPRESSIONS),
    help="How hard to compress.  [default: medium]",
)
@click.option("--quality", type=int, metavar="N", help="The encoder's quality, 1 to 100.")
@click.option(
    "--jobs",
    "-j",
    type=click.IntRange(1),
    metavar="N",
    help="Files at a time.  [default: one a core]",
)
def optimize(
    paths: tuple[Path, ...],
    output: Path | None,
    in_place: bool,
    overwrite: bool,
    format_name: str,
    width: int | None,
    height: int | None,
    compression: str | None,
    quality: int | None,
    jobs: int | None,
) -> None:
    """Optimise images: files, and all images in folders.

    Images keep their size where no width or height is given, unless OPTIDASH_MAX_WIDTH or
    OPTIDASH_MAX_HEIGHT is set. Results have no metadata. Where one would not be smaller in the same
    format and size, and for an animated image, it is a copy of the original, metadata included.
    With --in-place, a result of another format lies beside its original, which stays.

    Exits with 1 if any file failed.
    """
    if bool(output) is in_place:
        raise MistakeError(
            "--output and --in-place exclude each other"
            if output
            else "say where results go: --output DIR, or --in-place to replace the originals"
        )
    chosen = settings.read({})
    processor = choose(chosen.processor)
    limits = limits_from(chosen)
    asked: dict[str, dict[str, object]] = {
        "resize": {"width": width, "height": height},
        "optimize": {"compression": compression or chosen.compression},
        "output": {"quality": quality},
    }
    work = Work(
        processor,
        operations(asked, limits),
        chosen_format(format_name, processor),
        limits,
        overwrite,
    )
    started = time.monotonic()
    found = search(paths, processor.reads, output)
    if not (found.originals or found.unreadable):
        click.echo(f"No images that are read here in {', '.join(map(printable, paths))}.", err=True)
    results = run(work, found, output, jobs or chosen.workers)
    report.summarise(results, found.unread, time.monotonic() - started)
    if found.unreadable or any(each.outcome is Outcome.FAILED for each in results):
        raise click.exceptions.Exit(cli.FAILED)


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


def run(work: Work, found: Search, output: Path | None, jobs: int) -> Sequence[Result]:
    """Do the work, tell of each file, and return the results in order."""
    for error in found.unreadable:
        report.complain(printable(str(error.filename)), error.strerror or str(error))
    expected = {each: work.expected(each) for each in found.originals}
    try:
        targets = Targets(output, expected)
    except WouldOverwriteError as error:
        raise MistakeError(
            f"results in --output would overwrite originals such as {error}: "
            "choose another folder, or --in-place"
        ) from error
    results = []
    batch = Batch(work, targets, Writer(durable=output is None))
    with (
        report.following(len(found.originals)) as (advance, tell),
        closing(batch.run(found.originals, jobs, advance)) as coming,
    ):
        for each in coming:
            tell(each)
            results.append(each)
    return results
