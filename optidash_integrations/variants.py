"""What a processor gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

ImageData = bytes | Path
"""A source: its bytes, or the file that holds them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInfo:
    """What is said of an image, in the fields of the API's JSON answer.

    A field that does not apply, or is not known, is None. Width and height are in pixels, `depth`
    in bits a pixel; `sha1` is that of the file's bytes, in hex. `url` is where a result lies.
    """

    url: str | None = None
    name: str | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    colorspace: str | None = None
    interlaced: bool | None = None
    sampling: str | None = None
    depth: int | None = None
    quality: int | None = None
    bytes: int | None = None
    sha1: str | None = None

    @classmethod
    def from_dict(cls, document: object) -> ImageInfo:
        """Read an object of the JSON answer; what is missing or of another type becomes None."""
        if not isinstance(document, Mapping):
            return cls()
        known = {name: document.get(name) for name in FIELD_TYPES}
        return cls(**{n: v for n, v in known.items() if type(v) is FIELD_TYPES[n]})  # type: ignore[arg-type]


FIELD_TYPES = {"interlaced": bool} | {
    name: int if name in ("width", "height", "depth", "quality", "bytes") else str
    for name in (f.name for f in fields(ImageInfo))
    if name != "interlaced"
}


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known of a source and its result; `raw` is the API's whole document.

    `faces` (boxes in the result's pixels), `palette` (colours and their shares) and `placeholder`
    are what `detect` asked for. `notes` say what was asked for and could not be done.
    """

    id: str = ""
    input: ImageInfo = field(default_factory=ImageInfo)
    output: ImageInfo = field(default_factory=ImageInfo)
    raw: Mapping[str, object] = field(default_factory=dict, repr=False)
    faces: tuple[Mapping[str, object], ...] | None = None
    palette: tuple[Mapping[str, object], ...] | None = None
    placeholder: str | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> Metadata:
        """Read the API's document; what it lacks stays empty."""
        placeholder, notes = document.get("placeholder"), document.get("notes")
        return cls(
            str(document.get("id") or ""),
            ImageInfo.from_dict(document.get("input")),
            ImageInfo.from_dict(document.get("output")),
            dict(document),
            faces=objects(document.get("faces")),
            palette=objects(document.get("palette")),
            placeholder=placeholder if isinstance(placeholder, str) else None,
            notes=tuple(str(note) for note in notes) if isinstance(notes, list) else (),
        )


def objects(found: object) -> tuple[Mapping[str, object], ...] | None:
    """Return a JSON list of objects, None where it is something else."""
    if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in found):
        return None
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Variant:
    """One processed image: its bytes, media type, size in pixels and metadata.

    `is_fallback` says that it is a client's `fallback_image`, because there is no other.
    """

    content: bytes = field(repr=False)
    content_type: str
    width: int
    height: int
    metadata: Metadata = field(default_factory=Metadata)
    is_fallback: bool = False
