"""Finding faces: with the cascades that come with OpenCV, or with a YuNet model.

One cascade alone sees faces in foliage and in coins. Four searches are made, with two cascades
for frontal faces, with one for profiles and with it on the mirrored picture; what two of them see
counts.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optidash_integrations.errors import ProcessorError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyvips

NOTE = 'faces can\'t be found without OpenCV below 5: pip install "optidash-integrations[faces]"'

# Faces are looked for in a copy with sides up to this, and from this part of its longer side on:
# smaller ones are not what a picture is cut for, and cost most of the time.
SEARCHED_SIDE = 640
SMALLEST_PART = 1 / 24

FRONTAL = ("haarcascade_frontalface_default.xml", "haarcascade_frontalface_alt2.xml")
PROFILE = "haarcascade_profileface.xml"
STEP = 1.1
"""From one size that is looked for to the next."""
NEIGHBOURS = 3
"""How often a cascade must see a face, in sizes and places next to each other."""
SAME_FACE = 0.35
"""From which part on two boxes share so much of what they cover that they are of one face."""

# What a YuNet model must say of a face, and what of two that overlap lets only one stay.
LEAST_SCORE, OVERLAP, MOST_FACES = 0.6, 0.3, 100


@dataclass(frozen=True, slots=True)
class Face:
    """Where a face is, in pixels, and how sure that is, 0 to 1."""

    x: int
    y: int
    width: int
    height: int
    score: float


@dataclass(frozen=True, slots=True)
class Sight:
    """What one search saw: `neighbours` is how often."""

    search: str
    x: float
    y: float
    width: float
    height: float
    neighbours: int

    @property
    def area(self) -> float:
        return self.width * self.height


@dataclass(slots=True)
class Group:
    """Sights of one face, the surest first."""

    sights: list[Sight] = field(default_factory=list)

    @property
    def neighbours(self) -> int:
        return sum(sight.neighbours for sight in self.sights)

    @property
    def is_sure(self) -> bool:
        return len({sight.search for sight in self.sights}) > 1

    def mean(self, name: str) -> float:
        """Return a side of the sights, weighted by how often each was seen."""
        total = sum(getattr(sight, name) * sight.neighbours for sight in self.sights)
        return float(total) / self.neighbours


class Detectors(threading.local):
    """The cascades and models of one thread: OpenCV's can't be shared by two."""

    def __init__(self) -> None:
        self.loaded: dict[str, Any] = {}


detectors = Detectors()


def available(model: Path | None = None) -> bool:
    """Say whether faces can be found: OpenCV is there, without a model in a version below 5."""
    cv2 = opencv()
    return cv2 is not None and (model is not None or hasattr(cv2, "CascadeClassifier"))


def find(image: pyvips.Image, model: Path | None = None) -> list[Face]:
    """Return the faces in an upright picture, the most prominent first, in its pixels.

    With the path of a YuNet model (ONNX) that looks for them. Returns none where `available` says
    no. Raises ProcessorError where the model can't be used.
    """
    if not available(model) or not image.width or not image.height:
        return []
    small = image.thumbnail_image(SEARCHED_SIDE, height=SEARCHED_SIDE, size="down", no_rotate=True)
    found = modelled(small, model) if model else cascaded(small)
    factors = image.width / small.width, image.height / small.height
    faces = [enlarged(face, *factors, image) for face in found]
    return sorted(faces, key=prominence, reverse=True)


@cache
def opencv() -> Any:
    """Return OpenCV, None without it."""
    try:
        import cv2
    except ImportError:
        return None
    return cv2


def cascaded(image: pyvips.Image) -> list[Face]:
    """Return the faces that at least two searches with cascades see."""
    pixels = array(image, "b-w")
    sights = sorted(searched(pixels), key=lambda sight: sight.neighbours, reverse=True)
    groups = sorted(grouped(sights), key=lambda group: group.neighbours, reverse=True)
    return [face_of(group) for group in groups if group.is_sure]


def searched(pixels: Any) -> Iterator[Sight]:
    """Yield what each search sees in a grey picture."""
    for name in FRONTAL:
        yield from seen(name, name, pixels)
    yield from seen(PROFILE, PROFILE, pixels)
    wide = pixels.shape[1]
    for sight in seen("mirrored", PROFILE, opencv().flip(pixels, 1)):
        left = wide - sight.x - sight.width
        yield Sight("mirrored", left, sight.y, sight.width, sight.height, sight.neighbours)


def seen(search: str, name: str, pixels: Any) -> Iterator[Sight]:
    smallest = max(20, round(max(pixels.shape) * SMALLEST_PART))
    boxes, counts = cascade(name).detectMultiScale2(
        pixels, scaleFactor=STEP, minNeighbors=NEIGHBOURS, minSize=(smallest, smallest)
    )
    for (x, y, width, height), count in zip(boxes, counts, strict=True):
        yield Sight(search, float(x), float(y), float(width), float(height), int(count))


def cascade(name: str) -> Any:
    """Return this thread's cascade of a name."""
    if name not in detectors.loaded:
        cv2 = opencv()
        detectors.loaded[name] = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades, name)))
    return detectors.loaded[name]


def grouped(sights: Sequence[Sight]) -> list[Group]:
    """Return the sights by face; the surest sight of a face says which others are of it."""
    groups: list[Group] = []
    for sight in sights:
        for group in groups:
            if shared(group.sights[0], sight) >= SAME_FACE:
                group.sights.append(sight)
                break
        else:
            groups.append(Group([sight]))
    return groups


def shared(one: Sight, other: Sight) -> float:
    """Return which part of all that two boxes cover both cover."""
    wide = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    high = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    both = max(wide, 0.0) * max(high, 0.0)
    return both / (one.area + other.area - both)


def face_of(group: Group) -> Face:
    x, y, width, height = (group.mean(name) for name in ("x", "y", "width", "height"))
    score = group.neighbours / (group.neighbours + 10)
    return Face(round(x), round(y), round(width), round(height), score)


def modelled(image: pyvips.Image, model: Path) -> list[Face]:
    """Return the faces that a YuNet model finds."""
    pixels = array(image, "srgb")[:, :, ::-1].copy()
    try:
        detector = yunet(model)
        detector.setInputSize((image.width, image.height))
        rows = detector.detect(pixels)[1]
    except opencv().error as error:
        said = " ".join(str(error).split())[:300]
        raise ProcessorError(f"the face model {model} can't be used: {said}") from error
    if rows is None:
        return []
    return [face_in(row) for row in rows]


def face_in(row: Any) -> Face:
    """Return the face in a row of a model's answer, whose last number is its score."""
    x, y, width, height = (round(float(side)) for side in row[:4])
    return Face(x, y, width, height, float(row[14]))


def yunet(model: Path) -> Any:
    """Return this thread's detector with a model."""
    if str(model) not in detectors.loaded:
        detectors.loaded[str(model)] = opencv().FaceDetectorYN.create(
            str(model), "", (SEARCHED_SIDE, SEARCHED_SIDE), LEAST_SCORE, OVERLAP, MOST_FACES
        )
    return detectors.loaded[str(model)]


def array(image: pyvips.Image, space: str) -> Any:
    """Return a picture's pixels as OpenCV takes them: rows, columns and, with colour, bands."""
    import numpy as np

    if image.hasalpha():
        image = image.flatten(background=[128])
    image = image.colourspace(space).cast("uchar")
    shape = (image.height, image.width, 3)[: 2 if space == "b-w" else 3]
    return np.frombuffer(image.write_to_memory(), np.uint8).reshape(shape)


def enlarged(face: Face, x: float, y: float, image: pyvips.Image) -> Face:
    """Return a face in the pixels of the picture that the searched one was made from."""
    left, top = max(round(face.x * x), 0), max(round(face.y * y), 0)
    right = min(round((face.x + face.width) * x), image.width)
    bottom = min(round((face.y + face.height) * y), image.height)
    return Face(left, top, right - left, bottom - top, round(min(face.score, 1.0), 3))


def prominence(face: Face) -> float:
    return face.score * face.width * face.height
