"""The `optidash` command and what it can do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from optidash_integrations import __version__, cli, settings
from optidash_integrations.bulk import DELAY
from optidash_integrations.cli import account as accounts
from optidash_integrations.cli import doctor
from optidash_integrations.cli.cache import cache
from optidash_integrations.cli.files import printable, search
from optidash_integrations.cli.keys import keys
from optidash_integrations.cli.places import here
from optidash_integrations.cli.serve import serve
from optidash_integrations.cli.tasks import (
    PRESETS,
    MistakeError,
    Task,
    from_file,
    limits_from,
    operations,
    perform,
    preset,
    processor_for,
    rehearse,
    way_of,
    work_for,
)
from optidash_integrations.errors import ApiError, OptidashError, SettingsError
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations

FORMATS = ("auto", "jpg", "png", "webp", "avif", "gif", "jp2")
COMPRESSIONS = ("lossless", "low", "medium", "high")


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
    help="Format of the results; auto keeps each file's own, or what stands for it on the web.  "
    "[default: that of the operations, else auto]",
)
@click.option(
    "--operations",
    "document",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="What to do, as the API's JSON document; - is stdin.",
)
@click.option("--preset", "preset_name", metavar="NAME", help="What to do, by its name in FILE.")
@click.option(
    "--presets",
    "preset_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Where presets are kept, TOML or JSON.  [default: {PRESETS}]",
)
@click.option("--width", type=int, metavar="N", help="Longest width, in pixels.")
@click.option("--height", type=int, metavar="N", help="Longest height, in pixels.")
@click.option(
    "--compression",
    type=click.Choice(COMPRESSIONS),
    help="How hard to compress.  [default: that of the operations, else medium]",
)
@click.option("--quality", type=int, metavar="N", help="The encoder's quality, 1 to 100.")
@click.option(
    "--jobs",
    "-j",
    type=click.IntRange(1),
    metavar="N",
    help="Files at a time.  [default: one a core, 16 with the API]",
)
@click.option(
    "--delay",
    type=float,
    metavar="SECONDS",
    help=f"With the API: the pause between two calls, 0 for none.  [default: {DELAY}]",
)
@click.option("--keep-going", "-k", is_flag=True, help="Go on with the others after a failure.")
@click.option(
    "--dry-run", is_flag=True, help="Only say what would be done; send and write nothing."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document at the end.")
def optimize(
    paths: tuple[Path, ...],
    output: Path | None,
    in_place: bool,
    overwrite: bool,
    format_name: str | None,
    document: Path | None,
    preset_name: str | None,
    preset_file: Path | None,
    width: int | None,
    height: int | None,
    compression: str | None,
    quality: int | None,
    jobs: int | None,
    delay: float | None,
    keep_going: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Optimise images: files, and all images in folders.

    What is to be done comes from a preset, from --operations, and from options such as --width;
    where two of them give the same parameter, the later one of these wins. A preset is a table
    presets.NAME in optidash.toml, in the words of the API's document:

    \b
        [presets.card.resize]
        mode = "fit"
        width = 640
        height = 400

    Images keep their size where nothing asks for another, unless OPTIDASH_MAX_WIDTH or
    OPTIDASH_MAX_HEIGHT is set. Results have no metadata. One that shows the same as its original in
    the same format is a copy of that where it would not be smaller, metadata included. Animations
    stay animated in GIF and WebP; another format, asked for by name, gets the first frame, and with
    auto, or through the API, an animation is copied as it is. With --in-place, a result of another
    format lies beside its original, which stays.

    With OPTIDASH_API_KEY or OPTIDASH_API_URL the API does the work. Where its rate limit is reached
    the command waits.

    After a file that failed no other is begun, unless --keep-going is given. Exits with 1 if any
    file failed, or with --dry-run if the calls are more than are left; with 2 for wrong options.
    """
    if bool(output) is in_place:
        raise MistakeError(
            "--output and --in-place exclude each other"
            if output
            else "say where results go: --output DIR, or --in-place to replace the originals"
        )
    if preset_file and not preset_name:
        raise MistakeError("--presets needs --preset NAME, which says which one")
    chosen = settings.read({})
    limits = limits_from(chosen)
    asked = operations({"optimize": {"compression": chosen.compression}}, limits)
    if preset_name:
        asked |= preset(preset_name, preset_file, limits)
    if document:
        asked |= from_file(document, limits)
    asked |= given(width, height, compression, quality, limits)
    with processor_for(chosen) as processor:
        way = way_of(processor, chosen, delay)
        work = work_for(
            processor, chosen, asked, format_name, overwrite=overwrite, keep_going=keep_going
        )
        found = search(paths, processor.reads, output)
        if not (found.originals or found.unreadable):
            names = ", ".join(map(printable, paths))
            click.echo(f"No images that are read here in {names}.", err=True)
        task = Task(work, chosen, found, output, jobs or chosen.threads, as_json)
        is_well = rehearse(task, way) if dry_run else perform(task, way)
    if found.unreadable or not is_well:
        raise click.exceptions.Exit(cli.FAILED)


def given(
    width: int | None,
    height: int | None,
    compression: str | None,
    quality: int | None,
    limits: Limits,
) -> Operations:
    """Return what the options of these names ask for."""
    asked: dict[str, dict[str, object]] = {
        "resize": {"width": width, "height": height},
        "optimize": {"compression": compression},
        "output": {"quality": quality},
    }
    return operations(asked, limits)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def account(as_json: bool) -> None:
    """Show the API account: its calls, its rate limit, and this month's budget.

    The key comes from OPTIDASH_API_KEY. Asking costs none of the account's calls.
    """
    chosen = here().settings()
    if not accounts.has_api(chosen):
        raise MistakeError(accounts.NO_KEY)
    with accounts.ledger_for(chosen) as ledger, accounts.client_for(chosen, ledger) as client:
        try:
            found = client.account()
        except ApiError as error:
            said = accounts.refusal(error, chosen)
            raise click.ClickException(f"{client.config.api_url}: {said}") from error
        facts = (found, client.rate_limit, accounts.budget_of(chosen, ledger))
    if as_json:
        click.echo(json.dumps(accounts.as_document(*facts), indent=2))
    else:
        click.echo("\n".join(accounts.lines(*facts)))
        accounts.budget_note(chosen)


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--offline", is_flag=True, help="Leave out what needs the network.")
def examine(as_json: bool, offline: bool) -> None:
    """Check settings, processor, API and cache, and say what to do where one is not well.

    `optidash doctor` takes settings from the environment, `manage.py optidash doctor` and
    `flask optidash doctor` the site's own. Nothing is written, but for a file in the cache folder
    that is gone at once, and no image is sent.

    Exits with 1 if a check failed.
    """
    findings = []
    for name, finding in doctor.examined(here(), os.environ, is_offline=offline):
        findings.append((name, finding))
        if not as_json:
            doctor.show(name, finding)
    if as_json:
        click.echo(json.dumps(doctor.as_document(findings), indent=2))
    if not doctor.is_well(findings):
        raise click.exceptions.Exit(cli.FAILED)


@click.group(cls=Commands)
def for_site() -> None:
    """Look after the images of this site, with its own settings."""


for command in (account, cache, examine):
    optidash.add_command(command)
    for_site.add_command(command)

for command in (keys, serve):  # a server's, not a site's
    optidash.add_command(command)
