"""Writes docs/operations.md and its pictures: `python -m example_sites.operations --pictures`.

What parameters take comes from the declarations; words and examples are in
docs/operations/words.toml.
"""

from __future__ import annotations

import json
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from optidash_integrations.declarations import Nested, Operation, Parameter, parameters_of
from optidash_integrations.limits import Limits
from optidash_integrations.operations import DECLARED
from optidash_integrations.values import Choice, ColourKind

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "operations.md"
FOLDER = DOCS / "operations"
WORDS = FOLDER / "words.toml"
ANSWERS = FOLDER / "answers.json"

INTRODUCTION = """\
# Operations

<!-- Made by `make pictures`: change docs/operations/words.toml or the declarations instead. -->

What can be done to an image is one JSON document, the same for the hosted API, an API of your own,
the embedded engine, `OptidashStorage(operations=…)`, and `optidash optimize --operations FILE`.
Every key is an operation with an object of parameters. An image is turned upright first; then,
whatever their order in the document, they are done in this one:

{order}

Then `output` is written, as `optimize` says, and `detect` tells of the result.

What is marked *ours* is an extension: the engine and an API of your own know it, the hosted API is
not documented to. A wrong value is one sentence, and nothing is done:
`resize.width takes a positive integer up to 4096, not "abc"`. Numbers may be text. Colours are
`RGB`, `RRGGBB` or `RRGGBBAA` in hex, with `#` or without, or a CSS name. *Transparent, else white*
means white in formats without transparent pixels.

All examples are done to one of these, each {side} pixels wide:

| ![A meadow with dandelion clocks](operations/meadow.webp) | \
![An astronaut](operations/astronaut.webp) | ![The meadow in haze](operations/hazy.webp) |
| --- | --- | --- |

Photos: “Seeding” by Clemens Engelhardt, CC0 1.0 (Debian package lomiri-wallpapers-16.04), and
“Eileen Collins” by NASA, public domain (Python package scikit-image), both made smaller. The
watermark was drawn for this page.
"""

FOR_THE_API = """\

## response, webhook, store, cdn

These tell the API where its result goes: into the answer, to an address of yours, into a storage,
or behind a CDN. The client passes them on; see [the client](client.md). The engine, `Operations`
and the command line refuse them.
"""

ORDER = (
    "crop",
    "resize",
    "scale",
    "super_resolution",
    "rotate",
    "flip",
    "auto",
    "adjust",
    "filter",
    "watermark",
    "text",
    "mask",
    "border",
    "padding",
    "detect",
    "optimize",
    "output",
)
"""The operations as they are done; the last three are no steps."""

SIDE = 240


@cache
def words() -> Mapping[str, Any]:
    """Return what the page says of each operation."""
    return tomllib.loads(WORDS.read_text(encoding="utf-8"))


def examples() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every example, after the name of its operation."""
    for name in ORDER:
        for example in words()[name]["shows"]:
            yield name, example


def page() -> str:
    """Return docs/operations.md; raises KeyError where a parameter has no words."""
    order = textwrap.fill(" → ".join(f"`{name}`" for name in ORDER[:-3]), 100)
    parts = [INTRODUCTION.format(order=order, side=SIDE)]
    parts += [section(name) for name in ORDER]
    return "".join(parts) + FOR_THE_API


def section(name: str) -> str:
    """Return what the page says of an operation."""
    known = words()[name]
    heading = f"\n## {name}{' (ours)' if known.get('ours') is True else ''}\n"
    rows = [row(name, word, declared) for word, declared in flat(DECLARED[name])]
    head = "| parameter | takes | default | meaning |\n| --- | --- | --- | --- |"
    shown = [example_row(each) for each in known["shows"]]
    gallery = "| example | document |\n| --- | --- |"
    return "\n".join([heading, known["says"], "", head, *rows, "", gallery, *shown, ""])


def flat(kind: type[Operation], prefix: str = "") -> Iterator[tuple[str, Parameter]]:
    """Yield an operation's parameters; those of an object are `blur.value`."""
    for word, declared in parameters_of(kind).items():
        if isinstance(declared.kind, Nested):
            yield from flat(declared.kind.of, f"{prefix}{word}.")
        else:
            yield f"{prefix}{word}", declared


def row(name: str, word: str, declared: Parameter) -> str:
    """Return a parameter's row in the table of its operation."""
    known = words()[name]
    ours = known.get("ours", [])
    is_ours = ours is not True and word.partition(".")[0] in ours
    label = f"`{word}`{' (ours)' if is_ours else ''}"
    cells = (
        label,
        takes(name, word, declared),
        default(name, word, declared),
        known["means"][word],
    )
    return f"| {' | '.join(cells)} |"


def takes(name: str, word: str, declared: Parameter) -> str:
    """Return what a parameter takes, values of ours after the others."""
    kind = declared.kind
    if isinstance(kind, ColourKind):
        return "a colour"
    if not isinstance(kind, Choice):
        return kind.expected(Limits()) + modes(declared)
    ours = words()[name].get("ours_of", {}).get(word, [])
    theirs = ", ".join(f"`{each}`" for each in kind.words if each not in ours)
    return theirs + (f"; ours: {', '.join(f'`{each}`' for each in ours)}" if ours else "")


def modes(declared: Parameter) -> str:
    """Return in which modes a parameter counts; nothing where it is all of them."""
    return f", in {' and '.join(f'`{mode}`' for mode in declared.modes)}" if declared.modes else ""


def default(name: str, word: str, declared: Parameter) -> str:
    """Return what a parameter's absence means."""
    told = words()[name].get("defaults", {}).get(word)
    if told:
        return str(told)
    if declared.default is not None:
        return f"`{plain(declared.kind.plain(declared.default))}`"
    return by_mode(DECLARED[name], word) or ""


def by_mode(kind: type[Operation], word: str) -> str:
    """Return the defaults of a parameter that depend on the mode, nothing where there are none."""
    mode = parameters_of(kind).get("mode")
    if mode is None or not isinstance(mode.kind, Choice):
        return ""
    found: dict[object, list[str]] = {}
    for each in mode.kind.words:
        value = kind(mode=each).defaults().get(word)
        if value is not None:
            found.setdefault(plain(value), []).append(f"`{each}`")
    return ", ".join(f"`{value}` in {' and '.join(names)}" for value, names in found.items())


def plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


def example_row(example: Mapping[str, Any]) -> str:
    """Return an example: its picture, its document, and what its metadata told."""
    name = example["name"]
    told = [f"`{example['document']}`"]
    if "says" in example:
        told.insert(0, f"{example['says']}:")
    answer = answers().get(name)
    if answer is not None:
        told.append(f"→ `{json.dumps(answer)}`")
    return f"| ![{name}](operations/{name}.webp) | {' '.join(told)} |"


def answers() -> Mapping[str, Any]:
    """Return what the metadata told when the pictures were made, by the examples' names."""
    return json.loads(ANSWERS.read_text(encoding="utf-8")) if ANSWERS.exists() else {}


if __name__ == "__main__":
    if "--pictures" in sys.argv[1:]:
        from example_sites.operation_pictures import make

        ANSWERS.write_text(json.dumps(make(FOLDER), indent=2) + "\n", encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
