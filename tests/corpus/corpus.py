"""The folder of real and made-up images, if there is one, and its manifest."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

NEARBY = Path(__file__).parents[2].parent / "shared" / "corpus"
FOLDER = Path(os.environ.get("OPTIDASH_CORPUS") or NEARBY)

WHOLE = os.environ.get("OPTIDASH_CORPUS_WHOLE") == "1"
"""Whether everything is done to every file, which takes some minutes."""


@dataclass(frozen=True)
class Row:
    """One line of the manifest; `width` and `height` are as stored, 0 where nobody knows them."""

    path: Path
    name: str
    format: str
    expected: str
    width: int
    height: int
    exercises: str

    @property
    def is_hostile(self) -> bool:
        """Whether it is to be opened in a process of its own only."""
        return self.name.startswith(("malformed/", "graphics/svg-hostile/"))


def is_present() -> bool:
    return (FOLDER / "MANIFEST.csv").is_file()


def rows() -> list[Row]:
    """Return the manifest's lines; none where the folder is absent."""
    if not is_present():
        return []
    with (FOLDER / "MANIFEST.csv").open(newline="", encoding="utf-8") as file:
        return [row_of(line) for line in csv.DictReader(file)]


def row_of(line: dict[str, str]) -> Row:
    return Row(
        path=FOLDER / line["path"],
        name=line["path"],
        format=line["format"],
        expected=line["expected"],
        width=int(line["width"] or 0),
        height=int(line["height"] or 0),
        exercises=line["exercises"],
    )
