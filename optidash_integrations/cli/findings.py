"""What checks of an installation look at, and what they find."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

from optidash_integrations.cli.account import client_for, ledger_for
from optidash_integrations.documents import Account
from optidash_integrations.errors import ApiError
from optidash_integrations.ledger import FILE, Ledger
from optidash_integrations.pacing import RateLimit
from optidash_integrations.processors import ApiProcessor, Processor, choose
from optidash_integrations.settings import Settings

OK, WARNING, FAILED = "ok", "warning", "failed"

LONGEST_SILENCE = 10.0
"""Seconds that a check waits for the API at the most."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found: a mark (ok, warning or failed), and what to do where it is not ok."""

    mark: str
    what: str
    advice: str = ""


def ok(what: str) -> Finding:
    """Return that all is well."""
    return Finding(OK, what)


def warning(what: str, advice: str) -> Finding:
    """Return that something works, but not as well as it could."""
    return Finding(WARNING, what, advice)


def failed(what: str, advice: str) -> Finding:
    """Return that something does not work."""
    return Finding(FAILED, what, advice)


@dataclass(frozen=True, slots=True)
class Answer:
    """How the API answered: an account or an error, and after how many milliseconds."""

    account: Account | None
    error: ApiError | None
    milliseconds: float
    rate_limit: RateLimit | None


@dataclass
class Case:
    """What is examined; each fact is found out once, when a check first asks for it."""

    settings: Settings
    is_offline: bool = False

    @cached_property
    def chosen(self) -> Processor | Exception:
        """The processor that the settings choose, or why there is none."""
        try:
            return choose(self.settings)
        except Exception as error:  # noqa: BLE001  a processor of one's own raises anything
            return error

    @property
    def api(self) -> ApiProcessor | None:
        """The processor, where it is the API."""
        return self.chosen if isinstance(self.chosen, ApiProcessor) else None

    @cached_property
    def ledger(self) -> Ledger:
        """The file that the API is kept account of in."""
        folder = self.settings.cache_dir
        return Ledger(folder / FILE if folder else None)

    @cached_property
    def answer(self) -> Answer | None:
        """What the API answered to one call, which costs none of the account's; None offline."""
        if self.api is None or self.is_offline:
            return None
        silence = min(self.settings.timeout, LONGEST_SILENCE)
        account, error = None, None
        with (
            ledger_for(self.settings) as ledger,
            client_for(self.settings, ledger, timeout=silence, retries=0) as client,
        ):
            began = time.perf_counter()
            try:
                account = client.account()
            except ApiError as raised:
                error = raised
            took = time.perf_counter() - began
            return Answer(account, error, took * 1000, client.rate_limit)

    def close(self) -> None:
        """Close what was opened."""
        self.ledger.close()
        if self.api is not None:
            self.api.close()
