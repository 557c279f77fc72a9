"""One thing to try: a damaged file, operations, an output and limits, all told by two numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.documents import BAD_ADDRESS, document
from tests.fuzz.mutations import mutated
from tests.fuzz.samples import Sample

OUTPUTS = (None, None, None, "jpg", "png", "webp", "avif", "gif", "jp2")

# Small, so that many are tried; in one of forty cases the limits are those that sites have.
NARROW = {
    "max_pixels": 2_000_000,
    "max_frames": 60,
    "max_width": 1024,
    "max_height": 1024,
    "svg": True,
    "max_seconds": 5.0,
}
USUAL = {"svg": True, "max_seconds": 20.0}


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to try; `name` tells its number and where its file came from.

    `is_good` says that the file is whole, so that nothing can be said against it.
    """

    name: str
    data: bytes = field(repr=False)
    document: dict[str, Any]
    output: str | None
    limits: dict[str, Any]
    is_good: bool = False

    @property
    def seconds(self) -> float:
        """How long the work may take."""
        return float(self.limits["max_seconds"])

    def keep(self, folder: Path) -> Path:
        """Write it down, in two files; return the one that `read` takes."""
        folder.mkdir(parents=True, exist_ok=True)
        stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in self.name)
        (folder / f"{stem}.bin").write_bytes(self.data)
        told = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "data"}
        path = folder / f"{stem}.json"
        path.write_text(json.dumps(told, indent=1))
        return path

    @classmethod
    def read(cls, path: Path) -> Case:
        """Return one that was written down."""
        return cls(data=path.with_suffix(".bin").read_bytes(), **json.loads(path.read_text()))


def case_of(seed: int, number: int, samples: Sequence[Sample]) -> Case:
    """Return the case of a number: the same for the same seed and samples."""
    chance = Random(f"{seed} {number}")
    sample = chance.choice(samples)
    data = mutated(sample.data, chance.choice(samples).data, chance)
    asked = document(chance)
    return Case(
        name=f"{seed}-{number}-{sample.name}",
        data=data,
        is_good=sample.is_good and data == sample.data and not takes_damage(asked),
        document=asked,
        output=chance.choice(OUTPUTS),
        limits=USUAL if chance.random() < 1 / 40 else NARROW,
    )


def takes_damage(asked: dict[str, Any]) -> bool:
    """Say whether operations name a damaged picture."""
    return BAD_ADDRESS in asked.get("watermark", {}).values()
