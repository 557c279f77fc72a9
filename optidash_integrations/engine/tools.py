"""What a site lends the engine beside the image: folders, models, and a way to fetch a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optidash_integrations.engine.fonts import Fonts


@dataclass(frozen=True)
class Tools:
    """Where the engine finds what an operation names; None where the site has none.

    `watermarks` and `fonts` are folders, `face_model` and `super_resolution_model` ONNX files.
    `fetch` returns the bytes at an address, or raises. `svg` says that drawings are read,
    `describes` that results tell in detail of what came and what was made, in a millisecond or two.
    """

    watermarks: Path | None = None
    fonts: Path | None = None
    face_model: Path | None = None
    super_resolution_model: Path | None = None
    fetch: Callable[[str], bytes] | None = None
    svg: bool = False
    describes: bool = True

    @cached_property
    def registered(self) -> Fonts:
        """The fonts that may be written with."""
        from optidash_integrations.engine.fonts import Fonts

        return Fonts(self.fonts)


NONE = Tools()
