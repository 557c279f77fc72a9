"""Which metadata of a source goes into a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyvips

# Who made a picture and who owns it (Exif 2.32, table 4).
COPYRIGHT = ("exif-ifd0-Copyright", "exif-ifd0-Artist")

KEEP = {"none": "", "copyright": "exif", "all": "exif|xmp|iptc"}
"""What libvips' savers are told for each value of `output.metadata`."""


def kept(image: pyvips.Image, wanted: str) -> pyvips.Image:
    """Return the image with only the fields of EXIF that are wanted: `none`, `copyright`, `all`."""
    if wanted != "copyright":
        return image
    image = image.copy()
    for name in image.get_fields():
        if name.startswith("exif-ifd") and name not in COPYRIGHT:
            image.remove(name)
    return image
