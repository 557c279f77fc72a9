"""Operations chosen at random: every key, every parameter, every kind of value."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from optidash_integrations.declarations import Nested, Operation, parameters_of
from optidash_integrations.operations import DECLARED
from optidash_integrations.values import (
    FAMILY,
    MARK,
    Boolean,
    Choice,
    ColourKind,
    Encoded,
    Factor,
    Integer,
    Kind,
    Named,
    Number,
    Point,
    Ratio,
    Side,
    Turn,
    WebAddress,
    Within,
)

MARKS = ("mark", "sheet", "nobody")
"""Ids of watermarks; the last is registered nowhere."""

GOOD_ADDRESS, BAD_ADDRESS = "https://pictures.example/good", "https://pictures.example/bad"
"""Where watermarks are fetched from: a whole picture, and a damaged one."""

COLOURS = ("red", "fff", "00800080", "00000000", "123456")
TEXTS = ("Hi", "a & <b>", "one\ntwo\tthree", "x" * 300, "\u0644\u0627 \u00e9\u4e2d \U0001f600")
LONG = 1024
WRONG: tuple[object, ...] = (-1, 0, "abc", None, [], {}, 1e300, math.nan, True, "9" * 30)


def document(chance: Random) -> dict[str, Any]:
    """Return a document of a few operations; one in fifty has something wrong in it."""
    names = chance.sample(sorted(DECLARED), chance.choice((0, 1, 1, 2, 3, 5)))
    found = {name: operation(DECLARED[name], chance) for name in names}
    if chance.random() < 0.02 and found:
        broken = found[chance.choice(names)]
        broken[chance.choice((*broken, "unknown"))] = chance.choice(WRONG)
    return found


def operation(kind: type[Operation], chance: Random) -> dict[str, Any]:
    """Return an operation's parameters, those in it that the others make necessary."""
    parameters = parameters_of(kind)
    part = chance.random()
    found = {
        word: value(declared.kind, chance)
        for word, declared in parameters.items()
        if word in ("mode", "shape", "text", "id") or chance.random() < part
    }
    if chance.random() < 0.9:
        for word in kind(**read(kind, found)).needed():
            found.setdefault(word, value(parameters[word].kind, chance))
    return found


def read(kind: type[Operation], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that tell which others are needed."""
    telling = ("mode", "shape", "text", "url", "size")
    return {word: given[word] for word in given if word in telling}


def value(kind: Kind[Any], chance: Random) -> Any:
    """Return a value that a parameter takes."""
    if isinstance(kind, Nested):
        return operation(kind.of, chance)
    if kind is MARK:
        return chance.choice(MARKS)
    if kind is FAMILY:
        return chance.choice(("DejaVu Sans", "Nobody Sans"))
    return MAKERS[type(kind)](kind, chance)


def integer(low: int, high: int | None, chance: Random) -> int:
    """Return a number within bounds: small ones, and the bounds, more often than others."""
    top = high if high is not None else LONG * 4
    few = min(top, low + 40)
    return chance.choice((low, top, chance.randint(low, few), chance.randint(low, min(top, LONG))))


def real(low: float, high: float, chance: Random) -> float:
    return chance.choice((low, high, (low + high) / 2, chance.uniform(low, high)))


def text_of(kind: Any, chance: Random) -> str:
    return base64.b64encode(chance.choice(TEXTS).encode()).decode()


MAKERS: dict[type, Callable[[Any, Random], Any]] = {
    Integer: lambda kind, chance: integer(kind.low, kind.high, chance),
    Side: lambda kind, chance: integer(1, LONG, chance),
    Factor: lambda kind, chance: chance.randint(2, kind.high),
    Number: lambda kind, chance: chance.choice((1e-9, 0.01, 0.3, 0.5, 1.5, 2, 3, 1e6)),
    Within: lambda kind, chance: real(kind.low, kind.high, chance),
    Turn: lambda kind, chance: chance.choice((90, 180, 270, -90, 45, chance.uniform(-400, 400))),
    Boolean: lambda kind, chance: chance.random() < 0.7,
    Choice: lambda kind, chance: chance.choice(kind.words),
    ColourKind: lambda kind, chance: chance.choice(COLOURS),
    Point: lambda kind, chance: [real(0, 1, chance), real(0, 1, chance)],
    Ratio: lambda kind, chance: chance.choice(("16:9", "1:1", "1:99999", "99999:1", "3:4")),
    Encoded: text_of,
    WebAddress: lambda kind, chance: chance.choice((GOOD_ADDRESS, BAD_ADDRESS)),
    Named: lambda kind, chance: "name",
}
