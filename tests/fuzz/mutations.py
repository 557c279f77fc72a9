"""Damage done to a file at random: bits, numbers, pieces, chunks, and the end of it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from random import Random

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_BYTES = 1_000_000
"""No file grows beyond this."""

# Where counting goes wrong: around nothing, and around what one, two and four bytes hold.
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = tuple(
    struct.pack(order + kind, number & mask)
    for number in NUMBERS
    for order in "<>"
    for kind, mask in (("H", 0xFFFF), ("I", 0xFFFFFFFF))
)

Mutation = Callable[[bytearray, Random], None]


def mutated(data: bytes, other: bytes, chance: Random) -> bytes:
    """Return a file with some damage, perhaps with a piece of another; two in five as they are."""
    times = chance.choice((0, 0, 0, 0, 1, 1, 1, 2, 2, 6))
    made = bytearray(data)
    for _ in range(times):
        if chance.random() < 0.05:
            joined(made, other, chance)
        elif made.startswith(PNG_SIGNATURE) and chance.random() < 0.4:
            made = shuffled(made, chance)
        elif made:
            chance.choice(MUTATIONS)(made, chance)
    if made.startswith(PNG_SIGNATURE) and chance.random() < 0.8:
        made = with_checksums(made)
    return bytes(made[:MOST_BYTES])


def place(made: bytearray, chance: Random) -> int:
    """Return a place in a file, often one near its beginning, where headers are."""
    return chance.randrange(min(len(made), chance.choice((64, 256, 1024, *[len(made)] * 4))))


def flip(made: bytearray, chance: Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        made[place(made, chance)] ^= 1 << chance.randrange(8)


def set_byte(made: bytearray, chance: Random) -> None:
    made[place(made, chance)] = chance.randrange(256)


def set_number(made: bytearray, chance: Random) -> None:
    """Put a telling number somewhere, as lengths, sizes and counts are written."""
    word = chance.choice(WORDS)
    at = place(made, chance)
    made[at : at + len(word)] = word


def add_to_number(made: bytearray, chance: Random) -> None:
    kind = chance.choice(("<H", ">H", "<I", ">I"))
    size = struct.calcsize(kind)
    at = place(made, chance)
    if at + size <= len(made):
        (number,) = struct.unpack_from(kind, made, at)
        number = (number + chance.choice((-16, -2, -1, 1, 2, 16))) % (1 << 8 * size)
        struct.pack_into(kind, made, at, number)


def cut_off(made: bytearray, chance: Random) -> None:
    del made[chance.choice((place(made, chance), len(made) - chance.randint(1, 16))) :]


def take_out(made: bytearray, chance: Random) -> None:
    at = place(made, chance)
    del made[at : at + chance.choice((1, 2, 4, 13, 100, 1000))]


def repeat(made: bytearray, chance: Random) -> None:
    at = place(made, chance)
    piece = made[at : at + chance.choice((1, 4, 12, 100, 1000))]
    made[at:at] = piece * chance.choice((1, 1, 2, 50))


def swap(made: bytearray, chance: Random) -> None:
    """Swap two pieces of one length."""
    one, other = sorted((place(made, chance), place(made, chance)))
    size = min(chance.choice((4, 16, 256)), other - one, len(made) - other)
    first, second = made[one : one + size], made[other : other + size]
    made[one : one + size], made[other : other + size] = second, first


def fill(made: bytearray, chance: Random) -> None:
    at = place(made, chance)
    size = min(chance.choice((2, 8, 64, 512)), len(made) - at)
    made[at : at + size] = bytes((chance.choice((0, 0xFF, 0x80)),)) * size


def say(made: bytearray, chance: Random) -> None:
    """Put something in that a reader of text or of chunks knows."""
    at = place(made, chance)
    made[at:at] = chance.choice(SAID)


SAID = (
    b'<use href="#a"/>',
    b'<g id="a" transform="scale(1e30)">',
    b'width="1e9"',
    b"<!ENTITY a '&b;&b;'>",
    b"&#0;",
    b"NETSCAPE2.0\3\1\0\0\0",
    b"ANMF",
    b"Exif\0\0II*\0\x08\0\0\0",
    b"\xff\xda",
    b"\xff\xc4\0\x02",
    b"\xff\xdd\0\4\0\1",
    b"\0\0\0\0mdat",
)


def joined(made: bytearray, other: bytes, chance: Random) -> None:
    """Go on, from some place, with the rest of another file."""
    at = chance.randrange(len(made) + 1)
    made[at:] = other[chance.choice((at, chance.randrange(len(other) + 1))) :]


def shuffled(png: bytearray, chance: Random) -> bytearray:
    """Return a PNG with a chunk moved, repeated, left out or changed inside."""
    chunks = chunks_of(png)
    if len(chunks) < 2:
        return png
    kind, payload = chunks.pop(chance.randrange(len(chunks)))
    what = chance.randrange(4)
    if what == 0 and payload:
        flip(payload, chance)
    if what != 1:
        chunks.insert(chance.randrange(len(chunks) + 1), (kind, payload))
    if what == 2:
        chunks.insert(chance.randrange(len(chunks) + 1), (kind, payload))
    return bytearray(PNG_SIGNATURE) + b"".join(chunk(*found) for found in chunks)


def chunks_of(png: bytes | bytearray) -> list[tuple[bytes, bytearray]]:
    found = []
    at = len(PNG_SIGNATURE)
    while at + 12 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        found.append((kind, bytearray(png[at + 8 : at + 8 + length])))
        at += 12 + length
    return found


def chunk(kind: bytes, payload: bytes | bytearray) -> bytes:
    checksum = zlib.crc32(kind + payload)
    return struct.pack(">I4s", len(payload), kind) + payload + struct.pack(">I", checksum)


def with_checksums(png: bytearray) -> bytearray:
    """Return a PNG whose checksums are right, so that the damage is looked at and not refused."""
    at = len(PNG_SIGNATURE)
    while at + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, at)
        end = at + 8 + length
        if end + 4 > len(png):
            break
        png[end : end + 4] = struct.pack(">I", zlib.crc32(png[at + 4 : end]))
        at = end + 4
    return png


MUTATIONS: tuple[Mutation, ...] = (
    flip,
    flip,
    set_byte,
    set_number,
    set_number,
    add_to_number,
    cut_off,
    take_out,
    repeat,
    swap,
    fill,
    say,
)
