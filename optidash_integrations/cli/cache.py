"""What is in the cache, and forgetting it: `optidash cache stats|list|purge|clear`.

The commands work on the folder and the shared tier that the settings name, while a site runs. Its
processes forget what they have in memory within `fresh_for`.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from optidash_integrations.addresses import without_secrets
from optidash_integrations.cache.disk import LAYOUT, DiskCache
from optidash_integrations.cli.doctor_cache import other_owner
from optidash_integrations.cli.files import printable
from optidash_integrations.cli.places import here
from optidash_integrations.cli.report import size
from optidash_integrations.invalidation import NAME, Wanted, digest_in, label_in
from optidash_integrations.store import Store

if TYPE_CHECKING:
    from optidash_integrations.invalidation import Purged
    from optidash_integrations.settings import Settings

LIMIT = 50
NANOSECONDS = 1_000_000_000
NO_CACHE = "there is no cache beside memory: cache_dir is none, and so is cache_url"


class CacheError(click.ClickException):
    """The cache can't be looked at, or not all of it could be changed."""


class Warnings(logging.Handler):
    """Keeps what the tiers log: they raise nothing."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of a line."""
        self.lines.append(record.getMessage())


@contextmanager
def opened(settings: Settings) -> Iterator[Store]:
    """Give the store that the settings name.

    Raises CacheError where there is none, where the folder is another user's, or afterwards, with
    what the tiers complained of.
    """
    folder = settings.cache_dir if settings.cache_bytes else None
    if folder is None and settings.cache_url is None:
        raise CacheError(NO_CACHE)
    if folder is not None:
        check_owner(folder)
    log, warnings = logging.getLogger("optidash_integrations"), Warnings()
    log.addHandler(warnings)
    try:
        with closing(Store.of(settings)) as store:
            yield store
    finally:
        log.removeHandler(warnings)
    if warnings.lines:
        raise CacheError("; ".join(map(printable, warnings.lines)))


def check_owner(folder: Path) -> None:
    """Raise CacheError where files made here could not be written by the site."""
    own = folder / LAYOUT
    owner = other_owner(own) if own.exists() else ""
    if owner:
        raise CacheError(
            f"{own} belongs to {owner}: run this as that user, which the site should be"
        )


# What there is


@dataclass(frozen=True, slots=True)
class Tier:
    """What a tier holds, and where it is; `budget` in bytes, None where it has no bound here."""

    tier: str
    where: str
    entries: int
    bytes: int
    budget: int | None


def tiers_of(store: Store, settings: Settings) -> list[Tier]:
    """Return what each tier below memory holds."""
    found = []
    for cache in store.lower:
        stats = cache.stats()
        if isinstance(cache, DiskCache):
            found.append(
                Tier("disk", str(cache.folder), stats.entries, stats.bytes, cache.max_bytes)
            )
        else:
            where = str(without_secrets(settings.cache_url or ""))
            found.append(Tier("shared", where, stats.entries, stats.bytes, None))
    return found


@dataclass(frozen=True, slots=True)
class Listed:
    """One source; its numbers are None where only a shared tier knows it.

    `used_at` is in seconds since 1970. What two sources of equal bytes share counts for both.
    """

    name: str
    variants: int | None = None
    bytes: int | None = None
    used_at: float | None = None

    def as_document(self) -> dict[str, object]:
        """Return it as JSON has it."""
        used = datetime.fromtimestamp(self.used_at, UTC) if self.used_at else None
        return {
            "name": self.name,
            "variants": self.variants,
            "bytes": self.bytes,
            "used_at": used.isoformat(timespec="seconds") if used else None,
        }


def listed(store: Store, wanted: Wanted, limit: int) -> tuple[list[Listed], int]:
    """Return at most `limit` sources, the largest first, and how many there are."""
    disks = [tier for tier in store.lower if isinstance(tier, DiskCache)]
    if disks:
        return listed_on_disk(disks[0], wanted, limit)
    labels = sorted({label_in(tag) for tag in store.tiers.sources(NAME)})
    names = [label for label in labels if wanted.has(label)]
    return [Listed(name) for name in names[:limit]], len(names)


def listed_on_disk(disk: DiskCache, wanted: Wanted, limit: int) -> tuple[list[Listed], int]:
    holdings = {holding.source: holding for holding in disk.holdings()}
    groups: defaultdict[str, set[str]] = defaultdict(set)
    for tag in holdings:
        if tag.startswith(NAME) and wanted.has(label_in(tag)):
            groups[label_in(tag)] |= {tag, digest_in(tag)} & holdings.keys()
    found = [
        Listed(
            label,
            sum(holdings[source].bodies for source in sources),
            sum(holdings[source].bytes for source in sources),
        )
        for label, sources in groups.items()
    ]
    found.sort(key=lambda one: (-(one.bytes or 0), one.name))
    shown = found[:limit]
    return [with_use(disk, one, groups[one.name]) for one in shown], len(found)


def with_use(disk: DiskCache, one: Listed, sources: set[str]) -> Listed:
    used_at = max(disk.used_at(source) for source in sources) / NANOSECONDS
    return Listed(one.name, one.variants, one.bytes, used_at)


# What is printed


def lines(sources: Sequence[Listed], total: int) -> Iterator[str]:
    """Yield a list as people read it."""
    if sources:
        yield f"{'variants':>8} {'size':>9}  {'last used (UTC)':<16}  name"
    for one in sources:
        used = datetime.fromtimestamp(one.used_at, UTC) if one.used_at else None
        variants = "?" if one.variants is None else one.variants
        yield (
            f"{variants:>8} {'?' if one.bytes is None else size(one.bytes):>9}  "
            f"{f'{used:%Y-%m-%d %H:%M}' if used else '?':<16}  {printable(one.name)}"
        )
    if total > len(sources):
        yield f"{total - len(sources)} more: --limit shows them"
    if not total:
        yield "nothing is cached"


def described(tier: Tier) -> str:
    """Return a tier as people read it."""
    count = "1 entry" if tier.entries == 1 else f"{tier.entries} entries"
    of_budget = f" of {size(tier.budget)}" if tier.budget is not None else ""
    return f"{tier.tier:<7} {count}, {size(tier.bytes)}{of_budget}, in {printable(tier.where)}"


def told(purged: Purged) -> str:
    """Return what was forgotten."""
    sources = "1 source" if purged.sources == 1 else f"{purged.sources} sources"
    entries = "1 entry" if purged.entries == 1 else f"{purged.entries} entries"
    return f"Forgot {sources}, {entries}." if purged.entries else "Nothing of it was cached."


def soon(settings: Settings) -> str:
    return f"Processes that run forget it within {max(1, settings.fresh_for):g} s."


# Commands


@click.group("cache")
def cache() -> None:
    """Look into the cache, and forget what is in it."""


@cache.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stats(as_json: bool) -> None:
    """Show how much the cache folder and the shared tier hold."""
    chosen = here().settings()
    with opened(chosen) as store:
        found = tiers_of(store, chosen)
    if as_json:
        tiers = [{name: getattr(tier, name) for name in Tier.__slots__} for tier in found]
        click.echo(json.dumps({"tiers": tiers}, indent=2))
    else:
        click.echo("\n".join(map(described, found)))


@cache.command("list")
@click.option("--prefix", default="", metavar="P", help="Only sources whose names start so.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=LIMIT,
    show_default=True,
    metavar="N",
    help="How many to show.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_sources(prefix: str, limit: int, as_json: bool) -> None:
    """Show the sources in the cache, those that take most of it first.

    A source's name is its host and path, its file, or its place in a storage.
    """
    with opened(here().settings()) as store:
        found, total = listed(store, Wanted(prefix, is_prefix=True), limit)
    if as_json:
        sources = [one.as_document() for one in found]
        click.echo(json.dumps({"sources": sources, "total": total}, indent=2))
    else:
        click.echo("\n".join(lines(found, total)))


@cache.command()
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--prefix", metavar="P", help="All sources whose names start so.")
def purge(names: tuple[str, ...], prefix: str | None) -> None:
    """Forget sources: their variants, and what is known of them.

    NAME is as `optidash cache list` shows it, or a path: then it counts on every host, with all
    its queries.
    """
    if not (names or prefix):
        raise click.UsageError("say what to forget: NAME... or --prefix P")
    chosen = here().settings()
    with opened(chosen) as store:
        for name in names:
            click.echo(f"{printable(name)}: {told(store.purge(name))}")
        if prefix:
            click.echo(f"{printable(prefix)}…: {told(store.purge_prefix(prefix))}")
    click.echo(soon(chosen), err=True)


@cache.command()
@click.option("--yes", is_flag=True, help="Don't ask.")
def clear(yes: bool) -> None:
    """Forget everything. What the API is kept account of stays."""
    chosen = here().settings()
    with opened(chosen) as store:
        if not yes:
            for tier in tiers_of(store, chosen):
                click.echo(described(tier))
            click.confirm("Forget all of it?", abort=True)
        store.clear()
    click.echo(f"The cache is empty. {soon(chosen)}", err=True)
