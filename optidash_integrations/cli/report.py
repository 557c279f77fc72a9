"""What the command tells: a line or a bar while it works, then a table of savings."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from optidash_integrations.cli.batch import Outcome, Result

# A terminal shows as many files one by one; of more, each kind is a row.
MOST_FILES = 40

Row = tuple[str, str, str, str, str]
Say = Callable[[Result], None]


@dataclass(slots=True)
class Sum:
    """Files and their bytes, before and after."""

    files: int = 0
    before: int = 0
    after: int = 0

    def add(self, result: Result) -> None:
        self.files += 1
        self.before += result.before
        self.after += result.after

    def row(self, label: str, second: str = "") -> Row:
        saved = percent(self.before, self.after)
        return (label, second or str(self.files), size(self.before), size(self.after), saved)


def is_terminal() -> bool:
    """Say whether a person is watching: both streams are on a terminal."""
    return sys.stdout.isatty() and sys.stderr.isatty()


def size(count: int) -> str:
    """Return a number of bytes as people read it."""
    if count < 1000:
        return f"{count} B"
    if count < 999_950:
        return f"{count / 1000:.1f} kB"
    return f"{count / 1_000_000:.1f} MB"


def percent(before: int, after: int) -> str:
    """Return how much was saved; a result larger than its source has saved less than nothing."""
    return f"{100 * (before - after) / before:.1f} %" if before else "-"


def line(result: Result) -> str:
    """Return one line about a file that has not failed."""
    name = result.original.name
    if result.outcome is Outcome.SKIPPED:
        return f"{name}: skipped, {result.why}"
    sizes = f"{name}: {size(result.before)} → {size(result.after)}"
    if result.outcome is Outcome.KEPT:
        return f"{sizes}, kept: {result.why}"
    return f"{sizes}, saved {percent(result.before, result.after)}"


def complain(name: str, why: str) -> None:
    """Say on stderr what is wrong with a file."""
    click.echo(f"{name}: {why}", err=True)


@contextmanager
def following(total: int, *, silent: bool = False) -> Iterator[tuple[Say, Say]]:
    """Give two functions: one for each result as it comes, one for each in order.

    `silent` ones tell nothing.
    """
    if silent:
        yield ignore, ignore
        return
    if not is_terminal():
        yield ignore, say
        return
    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("Optimising"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=total)

        def advance(result: Result) -> None:
            progress.advance(bar)

        def warn(result: Result) -> None:
            failures = [result.why] if result.outcome is Outcome.FAILED else []
            for words in (*failures, *notes(result)):
                console.print(Text(f"{result.original.name}: {words}"), soft_wrap=True)

        yield advance, warn


def ignore(result: Result) -> None:
    """Tell nothing."""


def say(result: Result, words: str = "") -> None:
    """Print a line about a file, on stderr where it has failed; `words` replace the usual ones."""
    if result.outcome is Outcome.FAILED:
        complain(result.original.name, result.why)
    elif result.outcome is not Outcome.LEFT:
        click.echo(words or line(result))
        sys.stdout.flush()
    for note in notes(result):
        complain(result.original.name, note)


def notes(result: Result) -> tuple[str, ...]:
    """Return what was asked for and could not be done."""
    return result.metadata.notes if result.metadata else ()


def summarise(results: Sequence[Result], unread: Counter[str], seconds: float) -> None:
    """Print the table of savings, then what became of how many files."""
    done = [r for r in results if r.outcome in (Outcome.OPTIMISED, Outcome.KEPT)]
    if done and is_terminal():
        print_table(*(by_file(done) if len(done) <= MOST_FILES else by_kind(done)))
    elif done:
        print_plain(*by_kind(done))
    counts = Counter(r.outcome for r in results)
    words = [f"{counts[outcome]} {outcome.value}" for outcome in Outcome if counts[outcome]]
    if words:
        click.echo(f"{', '.join(words)} in {seconds:.1f} s")
    if unread:
        kinds = ", ".join(f"{count} {extension}" for extension, count in sorted(unread.items()))
        click.echo(f"left out, not read here: {kinds}")


def kind(result: Result) -> str:
    """Return the formats before and after."""
    labels = [found.label for found in (result.source_format, result.format) if found]
    return " → ".join(dict.fromkeys(labels))


def by_file(done: Sequence[Result]) -> tuple[Row, list[Row]]:
    """Return the head and the rows of a table of files; the last row is their sum."""
    total, rows = Sum(), []
    for each in done:
        total.add(each)
        saved = "kept" if each.outcome is Outcome.KEPT else percent(each.before, each.after)
        rows.append((each.original.name, kind(each), size(each.before), size(each.after), saved))
    files = f"{total.files} {'file' if total.files == 1 else 'files'}"
    return ("File", "Format", "Before", "After", "Saved"), [*rows, total.row("Total", files)]


def by_kind(done: Sequence[Result]) -> tuple[Row, list[Row]]:
    """Return the head and the rows of a table of formats; the last row is their sum."""
    total, kinds = Sum(), defaultdict[str, Sum](Sum)
    for each in done:
        total.add(each)
        kinds[kind(each)].add(each)
    rows = [kinds[label].row(label) for label in sorted(kinds)]
    return ("Format", "Files", "Before", "After", "Saved"), [*rows, total.row("Total")]


def print_plain(head: Row, rows: Sequence[Row]) -> None:
    """Print a table as lines: the first column to the left, the others to the right."""
    widths = [max(map(cell_len, column)) for column in zip(head, *rows, strict=True)]
    click.echo()
    for row in (head, *rows):
        gaps = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        others = "".join(f"  {gap}{cell}" for gap, cell in zip(gaps[1:], row[1:], strict=True))
        click.echo(f"{row[0]}{gaps[0]}{others}")


def print_table(head: Row, rows: Sequence[Row]) -> None:
    """Print a table for a terminal, its last row as a footer."""
    table = Table(box=box.SIMPLE_HEAD, show_footer=True)
    name, second, *numbers = zip(head, map(Text, rows[-1]), strict=True)
    table.add_column(name[0], footer=name[1], overflow="fold")
    table.add_column(second[0], footer=second[1], no_wrap=True)
    for title, total in numbers:
        table.add_column(title, footer=total, justify="right", no_wrap=True)
    for row in rows[:-1]:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def as_json(results: Sequence[Result], seconds: float | None) -> str:
    """Return all results as one JSON document; without `seconds` it says what would be done."""
    total = Sum()
    for each in results:
        if each.outcome in (Outcome.OPTIMISED, Outcome.KEPT):
            total.add(each)
    counts = Counter(each.outcome.value for each in results)
    document: dict[str, Any] = {
        "dry_run": seconds is None,
        "files": [as_document(each) for each in results],
        "counts": {outcome.value: counts[outcome.value] for outcome in Outcome},
    }
    if seconds is not None:
        document |= {
            "bytes_before": total.before,
            "bytes": total.after,
            "saved": total.before - total.after,
            "seconds": round(seconds, 3),
        }
    return json.dumps(document, indent=2)


def as_document(result: Result) -> dict[str, Any]:
    """Return what became of a file, as JSON has it; what does not apply is None.

    Sizes in bytes. `saved` is below 0 where the result is larger than the original.
    """
    is_made = result.outcome in (Outcome.OPTIMISED, Outcome.KEPT) and bool(result.after)
    is_failed = result.outcome is Outcome.FAILED
    return {
        "in": str(result.original.path),
        "out": None if result.target is None else str(result.target),
        "outcome": result.outcome.value,
        "format": result.format.name if result.format else None,
        "bytes_before": result.before or None,
        "bytes": result.after if is_made else None,
        "saved": result.before - result.after if is_made else None,
        "why": None if is_failed else result.why or None,
        "error": result.why if is_failed else None,
        **told(result),
    }


def told(result: Result) -> dict[str, Any]:
    """Return the size of a result, what `detect` found in it, and notes, as far as known."""
    found = result.metadata
    if found is None:
        return {}
    facts = {
        "width": found.output.width,
        "height": found.output.height,
        "faces": found.faces,
        "palette": found.palette,
        "placeholder": found.placeholder,
        "notes": found.notes or None,
    }
    return {name: value for name, value in facts.items() if value is not None}
