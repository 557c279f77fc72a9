"""The keys of the self-hosted server: `optidash keys create|list|rename|change|revoke`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from optidash_integrations.cli.files import printable
from optidash_integrations.cli.report import Row, print_plain

if TYPE_CHECKING:
    from optidash_integrations.server.keys import Key, Keys
    from optidash_integrations.server.usage import Usage

NO_SERVER = 'optidash keys needs the extra "server": pip install "optidash-integrations[server]"'
DATABASE_VARIABLE = "OPTIDASH_DATABASE_URL"
NEEDED = frozenset({"limits", "sqlalchemy"})

RATE_HELP = "Requests in a period, such as 600/minute or 5000/15 minutes"
QUOTA_HELP = "Calls a month"

HEAD: Row = ("Key", "Rate limit", "Calls a month", "Used", "Made on")
DEFAULT, NONE = "default", "none"

in_database = click.option(
    "--database",
    "url",
    envvar=DATABASE_VARIABLE,
    show_envvar=True,
    metavar="URL",
    help="sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME.  [default: a file of yours]",
)
as_document = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def opened(url: str | None) -> Iterator[tuple[Keys, Usage]]:
    """Give the keys of a server, and what they have used; its database is closed in the end."""
    try:
        from optidash_integrations.server.database import Database, default_url
        from optidash_integrations.server.keys import Keys
        from optidash_integrations.server.usage import Usage
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in NEEDED:
            raise
        raise click.ClickException(NO_SERVER) from error
    with closing(Database(url or default_url())) as database:
        yield Keys(database), Usage(database)


@click.group("keys")
def keys() -> None:
    """Make, list and revoke the keys of your own server, `optidash serve`."""


@keys.command()
@click.argument("name")
@click.option("--primary", is_flag=True, help="Let the key make others over the API.")
@click.option("--rate-limit", metavar="RATE", help=f"{RATE_HELP}; else the server's.")
@click.option("--monthly-quota", type=int, metavar="N", help=f"{QUOTA_HELP}; else without end.")
@in_database
def create(
    name: str, primary: bool, rate_limit: str | None, monthly_quota: int | None, url: str | None
) -> None:
    """Make a key, and print it.

    It is shown this once: the database holds no more than its hash.
    """
    with opened(url) as (all_keys, _):
        key, secret = all_keys.create(
            name, is_primary=primary, rate_limit=rate_limit, monthly_quota=monthly_quota
        )
    click.echo(f"The key of {printable(key.path)}; it can't be shown again:", err=True)
    click.echo(secret)


@keys.command("list")
@click.option("--all", "revoked", is_flag=True, help="Revoked keys too.")
@as_document
@in_database
def list_keys(revoked: bool, as_json: bool, url: str | None) -> None:
    """Show the keys in use, and how many calls each has made this month.

    What a primary key's own keys have used counts for it too.
    """
    with opened(url) as (all_keys, usage):
        found, used = all_keys.all(revoked=revoked), usage.used()
    if as_json:
        click.echo(json.dumps({"keys": [document(key, used) for key in found]}, indent=2))
    elif found:
        print_plain(HEAD, [row(key, used) for key in found])
    else:
        click.echo("There are no keys: optidash keys create NAME makes one.", err=True)


@keys.command()
@click.argument("name")
@click.argument("new_name")
@in_database
def rename(name: str, new_name: str, url: str | None) -> None:
    """Give a key another name.

    NAME is as `optidash keys list` shows it: shop, or shop/customer for a key that shop has made.
    """
    with opened(url) as (all_keys, _):
        key = all_keys.rename(all_keys.find(name), new_name)
    click.echo(f"{printable(name)} is now {printable(key.path)}.", err=True)


@keys.command()
@click.argument("name")
@click.option("--rate-limit", metavar="RATE", help=f"{RATE_HELP}; default for the server's.")
@click.option("--monthly-quota", metavar="N", help=f"{QUOTA_HELP}; none for no end.")
@in_database
def change(name: str, rate_limit: str | None, monthly_quota: str | None, url: str | None) -> None:
    """Change what a key may do, from its next request on."""
    values = changes(rate_limit, monthly_quota)
    with opened(url) as (all_keys, _):
        key = all_keys.change(all_keys.find(name), **values)
    click.echo(f"{printable(key.path)}: {rate_of(key)}, {quota_of(key)} calls a month.", err=True)


def changes(rate_limit: str | None, monthly_quota: str | None) -> dict[str, Any]:
    """Return what options change; raises UsageError where they change nothing or are wrong."""
    values: dict[str, Any] = {}
    if rate_limit is not None:
        values["rate_limit"] = None if rate_limit == DEFAULT else rate_limit
    if monthly_quota is not None:
        try:
            values["monthly_quota"] = None if monthly_quota == NONE else int(monthly_quota)
        except ValueError:
            raise click.UsageError(
                f"--monthly-quota takes a number or none, not {monthly_quota}"
            ) from None
    if not values:
        raise click.UsageError("say what to change: --rate-limit or --monthly-quota")
    return values


@keys.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@in_database
def revoke(names: Sequence[str], url: str | None) -> None:
    """Let nobody in with these keys again, nor with keys that they have made.

    A server that runs heeds it at once. The names are free again, the keys can't be had back.
    """
    with opened(url) as (all_keys, _):
        for name in names:
            all_keys.revoke(all_keys.find(name))
            click.echo(f"{printable(name)} is revoked.", err=True)


# What is printed


def row(key: Key, used: dict[str, int]) -> Row:
    """Return a key as people read it."""
    states = (("primary", key.is_primary), ("revoked", key.revoked_at))
    words = [word for word, is_so in states if is_so]
    state = f" ({', '.join(words)})" if words else ""
    made_on = f"{datetime.fromtimestamp(key.created_at, UTC):%Y-%m-%d}"
    name = f"{printable(key.path)}{state}"
    return name, rate_of(key), quota_of(key), str(used.get(key.id, 0)), made_on


def rate_of(key: Key) -> str:
    return key.rate_limit or DEFAULT


def quota_of(key: Key) -> str:
    return NONE if key.monthly_quota is None else str(key.monthly_quota)


def document(key: Key, used: dict[str, int]) -> dict[str, object]:
    """Return a key as JSON has it."""
    return {
        "name": key.path,
        "id": key.id,
        "is_primary": key.is_primary,
        "rate_limit": key.rate_limit,
        "monthly_quota": key.monthly_quota,
        "used": used.get(key.id, 0),
        "created_at": moment(key.created_at),
        "revoked_at": moment(key.revoked_at),
    }


def moment(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
