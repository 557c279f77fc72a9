"""Measures what the package costs and prints ratios: `python -m benchmarks [CASE …]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from benchmarks.cases import CASES
from benchmarks.load import LoadError, best_load
from benchmarks.material import Material
from benchmarks.measures import PER_SECOND, Comparison, Effort
from benchmarks.servers import ServerError

CAPTION = "ratio: ours / other; more is better of requests/s, less of ms and MB"
LIBRARIES = ("uvicorn", "uvloop", "httptools", "gunicorn", "starlette", "flask", "django")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; return the exit code."""
    options = read(arguments)
    console = Console(stderr=True)
    effort = Effort(best_load(options.connections), options.seconds, options.rounds)
    comparisons: list[Comparison] = []
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        material = Material.made(Path(folder))
        for name in options.cases:
            console.print(f"[dim]{name} …")
            try:
                comparisons += CASES[name].measure(material, effort)
            except (LoadError, ServerError) as error:
                console.print(f"{name}: {error}", markup=False)
                return 1
        heading = f"{len(material.variant):,} bytes, {described(options, effort)}"
    if options.json is not None:
        write(options.json, document(options, effort, comparisons))
    if str(options.json) != "-":
        Console().print(table(comparisons, heading))
    return 0


def stop(*_: object) -> NoReturn:
    sys.exit(143)


def read(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = ", ".join(CASES)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"some of: {names}")
    parser.add_argument("--seconds", type=positive, default=2, help="of a round, one side (2)")
    parser.add_argument("--rounds", type=positive, default=5, help="A B A B … so many times (5)")
    parser.add_argument("--connections", type=positive, default=16, help="at a time (16)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures; - prints them"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.cases if name not in CASES]
    if unknown:
        parser.error(f"{unknown[0]} is none of {names}")
    options.cases = options.cases or list(CASES)
    return options


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"takes a whole number from 1, not {text}")
    return number


def described(options: argparse.Namespace, effort: Effort) -> str:
    return (
        f"{options.connections} connections, {effort.load.name}, "
        f"{effort.rounds} rounds of {effort.seconds} s"
    )


def table(comparisons: Sequence[Comparison], heading: str) -> Table:
    """Return the figures as a table for people."""
    made = Table(title=heading, caption=CAPTION, title_justify="left", caption_justify="left")
    made.add_column("case", no_wrap=True)
    made.add_column("against", no_wrap=True)
    for column in ("ours", "other", "ratio", "span"):
        made.add_column(column, justify="right", no_wrap=True)
    for row in comparisons:
        made.add_row(*cells(row))
    return made


def cells(row: Comparison) -> list[str]:
    low, high = row.spread
    ours, other = (format_figure(row, figures) for figures in (row.figures, row.others))
    return [row.case, row.against, ours, other, f"{row.ratio:.2f}", f"{low:.2f}, {high:.2f}"]


def format_figure(row: Comparison, figures: Sequence[float]) -> str:
    middle = sorted(figures)[len(figures) // 2]
    return f"{middle:,.0f}/s" if row.unit == PER_SECOND else f"{middle:.1f} {row.unit}"


def document(
    options: argparse.Namespace, effort: Effort, comparisons: Sequence[Comparison]
) -> dict[str, Any]:
    """Return the figures, and what they were taken on, as a JSON object."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "load": effort.load.name,
        "connections": options.connections,
        "seconds": effort.seconds,
        "rounds": effort.rounds,
        "comparisons": [row.document() for row in comparisons],
    }


def write(path: Path, found: dict[str, Any]) -> None:
    text = json.dumps(found, indent=2)
    if str(path) == "-":
        sys.stdout.write(f"{text}\n")
    else:
        path.write_text(f"{text}\n")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)  # so that the servers end with us
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
