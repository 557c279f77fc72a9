"""What is known of a source: its digest, format and size, learned once for a name and validator."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from optidash_integrations.formats import BY_NAME, Format
from optidash_integrations.limits import Limits
from optidash_integrations.processors import Processor
from optidash_integrations.variants import ImageData

VERSION_LENGTH = 12
"""How many characters of a digest stand in an address as `v`."""


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """What is known of one source.

    `digest` is the SHA-256 of its bytes in hex; `width` and `height` are those of the upright
    picture in pixels; `bytes` its length. `validator` is what changes when the bytes do.
    """

    digest: str
    format_name: str
    width: int
    height: int
    frames: int
    alpha: bool
    bytes: int
    validator: str = ""

    @property
    def format(self) -> Format:
        """The source's own format."""
        return BY_NAME[self.format_name]

    @property
    def version(self) -> str:
        """What an address of this source carries as `v`."""
        return self.digest[:VERSION_LENGTH]

    def to_meta(self) -> dict[str, object]:
        """Return the record as a JSON object."""
        return asdict(self)

    @classmethod
    def from_meta(cls, meta: Mapping[str, object]) -> SourceRecord | None:
        """Read what `to_meta` gave; None where it is something else."""
        try:
            record = cls(**{f.name: meta[f.name] for f in fields(cls)})  # type: ignore[arg-type]
        except KeyError:
            return None
        return record if record.format_name in BY_NAME else None


def identify(
    data: ImageData, processor: Processor, limits: Limits, validator: str = ""
) -> SourceRecord:
    """Read a source's head and hash its bytes. Raises `ImageError` where it is not an image."""
    probe = processor.probe(data, limits)
    return SourceRecord(
        digest=digest_of(data),
        format_name=probe.format.name,
        width=probe.upright_width,
        height=probe.upright_height,
        frames=probe.frames,
        alpha=probe.alpha,
        bytes=probe.bytes,
        validator=validator,
    )


def digest_of(data: ImageData) -> str:
    """Return the SHA-256 of a source's bytes in hex."""
    if isinstance(data, Path):
        with data.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(data).hexdigest()


def record_key(name: str, validator: str | None) -> str:
    """Return the cache key of a record; without a validator that of the newest under this name."""
    if validator is None:
        return "n-" + hashed(name)
    return "r-" + hashed(name, validator)


def variant_key(digest: str, fingerprint: str, output: str, revision: str) -> str:
    """Return the cache key of a variant, which is also what its ETag is made from."""
    return hashed(digest, fingerprint, output, revision)


def refusal_key(digest: str, revision: str) -> str:
    """Return the cache key of the note that a source can't be processed."""
    return "x-" + hashed(digest, revision)


def hashed(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:40]
