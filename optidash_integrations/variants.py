"""What a processor gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

ImageData = bytes | Path
"""A source: its bytes, or the file that holds them."""

NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known of a source and its result.

    `input` and `output` hold the fields of the API's JSON answer (`name`, `format`, `width`,
    `height`, `bytes` and so on; a field that does not apply is None); `raw` is the whole document.
    """

    id: str = ""
    input: Mapping[str, object] = field(default_factory=lambda: NOTHING)
    output: Mapping[str, object] = field(default_factory=lambda: NOTHING)
    raw: Mapping[str, object] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class Variant:
    """One processed image: its bytes, media type, size in pixels and metadata."""

    content: bytes
    content_type: str
    width: int
    height: int
    metadata: Metadata = field(default_factory=Metadata)
