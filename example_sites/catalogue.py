"""The photos that the galleries start with, and who took them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
PHOTOS = HERE / "photos"

QUALITY = 92
"""JPEG quality of the photos that are saved anew; see photos/ATTRIBUTION.md."""

CARD_SIZES = "(min-width: 84rem) 25rem, (min-width: 48rem) 45vw, 92vw"
"""How wide a card's picture is on which screen."""

CC_BY = "CC BY 4.0"
CC0 = "CC0 1.0"
PUBLIC = "public domain"


@dataclass(frozen=True)
class Photo:
    """A sample photo: its file in `photos/`, what to say of it, and where it comes from.

    `member` is its file name in the package. `width` says how wide it is saved anew; None takes
    the file as it is.
    """

    name: str
    title: str
    alt: str
    author: str
    licence: str
    member: str
    width: int | None = None

    @property
    def credit(self) -> str:
        """Author and licence, as a caption names them."""
        return f"{self.author}, {self.licence}"


SAMPLES = (
    Photo(
        "peaks.jpg",
        "Picos de Europa",
        "A path through a meadow below snowy limestone peaks",
        "Aitzol Berasategi",
        CC_BY,
        "picosdeeuropa_by_Aitzol_Berasategi.jpg",
    ),
    Photo(
        "dandelions.jpg",
        "Seeding",
        "Dandelion clocks in a meadow against the evening sun",
        "Clemens Engelhardt",
        CC0,
        "seeding_by_Clements_Engelhardt.jpg",
        3840,
    ),
    Photo(
        "stream.jpg",
        "Life",
        "A stream running over mossy rocks in a forest",
        "Aitzol Berasategi",
        CC_BY,
        "life_by_Aitzol_Berasategi.jpg",
        2880,
    ),
    Photo(
        "friends.jpg",
        "Friends",
        "Two brown dogs looking out of the door of a wooden house",
        "Aitzol Berasategi",
        CC_BY,
        "friends_by_Aitzol_Berasategi.jpg",
        1920,
    ),
    Photo(
        "sunset.jpg",
        "Sunset",
        "The sun setting behind hills, seen from a stony summit",
        "Aitzol Berasategi",
        CC_BY,
        "sunset_by_Aitzol_Berasategi.jpg",
        3264,
    ),
    Photo(
        "hills.jpg",
        "Aitzgorri",
        "A green pasture, autumn woods and a rocky ridge behind them",
        "Aitzol Berasategi",
        CC_BY,
        "aitzgorri_by_Aitzol_Berasategi.jpg",
        2880,
    ),
)

# Where the photos above can't be had: small ones, enough to see the galleries.
STAND_INS = (
    Photo("rocket.jpg", "Rocket", "A rocket at lift-off", "SpaceX", PUBLIC, "rocket.jpg"),
    Photo(
        "galaxies.jpg",
        "Hubble deep field",
        "Hundreds of galaxies",
        "NASA",
        PUBLIC,
        "hubble_deep_field.jpg",
    ),
    Photo("cat.jpg", "Chelsea", "A tabby cat", "Stefan van der Walt", CC0, "chelsea.png", 451),
    Photo("coffee.jpg", "Coffee", "A cup of coffee", "Rachel Michetti", CC0, "coffee.png", 600),
    Photo(
        "astronaut.jpg",
        "Eileen Collins",
        "An astronaut in front of a model of a space shuttle",
        "NASA",
        PUBLIC,
        "astronaut.png",
        512,
    ),
)

KNOWN = {photo.name: photo for photo in (*SAMPLES, *STAND_INS)}

IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".avif", ".gif"}


@dataclass(frozen=True)
class Picture:
    """One picture in a gallery, as its template shows it; `bytes` is the size of its file."""

    name: str
    title: str
    alt: str
    credit: str
    width: int
    height: int
    bytes: int


def pictures(media: Path) -> list[Picture]:
    """Return what a media folder holds: uploads first, the newest on top, then the photos."""
    uploads = sorted(images_in(media / "uploads"), key=lambda path: -path.stat().st_mtime)
    names = list(KNOWN)
    photos = sorted(
        images_in(media / "photos"),
        key=lambda path: (names.index(path.name) if path.name in KNOWN else len(names), path.name),
    )
    return [picture(path, media) for path in (*uploads, *photos)]


def images_in(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if path.suffix.lower() in IMAGES)


def picture(path: Path, media: Path) -> Picture:
    name = path.relative_to(media).as_posix()
    known = KNOWN.get(path.name)
    width, height = upright_size(path)
    return Picture(
        name,
        known.title if known else path.stem.replace("_", " "),
        known.alt if known else path.stem.replace("_", " "),
        known.credit if known else "uploaded" if name.startswith("uploads/") else "",
        width,
        height,
        path.stat().st_size,
    )


def upright_size(path: Path) -> tuple[int, int]:
    """Return width and height in pixels as the picture is shown."""
    with Image.open(path) as image:
        turned = image.getexif().get(0x0112, 1) >= 5  # EXIF orientations 5 to 8 lie on their side
        return (image.height, image.width) if turned else image.size
