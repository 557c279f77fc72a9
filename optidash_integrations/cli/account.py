"""What is known of an account: its calls, its rate limit, and this month's budget."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from optidash_integrations.cli.files import printable
from optidash_integrations.errors import ApiError, AuthenticationError, ProcessorError
from optidash_integrations.ledger import FILE, Ledger, MonthlyBudget, account_of
from optidash_integrations.processors import HOSTED

if TYPE_CHECKING:
    from optidash_integrations.client import OptidashClient
    from optidash_integrations.documents import Account
    from optidash_integrations.pacing import RateLimit
    from optidash_integrations.settings import Settings

NO_KEY = "no API key is set: set OPTIDASH_API_KEY in the environment to the key of your account"


@dataclass(frozen=True, slots=True)
class Budget:
    """The calls that a month (UTC, such as `2026-11`) may have, and those that were made here."""

    month: str
    budget: int
    used: int

    @property
    def remaining(self) -> int:
        """How many calls are left."""
        return max(0, self.budget - self.used)


def client_for(settings: Settings, ledger: Ledger, **more: Any) -> OptidashClient:
    """Return a client that speaks to the settings' API and keeps to their budget."""
    from optidash_integrations.client import OptidashClient

    options = {"timeout": settings.timeout, "retries": settings.retries} | more
    return OptidashClient(
        settings.api_key,
        settings.api_url or HOSTED,
        monthly_budget=settings.monthly_budget,
        ledger=ledger,
        **options,
    )


@contextmanager
def ledger_for(settings: Settings) -> Iterator[Ledger]:
    """Give the file that the settings' API is kept account of in."""
    folder = settings.cache_dir
    ledger = Ledger(folder / FILE if folder else None)
    try:
        yield ledger
    finally:
        ledger.close()


def is_there(ledger: Ledger) -> bool:
    """Say whether a ledger has a file already; looking into one that has none would make it."""
    return ledger.path is not None and ledger.path.exists()


def budget_of(settings: Settings, ledger: Ledger) -> Budget | None:
    """Return how much of this month's budget is used, None where there is none.

    Raises ProcessorError where the file can't be read.
    """
    if settings.monthly_budget is None:
        return None
    name = account_of(settings.api_url or HOSTED, settings.api_key)
    kept = MonthlyBudget(ledger, name, settings.monthly_budget)
    try:
        used = kept.used() if is_there(ledger) else 0
    except (sqlite3.Error, OSError) as error:
        raise ProcessorError(
            f"how many calls were made this month can't be read from {ledger.path}: {error}"
        ) from error
    return Budget(kept.month, kept.budget, used)


def refusal(error: ApiError, settings: Settings) -> str:
    """Return what an error of the API says; of a key that is refused, nothing of its own words."""
    if not isinstance(error, AuthenticationError):
        return printable(str(error))
    if not settings.api_key:
        return f"the API wants a key: {NO_KEY}"
    verb = "does not accept" if error.status == 401 else "does not allow this with"
    return f"the API {verb} the key that OPTIDASH_API_KEY holds"


def has_api(settings: Settings) -> bool:
    """Say whether there is an API to speak to."""
    return bool(settings.api_key or settings.api_url)


def as_document(
    account: Account, limit: RateLimit | None, budget: Budget | None
) -> dict[str, object]:
    """Return all of it as JSON has it."""
    return {
        "account": {
            "name": account.name,
            "total": account.total,
            "used": account.used,
            "remaining": account.remaining,
        },
        "rate_limit": asdict(limit) if limit else None,
        "budget": asdict(budget) | {"remaining": budget.remaining} if budget else None,
    }


def lines(account: Account, limit: RateLimit | None, budget: Budget | None) -> Iterator[str]:
    """Yield all of it as people read it."""
    yield f"Account     {printable(account.name) or 'without a name'}"
    yield f"Calls       {calls(account)}"
    yield f"Rate limit  {period(limit)}"
    if budget:
        yield (
            f"Budget      {budget.used} of {budget.budget} calls made here in {budget.month}, "
            f"{budget.remaining} left"
        )


def calls(account: Account) -> str:
    """Return an account's calls in words; a number that the API does not tell is left out."""
    numbers = ((account.total, "in all"), (account.used, "used"), (account.remaining, "left"))
    told = [f"{number} {what}" for number, what in numbers if number is not None]
    return ", ".join(told) or "the API does not tell"


def period(limit: RateLimit | None) -> str:
    """Return a rate limit in words."""
    if limit is None:
        return "the API does not tell"
    return f"{limit.remaining} of {limit.limit} calls left for the next {limit.reset:.0f} s"


def budget_note(settings: Settings) -> None:
    """Say on stderr where a budget is not kept from one process to the next."""
    if settings.monthly_budget is not None and settings.cache_dir is None:
        click.echo("OPTIDASH_CACHE_DIR is none, so each process counts for itself.", err=True)
