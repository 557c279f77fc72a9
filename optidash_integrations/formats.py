"""Image formats: their names, media types, and how their bytes begin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True, eq=False)
class Format:
    """One image format; there is one object of each.

    `name` is what operations and settings call it, `label` what the API's metadata calls it.
    `web` says that every browser shows it, `modern` that only those do that say so in `Accept`.
    """

    name: str
    label: str
    media_type: str
    extensions: tuple[str, ...]
    alpha: bool = True
    animation: bool = False
    web: bool = False
    modern: bool = False

    @property
    def extension(self) -> str:
        """The usual extension, without the dot."""
        return self.extensions[0]


JPEG = Format("jpg", "JPEG", "image/jpeg", ("jpg", "jpeg", "jpe", "jfif"), alpha=False, web=True)
PNG = Format("png", "PNG", "image/png", ("png", "apng"), animation=True, web=True)
GIF = Format("gif", "GIF", "image/gif", ("gif",), animation=True, web=True)
WEBP = Format("webp", "WEBP", "image/webp", ("webp",), animation=True, modern=True)
AVIF = Format("avif", "AVIF", "image/avif", ("avif", "avifs"), animation=True, modern=True)
TIFF = Format("tiff", "TIFF", "image/tiff", ("tiff", "tif"))
BMP = Format("bmp", "BMP", "image/bmp", ("bmp", "dib"))
ICO = Format("ico", "ICO", "image/vnd.microsoft.icon", ("ico",))
HEIC = Format("heic", "HEIC", "image/heic", ("heic", "heif"))
JP2 = Format("jp2", "JP2", "image/jp2", ("jp2", "j2k", "jpf", "jpx"))
JXL = Format("jxl", "JXL", "image/jxl", ("jxl",), animation=True)
PSD = Format("psd", "PSD", "image/vnd.adobe.photoshop", ("psd",))
SVG = Format("svg", "SVG", "image/svg+xml", ("svg", "svgz"))

FORMATS = (JPEG, PNG, GIF, WEBP, AVIF, TIFF, BMP, ICO, HEIC, JP2, JXL, PSD, SVG)

# What animations are written as.
MOVING = (WEBP, GIF)

# What else servers call them.
ALIASES = {
    "image/jpg": JPEG,
    "image/pjpeg": JPEG,
    "image/apng": PNG,
    "image/avif-sequence": AVIF,
    "image/x-icon": ICO,
    "image/x-ms-bmp": BMP,
    "image/heif": HEIC,
    "image/heic-sequence": HEIC,
    "image/heif-sequence": HEIC,
}

BY_NAME = {f.name: f for f in FORMATS} | {"jpeg": JPEG}
BY_MEDIA_TYPE = {f.media_type: f for f in FORMATS} | ALIASES
BY_EXTENSION = {extension: f for f in FORMATS for extension in f.extensions}

# Paths on which a web server's image answer may be expected before it has come.
WEB_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "gif", "webp", "avif"})

# ISO base media files name their content in brands (ISO/IEC 14496-12, 4.3).
BRANDS = {
    b"avif": AVIF,
    b"avis": AVIF,
    b"heic": HEIC,
    b"heix": HEIC,
    b"heim": HEIC,
    b"heis": HEIC,
    b"hevc": HEIC,
    b"hevx": HEIC,
}

SIGNATURES = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"II*\x00", TIFF),
    (b"MM\x00*", TIFF),
    (b"II+\x00", TIFF),
    (b"MM\x00+", TIFF),
    (b"\x00\x00\x01\x00", ICO),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", JP2),
    (b"\xff\x4f\xff\x51", JP2),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", JXL),
    (b"\xff\x0a", JXL),
    (b"8BPS", PSD),
    (b"BM", BMP),
)

HEAD_BYTES = 512
"""How many of a file's first bytes `detect` needs at the most."""


def detect(head: bytes) -> Format | None:
    """Return the format that the first `HEAD_BYTES` bytes of a file tell, or None."""
    for signature, found in SIGNATURES:
        if head.startswith(signature):
            return found
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WEBP
    if head[4:8] == b"ftyp":
        return detect_brand(head)
    if b"<svg" in head[:HEAD_BYTES].lower():
        return SVG
    return None


def detect_brand(head: bytes) -> Format | None:
    length = min(int.from_bytes(head[:4], "big"), len(head))
    compatible = (head[at : at + 4] for at in range(16, length, 4))
    for brand in (head[8:12], *compatible):
        if brand in BRANDS:
            return BRANDS[brand]
    return None


def of_media_type(content_type: str) -> Format | None:
    """Return the format that a `Content-Type` value names, or None. Parameters are ignored."""
    return BY_MEDIA_TYPE.get(content_type.partition(";")[0].strip().lower())


def of_path(path: str) -> Format | None:
    """Return the format that a path's or file name's extension names, or None."""
    return BY_EXTENSION.get(extension_of(path))


def extension_of(path: str) -> str:
    """Return a path's extension, lower-case and without the dot; empty where it has none."""
    return PurePosixPath(path).suffix[1:].lower()


def is_web_path(path: str) -> bool:
    """Say whether a path's extension is that of an image on the web."""
    dot = path.rfind(".")
    return dot != -1 and path[dot + 1 :].lower() in WEB_EXTENSIONS
