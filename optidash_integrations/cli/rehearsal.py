"""What `optimize` would do, and how many of the API's calls that would take."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import click

from optidash_integrations.cli.account import budget_of, client_for, ledger_for, refusal
from optidash_integrations.cli.batch import ANIMATED, Batch, Outcome, Result, skipped
from optidash_integrations.cli.files import Original, printable
from optidash_integrations.cli.report import size
from optidash_integrations.errors import ApiError, RequestRefusedError

if TYPE_CHECKING:
    from optidash_integrations.settings import Settings


class Rehearsal(Batch):
    """Looks at originals as `Batch` does; `OPTIMISED` is what would be worked on."""

    def optimised(self, original: Original) -> Result:
        """Return what would become of one original; nothing is written."""
        job = self.prepared(original)
        if isinstance(job, Result):
            return job
        probe, output = job.probe, job.output
        outcome, why = Outcome.OPTIMISED, ""
        if self.work.leaves_alone(probe, output):
            outcome, output, why = Outcome.KEPT, probe.format, ANIMATED
        target = self.targets.of(original, output)
        if self.is_there(original, target):
            return skipped(original, target)
        return Result(original, outcome, probe.bytes, 0, probe.format, output, why, target)

    def line(self, result: Result) -> str:
        """Return one line about a file that would not fail."""
        name = result.original.name
        if result.outcome is Outcome.SKIPPED:
            return f"{name}: would be skipped, {result.why}"
        if result.outcome is Outcome.KEPT:
            return f"{name}: would be kept, {result.why}"
        return f"{name}: {size(result.before)}, would become {printable(result.target or '')}"


WORDS = {
    Outcome.OPTIMISED: "to optimise",
    Outcome.KEPT: "to keep",
    Outcome.SKIPPED: "to skip",
    Outcome.FAILED: "can't be read",
}


def rehearsed(counts: Mapping[Outcome, int]) -> str:
    """Return how many files would become what."""
    words = [f"{counts[outcome]} {words}" for outcome, words in WORDS.items() if counts[outcome]]
    return f"{', '.join(words) or 'nothing to do'}; nothing was sent or written"


def afforded(calls: int, settings: Settings, *, err: bool = False) -> bool:
    """Tell what so many calls mean for budget and account; return whether they can be made.

    An account that can't be asked is told of, and counts as one that has too few. With `err` all
    is told on stderr.
    """
    is_enough = partial(has_enough, err=err)
    click.echo(f"API calls: {calls}, and one more for each that has to be repeated", err=err)
    with ledger_for(settings) as ledger, client_for(settings, ledger) as client:
        budget = budget_of(settings, ledger)
        fits = budget is None or is_enough("Budget of this month", budget.remaining, calls)
        try:
            remaining = client.account().remaining
        except RequestRefusedError:  # an API of one's own may have no accounts
            return fits
        except ApiError as error:
            click.echo(f"The account can't be asked: {refusal(error, settings)}", err=True)
            return False
    return (remaining is None or is_enough("Account", remaining, calls)) and fits


def has_enough(name: str, remaining: int, calls: int, *, err: bool) -> bool:
    """Tell whether what pays for calls has so many left, and return it."""
    verdict = "enough" if remaining >= calls else f"{calls - remaining} too few"
    click.echo(f"{name}: {remaining} calls left, {verdict}", err=err)
    return remaining >= calls
