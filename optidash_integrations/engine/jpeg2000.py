"""Writing JPEG 2000, which libvips, as it comes with pyvips, does not: Pillow does, by OpenJPEG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optidash_integrations.engine import pillow

if TYPE_CHECKING:
    import pyvips

# Peak signal to noise in decibels for a quality of 0 and for each further step of it.
LEAST_DECIBELS, DECIBELS_A_STEP = 20.0, 0.3


def available() -> bool:
    """Say whether JPEG 2000 can be written here."""
    return pillow.has("jpg_2000")


def written(image: pyvips.Image, quality: int | None, profile: bytes | None = None) -> bytes:
    """Return the file of an image of 8 bits, in sRGB or grey; without a quality it loses nothing.

    Raises ProcessorError where OpenJPEG fails.
    """
    options: dict[str, object] = {"irreversible": quality is not None, "mct": int(image.bands > 2)}
    if quality is not None:
        decibels = LEAST_DECIBELS + quality * DECIBELS_A_STEP
        options |= {"quality_mode": "dB", "quality_layers": [decibels]}
    if profile:
        options["icc_profile"] = profile
    return pillow.saved(image, "JPEG2000", no_jp2=False, **options)
