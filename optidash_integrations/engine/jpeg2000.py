"""Writing JPEG 2000, which libvips, as it comes with pyvips, does not: Pillow does, by OpenJPEG."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING

from optidash_integrations.errors import ProcessorError

if TYPE_CHECKING:
    import pyvips

# Peak signal to noise in decibels for a quality of 0 and for each further step of it.
LEAST_DECIBELS, DECIBELS_A_STEP = 20.0, 0.3
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def available() -> bool:
    """Say whether JPEG 2000 can be written here."""
    if find_spec("PIL") is None:
        return False
    from PIL import features

    return bool(features.check("jpg_2000"))


def written(image: pyvips.Image, quality: int | None, profile: bytes | None = None) -> bytes:
    """Return the file of an image of 8 bits, in sRGB or grey; without a quality it loses nothing.

    Raises ProcessorError where OpenJPEG fails.
    """
    from PIL import Image

    size = (image.width, image.height)
    picture = Image.frombytes(MODES[image.bands], size, bytes(image.write_to_memory()))
    options: dict[str, object] = {"irreversible": quality is not None, "mct": int(image.bands > 2)}
    if quality is not None:
        decibels = LEAST_DECIBELS + quality * DECIBELS_A_STEP
        options |= {"quality_mode": "dB", "quality_layers": [decibels]}
    if profile:
        options["icc_profile"] = profile
    file = io.BytesIO()
    try:
        picture.save(file, "JPEG2000", no_jp2=False, **options)
    except (OSError, ValueError) as error:
        raise ProcessorError(f"Pillow could not make a JP2: {error}") from error
    return file.getvalue()
