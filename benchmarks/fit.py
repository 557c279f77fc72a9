"""Fits the tables of `engine/learned.py` anew: `python -m benchmarks.fit FOLDER`.

FOLDER holds pictures below `photos/` and `graphics/`. Each is taken at a few sizes, written by each
encoder at four settings, and scored. The score takes its time: `--scores FILE` keeps what was
measured, one picture a line, and goes on from there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyvips

from benchmarks.quality import KINDS, named, picture, score
from optidash_integrations import formats
from optidash_integrations.engine.encode import ENCODERS, Recipe
from optidash_integrations.engine.quality import LARGE, TARGETS, kind_of, opaque

WIDTHS = {"photos": (2560, 1280, 600), "graphics": (None, 0.6)}
"""Sizes of a picture: widths in pixels, or a share of its own."""

SETTINGS = {
    "jpeg": (42, 62, 80, 92),
    "jpeg-patient": (42, 62, 80, 92),
    "jpeg-full": (45, 60, 75, 85, 92, 97),
    "webp": (50, 72, 86, 96),
    "webp-graphic": (40, 60, 78, 90),
    "avif": (36, 50, 64, 80),
    "avif-pillow": (43, 53, 63, 73, 85),
}
RECIPES = {
    "jpeg": Recipe(formats.JPEG, settled=True, progressive=False),
    "jpeg-patient": Recipe(formats.JPEG, settled=True, patient=True),
    "jpeg-full": Recipe(formats.JPEG, settled=True, graphic=True, patient=True, compression="low"),
    "webp": Recipe(formats.WEBP),
    "webp-graphic": Recipe(formats.WEBP, graphic=True),
    "avif": Recipe(formats.AVIF, graphic=True),
    "avif-pillow": Recipe(formats.AVIF),
}
FOR_GRAPHICS = ("jpeg-patient", "jpeg-full", "webp-graphic", "avif")
ONLY_FOR_GRAPHICS = ("jpeg-full", "webp-graphic")
FOR_PHOTOS = tuple(name for name in RECIPES if name not in ONLY_FOR_GRAPHICS)
RIDGE = 1.0
LOWEST, HIGHEST = 8.0, 98.0
FAR_BELOW, AIM_AT = 4.0, 0.1
"""At most this share of graphics comes out that many points below, by prediction alone."""

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Measured:
    """A picture: its kind, the picture that it is a size of, its features, and what settings give.

    `points` has for each encoder pairs of a setting and its score.
    """

    graphic: bool
    group: str
    features: tuple[float, ...]
    points: dict[str, Points]
    pixels: int = 0

    def serves(self, encoder: str) -> bool:
        """Say whether the encoder's table is for such pictures: of large ones most are measured."""
        is_measured = self.pixels >= LARGE and not self.graphic and encoder != "jpeg"
        return encoder in self.points and not is_measured


def measured(folder: Path, scores: Path | None) -> Iterator[Measured]:
    """Yield the pictures of a folder, measured; `scores` has, and gets, what was measured."""
    known = {}
    if scores is not None and scores.exists():
        known = {line["name"]: line for line in map(json.loads, scores.open())}
    for kind in KINDS:
        for path in named(folder / kind):
            for size in WIDTHS[kind]:
                name = f"{kind}/{path.name}@{size}"
                if name not in known:
                    found = measure(picture(path, size), kind, subject(path.stem, kind))
                    known[name] = {"name": name, **found}
                    keep(scores, known[name])
    for line in known.values():
        facts = {key: value for key, value in line.items() if key != "name"}
        yield Measured(**facts)


def subject(name: str, kind: str) -> str:
    """Return what deliveries of one photograph have in common, as `canyon-6mp`, `canyon-cdn`."""
    return name.split("-" if kind == "photos" else "_")[0]


def keep(scores: Path | None, line: dict[str, Any]) -> None:
    if scores is not None:
        with scores.open("a") as file:
            file.write(f"{json.dumps(line)}\n")


def measure(image: pyvips.Image, kind: str, group: str) -> dict[str, Any]:
    """Return what is to be known of a picture, as JSON takes it."""
    points = {}
    for name, recipe in RECIPES.items():
        if kind == "photos" or name in FOR_GRAPHICS:
            write = ENCODERS[recipe.format]
            recipes = [replace(recipe, quality=setting) for setting in SETTINGS[name]]
            scored = [score(image, write(image, each)) for each in recipes]
            points[name] = list(zip(SETTINGS[name], scored, strict=True))
    features = kind_of(opaque(image)).features
    return {
        "graphic": kind == "graphics",
        "group": group,
        "features": features,
        "points": points,
        "pixels": image.width * image.height,
    }


def setting_for(points: Points, target: float) -> float:
    """Return the setting for a score, by lines through the points, beyond them by the last one."""
    settings, scores = np.array(sorted(points)).T
    scores = np.maximum.accumulate(scores) + np.arange(len(scores)) * 1e-3
    if target < scores[0]:
        slope = (settings[1] - settings[0]) / (scores[1] - scores[0])
        found = settings[0] + (target - scores[0]) * slope
    elif target > scores[-1]:
        found = settings[-1] + (target - scores[-1]) * (100 - settings[-1]) / max(
            1, 97 - scores[-1]
        )
    else:
        found = np.interp(target, scores, settings)
    return float(np.clip(found, LOWEST, HIGHEST))


def score_at(points: Points, setting: float) -> float:
    settings, scores = np.array(sorted(points)).T
    settings, scores = np.append(settings, 100), np.append(scores, max(97, scores[-1]))
    slope = (scores[1] - scores[0]) / (settings[1] - settings[0])
    below = min(0, setting - settings[0]) * slope
    return float(np.interp(setting, settings, scores) + below)


def ridge(features: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the weights of a ridge regression; the first feature is the constant."""
    middle, width = features.mean(0), features.std(0) + 1e-9
    middle[0], width[0] = 0, 1
    scaled = (features - middle) / width
    penalty = RIDGE * np.eye(scaled.shape[1])
    penalty[0, 0] = 0
    weights = np.linalg.solve(scaled.T @ scaled + penalty, scaled.T @ wanted) / width
    weights[0] -= (weights[1:] * middle[1:]).sum()
    return weights


def left_out(pictures: Sequence[Measured], wanted: np.ndarray) -> np.ndarray:
    """Return for each picture what the others predict, all sizes of it left out."""
    features = np.array([picture.features for picture in pictures])
    groups = np.array([picture.group for picture in pictures])
    found = np.zeros(len(pictures))
    for group in set(groups):
        others = groups != group
        found[~others] = features[~others] @ ridge(features[others], wanted[others])
    return found


def fitted(pictures: Sequence[Measured], name: str, target: int) -> tuple[np.ndarray, int, str]:
    """Return the weights for an encoder and a target, the margin that graphics need beside them,
    and how well both do on pictures that they were not fitted on.
    """
    wanted = np.array([setting_for(each.points[name], target) for each in pictures])
    features = np.array([each.features for each in pictures])
    weights, found = ridge(features, wanted), left_out(pictures, wanted)

    def errors(more: float) -> np.ndarray:
        settings = np.clip(np.round(found + more), LOWEST, HIGHEST)
        pairs = zip(pictures, settings, strict=True)
        return np.array([score_at(each.points[name], setting) - target for each, setting in pairs])

    more = 0
    aim = AIM_AT if pictures[0].graphic else AIM_AT / 2
    while more < 40 and (errors(more) < -FAR_BELOW).mean() > aim:
        more += 1
    if not pictures[0].graphic:
        weights[0] += more
    off = errors(more)
    below, above = (off < -FAR_BELOW).mean(), (off > FAR_BELOW).mean()
    return weights, more, f"{name} {target}: {below:.0%} below, {above:.0%} above, {more} added"


def slope_at(pictures: Sequence[Measured], name: str, target: int) -> float:
    """Return how many points a step of the setting gives, where a target is reached."""
    steps = []
    for each in pictures:
        settings, scores = np.array(sorted(each.points[name])).T
        steps.append(np.interp(target, scores, np.gradient(scores, settings)))
    return float(np.median(steps))


def slope(pictures: Sequence[Measured], name: str) -> float:
    """Return how many points a step of the setting gives, in the middle of the pictures."""
    steps = []
    for each in pictures:
        (low, worse), (high, better) = sorted(each.points[name])[1:3]
        steps.append((better - worse) / (high - low))
    return float(np.median(steps))


def printed(name: str, weights: np.ndarray) -> str:
    return f"{name}({', '.join(f'{weight:.5g}' for weight in weights)}),"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, and to standard error how well they do."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scores", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    pictures = list(measured(options.folder, options.scores))
    margins: dict[str, dict[int, int]] = {}
    for title, graphic in (("PHOTOS", False), ("GRAPHICS", True)):
        print(f"{title} = {{")
        for name in FOR_GRAPHICS if graphic else FOR_PHOTOS:
            having = [each for each in pictures if each.graphic == graphic and each.serves(name)]
            print(f'    "{name}": {{')
            for target in (85,) if name == "jpeg-full" else TARGETS.values():
                weights, more, told = fitted(having, name, target)
                if graphic:
                    margins.setdefault(name, {})[target] = more
                print(f"        {printed(f'{target}: ', weights)}")
                print(f"{title} {told}, {len(having)} pictures", file=sys.stderr)
            print("    },")
        print("}")
    kinds = np.array([1.0 if each.graphic else -1.0 for each in pictures])
    right = (np.sign(left_out(pictures, kinds)) == kinds).mean()
    print(f"kind: {right:.0%} right", file=sys.stderr)
    weights = ridge(np.array([each.features for each in pictures]), kinds)
    print(printed("GRAPHIC = ", weights).rstrip(","))
    print(f"MARGINS = {margins}")
    graphics = [each for each in pictures if each.graphic]
    slopes = {
        name: round(slope([each for each in graphics if name in each.points], name), 3)
        for name in FOR_GRAPHICS
    }
    print(f"SLOPES = {slopes}")
    steep: dict[str, dict[int, float]] = {}
    for name in FOR_PHOTOS:
        having = [each for each in pictures if not each.graphic and name in each.points]
        steep[name] = {t: round(slope_at(having, name, t), 3) for t in TARGETS.values()}
    print(f"PHOTO_SLOPES = {steep}")


if __name__ == "__main__":
    main()
