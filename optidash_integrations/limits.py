"""How large an image may be, before and after."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that hold before anything is decoded, and for what comes out.

    `max_input_bytes` is the source's size in bytes; `max_pixels` its width times height times
    frames; `max_frames` its frames; `max_width` and `max_height` a variant's sides in pixels. `svg`
    says whether drawings are rendered at all; `max_seconds` is for the work on one image, on which
    encoders spend several times as long, for fewer bytes, where `patient`: nobody waits for it.
    """

    max_input_bytes: int = 50 * MIB
    max_pixels: int = 50_000_000
    max_frames: int = 200
    max_width: int = 4096
    max_height: int = 4096
    svg: bool = False
    max_seconds: float = 30.0
    patient: bool = False
