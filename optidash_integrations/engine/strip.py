"""Take private metadata out of a file without decoding it: JPEG, PNG and WebP.

What makes the picture look as it does stays, byte for byte: the coded pixels, the profile, Adobe's
marker, and the orientation where it is not 1. EXIF, XMP, IPTC, comments and whatever nobody needs
to show the picture go, and so does what comes after its end: the film of a motion photo, the
second picture of a gain map, both of which may carry the position again.
"""

from __future__ import annotations

import re
import struct
import zlib
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from optidash_integrations import formats
from optidash_integrations.errors import BrokenImageError, UnsupportedImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optidash_integrations.formats import Format

MOST_PIECES = 65_536

EXIF = b"Exif\0\0"
ORIENTATION_TAG = 0x0112
POSITION_TAG = 0x8825
XMP_POSITION = b"GPSLatitude"

# JPEG markers (ITU-T T.81, table B.1) that stand alone, without a length.
ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
SOI, EOI, SOS, COMMENT = 0xD8, 0xD9, 0xDA, 0xFE
APP0, APP1, APP2, APP14, APP15 = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
# The first marker after coded data: neither a stuffed zero, nor a restart, nor a fill byte.
NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks that are not critical and still change what is seen (PNG, third edition, 11.3).
PNG_LOOKS = frozenset(
    b"acTL fcTL fdAT tRNS gAMA cHRM sRGB iCCP cICP mDCV cLLI sBIT bKGD hIST pHYs sPLT".split()
)
WEBP_LOOKS = frozenset((b"VP8X", b"ICCP", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L"))
# The flags of a VP8X chunk that announce EXIF and XMP (RFC 9649, 2.7.1).
WEBP_EXIF, WEBP_XMP = 0x08, 0x04


class Piece(NamedTuple):
    """A segment or chunk: its kind, what it holds, and all of its bytes."""

    kind: bytes
    payload: bytes
    whole: bytes


def without_position(data: bytes, image_format: Format) -> bytes:
    """Return the file without its private metadata, its pixels untouched.

    The very same bytes come back where there is nothing to take out. A file that breaks off comes
    back as far as it goes. Raises BrokenImageError where its structure can't be followed, and
    UnsupportedImageError for a format other than JPEG, PNG and WebP.
    """
    if image_format is formats.JPEG:
        return stripped_jpeg(data)
    if image_format is formats.PNG:
        return stripped_png(data)
    if image_format is formats.WEBP:
        return stripped_webp(data)
    raise UnsupportedImageError(
        f"metadata can be taken out of JPEG, PNG and WebP without loss, not of {image_format.label}"
    )


def has_position(data: bytes, image_format: Format) -> bool:
    """Say whether a JPEG's, PNG's or WebP's metadata carries a position.

    Raises as `without_position` does. What comes after the picture's end is not looked at.
    """
    if image_format not in PIECES:
        raise UnsupportedImageError(
            f"metadata is searched in JPEG, PNG and WebP, not in {image_format.label}"
        )
    return any(
        XMP_POSITION in piece.payload or POSITION_TAG in exif_tags(exif_of(piece))
        for piece in PIECES[image_format](data)
        if piece.kind not in (b"IDAT", b"fdAT", b"ANMF", b"VP8 ", b"VP8L", b"ALPH", b"scan")
    )


def listed(pieces: Iterator[Piece]) -> list[Piece]:
    """Return all pieces; raises BrokenImageError for more than any encoder writes."""
    found = list(islice(pieces, MOST_PIECES + 1))
    if len(found) > MOST_PIECES:
        raise BrokenImageError(f"the file is in more than {MOST_PIECES} pieces")
    return found


# --- JPEG


def stripped_jpeg(data: bytes) -> bytes:
    pieces = listed(jpeg_pieces(data))
    kept = [piece.whole for piece in pieces if is_seen_in_jpeg(piece)]
    orientation = orientation_of(pieces)
    if len(kept) == len(pieces) and sum(map(len, kept)) == len(data):
        return data
    if orientation != 1:
        exif = EXIF + orientation_only(orientation)
        at = 2 if pieces[1].kind == bytes([APP0]) else 1
        kept.insert(at, struct.pack(">BBH", 0xFF, APP1, len(exif) + 2) + exif)
    return b"".join(kept)


def is_seen_in_jpeg(piece: Piece) -> bool:
    """Say whether a segment changes how the picture looks."""
    marker = piece.kind[0]
    if marker == APP0:
        return piece.payload.startswith(b"JFIF\0")
    if marker == APP2:
        return piece.payload.startswith(b"ICC_PROFILE\0")
    return marker == APP14 or not (APP1 <= marker <= APP15 or marker == COMMENT)


def jpeg_pieces(data: bytes) -> Iterator[Piece]:
    """Yield a JPEG's segments, coded data together with the scan header before it."""
    if data[:2] != b"\xff\xd8":
        raise BrokenImageError("the file does not begin as a JPEG does")
    yield Piece(b"\xd8", b"", data[:2])
    at = 2
    while at < len(data):
        start = at
        while data[at : at + 2] == b"\xff\xff":
            at += 1
        if data[at : at + 1] != b"\xff" or at + 1 >= len(data):
            raise BrokenImageError(f"no JPEG marker at byte {at}")
        marker = data[at + 1]
        end = at + 2 if marker in ALONE or marker == EOI else jpeg_segment_end(data, at)
        payload = data[at + 4 : end]
        if marker == SOS:
            found = NEXT_MARKER.search(data, end)
            end = found.start() if found else len(data)
        yield Piece(b"scan" if marker == SOS else bytes([marker]), payload, data[start:end])
        if marker == EOI:
            return
        at = end


def jpeg_segment_end(data: bytes, at: int) -> int:
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    if length < 2 or at + 2 + length > len(data):
        raise BrokenImageError(f"the JPEG segment at byte {at} has no valid length")
    return at + 2 + length


# --- PNG


def stripped_png(data: bytes) -> bytes:
    pieces = listed(png_pieces(data))
    kept = [p for p in pieces if not p.kind[0] & 0x20 or p.kind in PNG_LOOKS]
    if len(kept) == len(pieces) and sum(len(p.whole) for p in kept) + 8 == len(data):
        return data
    orientation = orientation_of(pieces)
    if orientation != 1:
        kept.insert(1, png_chunk(b"eXIf", orientation_only(orientation)))
    return PNG_SIGNATURE + b"".join(piece.whole for piece in kept)


def png_pieces(data: bytes) -> Iterator[Piece]:
    """Yield a PNG's chunks, up to its end chunk; the last may break off."""
    if data[:8] != PNG_SIGNATURE:
        raise BrokenImageError("the file does not begin as a PNG does")
    at = 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if not (len(kind) == 4 and kind.isalpha()):
            raise BrokenImageError(f"no PNG chunk at byte {at}")
        end = at + 12 + length
        yield Piece(kind, data[at + 8 : end - 4], data[at:end])
        if kind == b"IEND":
            return
        at = end


def has_right_checksums(data: bytes) -> bool:
    """Say whether browsers take a PNG's chunks for whole; libvips does not look."""
    return all(
        zlib.crc32(piece.whole[4:-4]) == int.from_bytes(piece.whole[-4:], "big")
        for piece in png_pieces(data)
    )


def png_chunk(kind: bytes, payload: bytes) -> Piece:
    checksum = zlib.crc32(kind + payload)
    whole = struct.pack(">I4s", len(payload), kind) + payload + struct.pack(">I", checksum)
    return Piece(kind, payload, whole)


def png_pictures(data: bytes) -> int:
    """Return how many pictures a PNG holds: an APNG's frames, and its still one if it is apart.

    Damage is not complained of: what comes before it counts.
    """
    frames = 0
    is_apart = True
    try:
        for piece in png_pieces(data):
            if piece.kind == b"acTL":
                frames = int.from_bytes(piece.payload[:4], "big")
            elif piece.kind == b"fcTL":
                is_apart = False
            elif piece.kind == b"IDAT":
                break
    except BrokenImageError:
        pass
    return frames + is_apart if frames else 1


# --- WebP


def stripped_webp(data: bytes) -> bytes:
    pieces = listed(webp_pieces(data))
    kept = [piece for piece in pieces if piece.kind in WEBP_LOOKS]
    if len(kept) == len(pieces) and sum(len(p.whole) for p in kept) + 12 == len(data):
        return data
    orientation = orientation_of(pieces)
    if orientation != 1:
        kept.append(webp_chunk(b"EXIF", orientation_only(orientation)))
    body = b"".join(with_flags(piece, orientation != 1).whole for piece in kept)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def with_flags(piece: Piece, has_exif: bool) -> Piece:
    """Return a VP8X chunk that announces no XMP, and EXIF only where it is; others unchanged."""
    if piece.kind != b"VP8X" or not piece.payload:
        return piece
    flags = piece.payload[0] & ~(WEBP_EXIF | WEBP_XMP) | (WEBP_EXIF if has_exif else 0)
    return webp_chunk(b"VP8X", bytes([flags]) + piece.payload[1:])


def webp_pieces(data: bytes) -> Iterator[Piece]:
    """Yield a WebP's chunks; the last may break off."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise BrokenImageError("the file does not begin as a WebP does")
    stop = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    at = 12
    while at < stop:
        if at + 8 > stop:
            raise BrokenImageError(f"no WebP chunk at byte {at}")
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + length + length % 2
        whole = data[at : min(end, max(stop, at + 8 + length))]
        yield Piece(data[at : at + 4], data[at + 8 : at + 8 + length], whole)
        at = end


def webp_chunk(kind: bytes, payload: bytes) -> Piece:
    whole = kind + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)
    return Piece(kind, payload, whole)


# --- EXIF


def exif_of(piece: Piece) -> bytes:
    """Return the TIFF structure that a piece holds, or nothing."""
    if piece.kind in (b"eXIf", b"EXIF") or (
        piece.kind == bytes([APP1]) and piece.payload.startswith(EXIF)
    ):
        return piece.payload.removeprefix(EXIF)
    return b""


def exif_tags(tiff: bytes) -> dict[int, bytes]:
    """Return tag and value field of a TIFF structure's first directory (TIFF 6.0, section 2)."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return {}
    (at,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack(f"{order}H", tiff[at : at + 2].ljust(2, b"\0"))
    tags: dict[int, bytes] = {}
    for entry in range(at + 2, min(at + 2 + 12 * count, len(tiff) - 11), 12):
        (tag,) = struct.unpack_from(f"{order}H", tiff, entry)
        value = tiff[entry + 8 : entry + 12]
        tags.setdefault(tag, value if order == ">" else value[1::-1] + value[:1:-1])
    return tags


def orientation_of(pieces: list[Piece]) -> int:
    """Return the orientation that EXIF tells, 1 where it tells none that is valid."""
    for piece in pieces:
        value = exif_tags(exif_of(piece)).get(ORIENTATION_TAG)
        if value is not None:
            found = int.from_bytes(value[:2], "big")
            return found if 1 <= found <= 8 else 1
    return 1


def orientation_only(orientation: int) -> bytes:
    """Return a TIFF structure that holds an orientation and nothing else."""
    return struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, ORIENTATION_TAG, 3, 1, orientation, 0, 0)


PIECES = {formats.JPEG: jpeg_pieces, formats.PNG: png_pieces, formats.WEBP: webp_pieces}
