"""Checks of the API: whether it answers, what the account has left, how it has been doing."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping

from optidash_integrations.cli.account import budget_of, calls, is_there, period, refusal
from optidash_integrations.cli.findings import Case, Finding, failed, ok, warning
from optidash_integrations.errors import (
    ApiError,
    ApiTimeoutError,
    AuthenticationError,
    ConnectionFailedError,
    ProcessorError,
    ProtocolError,
    RateLimitError,
    ServerError,
)
from optidash_integrations.ledger import Circuit, account_of
from optidash_integrations.processors import circuit_word

SHORT = 0.1
"""Below this part of what there was it is time to say so."""

# What other checks tell of.
ELSEWHERE = (
    AuthenticationError,
    ConnectionFailedError,
    ProtocolError,
    RateLimitError,
    ServerError,
)

SLOWER = "make fewer calls at a time: OPTIDASH_WORKERS, and --jobs and --delay of optimize"

NETWORK = (
    "check OPTIDASH_API_URL, the network, a firewall, and HTTPS_PROXY where the way out is a proxy"
)


def of_reach(case: Case) -> Finding | None:
    """Tell whether the API answers, and how fast."""
    if case.api is None:
        return None
    url, answer = case.api.api_url, case.answer
    if answer is None:
        return ok(f"{url}, not asked because of --offline")
    took = f"{url} answers in {answer.milliseconds:.0f} ms"
    error = answer.error
    if isinstance(error, ConnectionFailedError):
        silent = isinstance(error, ApiTimeoutError)
        verb = "is silent" if silent else "can't be reached"
        return failed(f"{url} {verb}: {refusal(error, case.settings)}", NETWORK)
    if isinstance(error, ProtocolError):
        said = refusal(error, case.settings)
        return failed(f"{took}, but not as the API does: {said}", "check OPTIDASH_API_URL")
    if isinstance(error, ServerError):
        said = refusal(error, case.settings)
        return failed(f"{took}, but fails: {said}", "wait, and try again later")
    return ok(took)


def of_key(case: Case) -> Finding | None:
    """Tell whether the key is accepted."""
    answer = case.answer
    if answer is None:
        return None
    if isinstance(answer.error, AuthenticationError):
        advice = "set OPTIDASH_API_KEY to the key of your account, without quotes or spaces"
        return failed(refusal(answer.error, case.settings), advice)
    if answer.account is None:
        return None
    return ok("accepted" if case.settings.api_key else "none, and none is asked for")


def of_account(case: Case) -> Finding | None:
    """Tell what the account has left."""
    answer = case.answer
    if answer is None or is_told_of_elsewhere(answer.error):
        return None
    if answer.error is not None:
        said = refusal(answer.error, case.settings)
        return warning(f"it can't be asked: {said}", "an API of your own may have no accounts")
    account = answer.account
    assert account is not None
    what = f"{account.name or 'without a name'}: {calls(account)}"
    if account.remaining is None:
        return ok(what)
    if account.remaining <= 0:
        return failed(what, "buy calls, or wait for the next period: no image is optimised")
    if account.total and account.remaining < account.total * SHORT:
        return warning(what, "the calls will soon be used up")
    return ok(what)


def is_told_of_elsewhere(error: ApiError | None) -> bool:
    others = (
        AuthenticationError,
        ConnectionFailedError,
        ProtocolError,
        RateLimitError,
        ServerError,
    )
    return isinstance(error, others)


def of_rate_limit(case: Case) -> Finding | None:
    """Tell how many calls the present period still allows."""
    answer = case.answer
    if answer is None:
        return None
    if isinstance(answer.error, RateLimitError):
        return of_refused_rate(answer.error)
    limit = answer.rate_limit
    if limit is None:
        return ok(period(limit)) if answer.account else None
    return warning(period(limit), SLOWER) if limit.is_short else ok(period(limit))


def of_refused_rate(error: RateLimitError) -> Finding:
    seconds = error.seconds
    wait = "a while" if seconds is None else f"{seconds:.0f} s"
    return warning(
        "reached: no call is accepted now", f"wait {wait}, or make fewer calls at a time"
    )


def of_ledger(case: Case) -> Finding | None:
    """Tell whether what all processes share about the API can be written."""
    if case.api is None:
        return None
    path = case.ledger.path
    if path is None:
        advice = "set OPTIDASH_CACHE_DIR, so that all processes share circuit and budget"
        return warning("none, because OPTIDASH_CACHE_DIR is none", advice)
    if not is_there(case.ledger):
        return ok(f"{path} will be made with the first call")
    try:
        written_for_a_moment(case)
    except (sqlite3.Error, OSError) as error:
        more = " and remove it if it is damaged" if isinstance(error, sqlite3.DatabaseError) else ""
        advice = f"let the site's user write to it and its folder{more}; with a budget no call goes"
        return failed(f"{path} can't be written: {error}", advice)
    return ok(f"{path} can be written")


class UndoneError(Exception):
    """Nothing is to stay of what was written."""


def written_for_a_moment(case: Case) -> None:
    try:
        with case.ledger.transaction() as db:
            db.execute("INSERT INTO calls VALUES ('', '', 0)")
            raise UndoneError
    except UndoneError:
        pass


def of_circuit(case: Case) -> Finding | None:
    """Tell whether the site's processes call the API, or leave it alone, as they all know."""
    if case.api is None or case.ledger.path is None:
        return None
    if not is_there(case.ledger):
        return ok("closed, no call was made yet")
    try:
        with case.ledger.transaction() as db:
            circuit = Circuit.read(db, account_of(case.api.api_url, case.settings.api_key))
    except (sqlite3.Error, OSError) as error:
        return warning(f"not known: {error}", "see ledger")
    return told(circuit, time.time())


def told(circuit: Circuit, now: float) -> Finding:
    """Tell of a circuit; `now` is in seconds since 1970."""
    word = circuit_word(circuit.until, now)
    count = f"{circuit.failures} failure{'' if circuit.failures == 1 else 's'} in a row"
    if word == "closed" and not circuit.failures:
        return ok("closed, no failures")
    last = f"{count}, the last: {circuit.reason}"
    if word == "closed":
        return warning(f"closed, {last}", "watch it: after 5 the API is left alone")
    if word == "half-open":
        return warning(f"half-open, the next call tries; {last}", "see what the last one says")
    wait = f"{circuit.until - now:.0f} s"
    return warning(
        f"open, the API is left alone for {wait} more; {last}",
        "set right what the last one says; then a call tries by itself",
    )


def of_budget(case: Case) -> Finding | None:
    """Tell how much of this month's budget is used."""
    if case.api is None:
        return None
    try:
        budget = budget_of(case.settings, case.ledger)
    except ProcessorError as error:
        return failed(str(error), "see ledger: no call is made while they can't be counted")
    if budget is None:
        return None
    what = f"{budget.used} of {budget.budget} calls used in {budget.month}"
    if not budget.remaining:
        return failed(what, "raise OPTIDASH_MONTHLY_BUDGET, or wait for the next month (UTC)")
    if budget.remaining < budget.budget * SHORT:
        return warning(what, "OPTIDASH_MONTHLY_BUDGET will soon be used up")
    return ok(what)


CHECKS: Mapping[str, Callable[[Case], Finding | None]] = {
    "API": of_reach,
    "API key": of_key,
    "account": of_account,
    "rate limit": of_rate_limit,
    "ledger": of_ledger,
    "circuit": of_circuit,
    "budget": of_budget,
}
