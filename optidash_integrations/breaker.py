"""The circuit breaker: an API that keeps failing, or asks for it, is left alone for a while."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace

from optidash_integrations.errors import (
    ApiError,
    ApiUnavailableError,
    AuthenticationError,
    BudgetExceededError,
    CircuitOpenError,
    ProtocolError,
    QuotaExceededError,
    RateLimitError,
)
from optidash_integrations.ledger import Circuit, Ledger

logger = logging.getLogger(__name__)

FAILURES = 5
FIRST_REST = 30.0
LONGEST_REST = 600.0
LONGEST_TOLD = 24 * 3600.0
"""The longest rest that an answer may ask for: a wrong one must not end all calls for ever."""

PROBE_SECONDS = 120.0
ALONE_SECONDS = 10.0
"""How long a process goes by its own state after the shared one could not be read."""

# What says that the API, or the way to it, is at fault, and not this image or these operations.
FAILED = (ApiUnavailableError, AuthenticationError, QuotaExceededError, ProtocolError)


class Breaker:
    """Closed, calls go as usual. After `failures` of them in a row, or a 429, it is open: no call
    goes until a time has passed. Then one is let through, and decides.

    The first rest lasts 30 s, each further one twice as long, at most 10 minutes; a Retry-After
    says it better, up to a day. `clock` gives seconds since 1970. The state is shared through the
    ledger; where that fails, each process has its own.
    """

    def __init__(
        self,
        ledger: Ledger,
        account: str,
        *,
        failures: int = FAILURES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.ledger = ledger
        self.account = account
        self.failures = failures
        self.clock = clock
        self.spare = Ledger(None)
        self.is_shut = False
        self.alone_until = 0.0  # the ledger has failed, and is left alone so long

    def enter(self) -> None:
        """Let a call through, or raise CircuitOpenError."""
        if self.is_shut:
            raise CircuitOpenError("the application is shutting down")
        self.change(self.entered)

    def heard(self, error: BaseException | None) -> None:
        """Take note of how a call ended; None is success.

        What is no answer and no failure of the API (a source that can't be read, a budget that is
        used up, a caller that left) only lets the next call try.
        """
        if error is None:
            self.change(self.succeeded)
        elif not isinstance(error, ApiError) or is_own_decision(error):
            self.change(self.unasked)
        elif isinstance(error, (*FAILED, RateLimitError)):
            self.change(lambda circuit: self.failed(circuit, error))
        else:
            self.change(self.succeeded)

    def state(self) -> Circuit:
        """Return how the API has been doing."""
        found: list[Circuit] = []

        def look(circuit: Circuit) -> Circuit:
            found.append(circuit)
            return circuit

        self.change(look)
        return found[-1]

    def change(self, step: Callable[[Circuit], Circuit]) -> None:
        now = self.clock()
        if not self.alone_until - ALONE_SECONDS <= now < self.alone_until:
            try:
                self.change_kept(step, self.ledger)
            except (sqlite3.Error, OSError) as error:
                logger.warning("how the API is doing can't be kept for now: %s", error)
                self.alone_until = now + ALONE_SECONDS
            else:
                return
        self.change_kept(step, self.spare)

    def change_kept(self, step: Callable[[Circuit], Circuit], ledger: Ledger) -> None:
        with ledger.transaction() as db:
            before = Circuit.read(db, self.account)
            after = step(before)
            if after != before:
                after.write(db, self.account)

    def close(self) -> None:
        """Let no call through any more, and close the ledgers."""
        self.is_shut = True
        self.ledger.close()
        self.spare.close()

    # What becomes of a state

    def entered(self, circuit: Circuit) -> Circuit:
        now = self.clock()
        if circuit.is_closed:
            return circuit
        if self.rests(circuit):
            left = circuit.until - now
            raise CircuitOpenError(f"the API is left alone for {left:.0f} s: {circuit.reason}")
        if now < circuit.probing <= now + PROBE_SECONDS:
            raise CircuitOpenError(f"one call tries whether the API is back: {circuit.reason}")
        return replace(circuit, probing=now + PROBE_SECONDS)

    def rests(self, circuit: Circuit) -> bool:
        """Say whether the API is left alone. A clock that was set back must not keep it so."""
        now = self.clock()
        return now < circuit.until <= now + max(circuit.seconds, LONGEST_REST)

    def unasked(self, circuit: Circuit) -> Circuit:
        """Let the next call try instead of one that never went."""
        return replace(circuit, probing=0.0)

    def succeeded(self, circuit: Circuit) -> Circuit:
        """Close it, except for a call that was on its way when it opened."""
        return circuit if self.rests(circuit) else Circuit()

    def failed(self, circuit: Circuit, error: ApiError) -> Circuit:
        if error.seconds:
            return self.opened(circuit, min(error.seconds, LONGEST_TOLD), error)
        # Where it says "at once" it asks for no rest, but has failed.
        limited = isinstance(error, RateLimitError) and error.seconds is None
        if circuit.is_closed and circuit.failures + 1 < self.failures and not limited:
            return replace(circuit, failures=circuit.failures + 1, reason=str(error))
        if self.rests(circuit):  # a call that was on its way when it opened
            return circuit
        seconds = min(circuit.seconds * 2, LONGEST_REST) if circuit.seconds else FIRST_REST
        return self.opened(circuit, seconds, error)

    def opened(self, circuit: Circuit, seconds: float, error: ApiError) -> Circuit:
        until = self.clock() + seconds
        if self.rests(circuit) and until <= circuit.until:
            return replace(circuit, failures=circuit.failures + 1)
        logger.warning("the API is left alone for %.0f s: %s", seconds, error)
        return Circuit(circuit.failures + 1, until, seconds, 0.0, str(error))


def is_own_decision(error: ApiError) -> bool:
    """Say whether a call was not made because of a budget or a rate limit known beforehand."""
    limited = isinstance(error, RateLimitError) and error.status is None
    return limited or isinstance(error, BudgetExceededError)
