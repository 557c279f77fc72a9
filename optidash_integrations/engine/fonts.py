"""The fonts that lettering may be in: those of a folder of the site's, and DejaVu Sans."""

from __future__ import annotations

import os
import struct
import threading
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from optidash_integrations.engine import vips
from optidash_integrations.errors import OptionError, ProcessorMissingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

DEFAULT = "DejaVu Sans"
DEFAULT_FILES = "DejaVuSans*.ttf"
MISSING = (
    f"text needs the font {DEFAULT} (Debian: fonts-dejavu-core), or .ttf and .otf files in the "
    "`fonts` folder"
)
SUFFIXES = frozenset({".ttf", ".otf"})

# Where systems keep their fonts.
PLACES = (
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    Path("~/.local/share/fonts"),
    Path("~/.fonts"),
    Path("/Library/Fonts"),
    Path("/opt/homebrew/share/fonts"),
    Path("~/Library/Fonts"),
    Path(os.environ.get("WINDIR", "C:\\Windows"), "Fonts"),
)

# OpenType 1.9, `name`: a family with all its weights, and one with up to four styles.
TYPOGRAPHIC_FAMILY, FAMILY = 16, 1
WINDOWS, UNICODE = 3, 0
MOST_TABLES = 100


@dataclass(slots=True)
class Fonts:
    """The families in a folder (None: there is none), and DejaVu Sans where the system has it.

    The folder is read at first use, not below itself; what is no font in it is passed over.
    """

    folder: Path | None = None
    found: dict[str, tuple[Path, ...]] | None = field(default=None, repr=False)

    @property
    def families(self) -> Mapping[str, tuple[Path, ...]]:
        """The files of each family, by its name."""
        if self.found is None:
            own = by_family(files_in(self.folder)) if self.folder else {}
            self.found = own if DEFAULT in own else own | system_default()
        return self.found

    def family(self, name: str | None) -> str:
        """Return the family of a name, in any case, known to Pango from here on.

        Without a name that is DejaVu Sans, else the first of the folder. Raises OptionError where
        there is no such family, ProcessorMissingError where there is none at all.
        """
        if not self.families:
            raise ProcessorMissingError(MISSING)
        known = {family.lower(): family for family in self.families}
        if name is None:
            chosen = known.get(DEFAULT.lower(), next(iter(self.families)))
        elif name.strip().lower() in known:
            chosen = known[name.strip().lower()]
        else:
            raise OptionError("text.font", f"one of {', '.join(self.families)}", name)
        for path in self.families[chosen]:
            introduce(path)
        return chosen


def files_in(folder: Path) -> list[Path]:
    """Return the font files in a folder, by name; none where it can't be read."""
    try:
        files = sorted(folder.iterdir())
    except OSError:
        return []
    return [path for path in files if path.suffix.lower() in SUFFIXES and path.is_file()]


def by_family(files: Iterable[Path]) -> dict[str, tuple[Path, ...]]:
    """Return the files by the name of their family."""
    families: dict[str, tuple[Path, ...]] = {}
    for path in files:
        name = family_name(path)
        if name:
            families[name] = (*families.get(name, ()), path)
    return families


@cache
def system_default() -> dict[str, tuple[Path, ...]]:
    """Return DejaVu Sans with its files, nothing where this system has none."""
    for place in PLACES:
        files = [path for path in place.expanduser().rglob(DEFAULT_FILES) if path.is_file()]
        found = by_family(sorted(files)).get(DEFAULT)
        if found:
            return {DEFAULT: found}
    return {}


introduced: set[Path] = set()
introducing = threading.Lock()


def introduce(path: Path) -> None:
    """Make a font file known to Pango, once a process."""
    with introducing:
        if path not in introduced:
            with vips.writing("text"):
                vips.pyvips.Image.text("x", fontfile=str(path), dpi=72)
            introduced.add(path)


def family_name(path: Path) -> str:
    """Return the name of a font file's family, nothing where it can't be read."""
    try:
        with path.open("rb") as file:
            return read_family(file.read())
    except (OSError, struct.error, UnicodeDecodeError):
        return ""


def read_family(data: bytes) -> str:
    """Return the name of the family in a font's `name` table."""
    count = min(struct.unpack_from(">H", data, 4)[0], MOST_TABLES)
    for each in range(count):
        tag, _, offset, length = struct.unpack_from(">4sIII", data, 12 + 16 * each)
        if tag == b"name":
            names = dict(names_in(data[offset : offset + length]))
            return names.get(TYPOGRAPHIC_FAMILY) or names.get(FAMILY, "")
    return ""


def names_in(table: bytes) -> Iterator[tuple[int, str]]:
    """Yield the names of families in a table, English ones last, so that these win."""
    _, count, start = struct.unpack_from(">HHH", table)
    records = [struct.unpack_from(">6H", table, 6 + 12 * each) for each in range(count)]
    english = 0x409
    for system, _, _, kind, length, offset in sorted(
        records, key=lambda record: record[2] == english
    ):
        if kind in (FAMILY, TYPOGRAPHIC_FAMILY) and system in (WINDOWS, UNICODE):
            at = start + offset
            yield kind, table[at : at + length].decode("utf-16-be").strip()
