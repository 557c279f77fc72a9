"""Makes the pictures of docs/operations.md: what the engine makes of each example's document."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyvips
from PIL import Image, ImageDraw, ImageFont

from example_sites import fetch
from example_sites.catalogue import KNOWN, PHOTOS
from example_sites.operations import SIDE, examples
from optidash_integrations.engine.tools import Tools
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations, Output
from optidash_integrations.processors import EngineProcessor
from optidash_integrations.variants import Variant

MEADOW = "dandelions.jpg"
ASTRONAUT = "astronaut.png"
QUALITY = 80
PART = 0.45
"""How much of a file has come where an example shows one that is under way."""
STEP = 16
ARTIST = 0x013B
"""The tag of EXIF that names who took a picture."""
FRAMES, FRAME = 6, (120, 80)
SWATCH = 24


@dataclass(frozen=True)
class Drawn:
    """A picture of the page: what the engine made, or what is drawn of that."""

    content: bytes
    answer: Any = None


def make(folder: Path) -> dict[str, Any]:
    """Put all pictures into a folder that has no others then; return what metadata told."""
    originals = sources(*photos())
    told: dict[str, Any] = {}
    for old in folder.glob("*.webp"):
        old.unlink()
    for name in ("meadow", "astronaut", "hazy"):
        (folder / f"{name}.webp").write_bytes(webp(opened(originals[name])))
    with tempfile.TemporaryDirectory() as temporary:
        engine = engine_with_logo(Path(temporary))
        for _, example in examples():
            drawn = picture(engine, originals[example.get("from", "meadow")], example)
            (folder / f"{example['name']}.webp").write_bytes(drawn.content)
            if drawn.answer is not None:
                told[example["name"]] = drawn.answer
    return told


def engine_with_logo(folder: Path) -> EngineProcessor:
    """Return an engine whose watermarks lie in a folder, and at every address."""
    (folder / "logo.png").write_bytes(logo())
    return EngineProcessor(Tools(watermarks=folder, fetch=lambda _: logo()))


def picture(engine: EngineProcessor, source: bytes, example: Mapping[str, Any]) -> Drawn:
    """Return what an example's document makes of a source, as WebP."""
    asked = Operations.from_dict(json.loads(example["document"]))
    if asked.output is None:
        asked |= Operations(output=Output(format="webp", quality=QUALITY))
    variant = engine.process(source, asked, None, Limits())
    draw = DRAWN.get(example.get("show", ""))
    if draw:
        return draw(variant)
    if variant.content_type == "image/webp":
        return Drawn(variant.content)
    return Drawn(webp(opened(variant.content), quality=85))


def photos() -> tuple[Image.Image, Image.Image]:
    """Return the meadow and the astronaut, in the size of the page; fetched where missing."""
    fetch.fetch()
    with tempfile.TemporaryDirectory() as temporary:
        found = fetch.from_wheel(Path(temporary)) / "skimage/data" / ASTRONAUT
        astronaut = fitted(found, (SIDE, SIDE))
    return fitted(PHOTOS / MEADOW, (SIDE, SIDE * 2 // 3)), astronaut


def sources(meadow: Image.Image, astronaut: Image.Image) -> dict[str, bytes]:
    """Return the originals of the examples, by name."""
    return {
        "meadow": png(meadow),
        "astronaut": png(astronaut),
        "hazy": png(meadow.point(lambda level: 90 + level * 0.4)),
        "wide": pyvips.Image.new_from_buffer(png(meadow), "")
        .icc_transform("p3", input_profile="srgb")
        .pngsave_buffer(),
        "moving": moving(meadow),
        "signed": with_author(meadow),
    }


def fitted(path: Path, size: tuple[int, int]) -> Image.Image:
    """Return the middle of a photo in a size."""
    with Image.open(path) as image:
        wide, high = image.size
        factor = min(wide / size[0], high / size[1])
        left, top = (wide - size[0] * factor) / 2, (high - size[1] * factor) / 2
        box = (left, top, wide - left, high - top)
        return image.convert("RGB").resize(size, Image.Resampling.LANCZOS, box=box)


def moving(image: Image.Image) -> bytes:
    """Return an animation that moves over a picture."""
    wide, high = FRAME
    step = (image.width - wide) // (FRAMES - 1)
    frames = [
        image.crop((step * number, 40, step * number + wide, 40 + high)) for number in range(FRAMES)
    ]
    return saved(frames[0], "gif", save_all=True, append_images=frames[1:], duration=300, loop=0)


def with_author(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[ARTIST] = KNOWN[MEADOW].author
    return saved(image, "jpeg", quality=95, exif=exif)


def logo() -> bytes:
    """Return the watermark of the examples: a letter in a ring."""
    image = Image.new("RGBA", (64, 64))
    draw = ImageDraw.Draw(image)
    draw.ellipse((3, 3, 60, 60), fill=(20, 60, 110, 200), outline="white", width=4)
    draw.text((32, 31), "O", fill="white", anchor="mm", font=ImageFont.load_default(36))
    return png(image)


def half(variant: Variant) -> Drawn:
    """Draw what is to be seen of a file of which only the first part has come."""
    for end in range(int(len(variant.content) * PART), 0, -STEP):
        try:
            seen = pyvips.Image.new_from_buffer(variant.content[:end], "", fail_on="none")
            return Drawn(webp(opened(seen.pngsave_buffer())))
        except pyvips.Error:  # it ends between two scans, in what is told of the next
            continue
    raise ValueError("nothing is to be seen of this file before all of it has come")


def boxes(variant: Variant) -> Drawn:
    """Draw boxes around the faces."""
    image = opened(variant.content)
    draw = ImageDraw.Draw(image)
    faces: Iterable[Mapping[str, Any]] = variant.metadata.faces or ()
    for face in faces:
        left, top = face["x"], face["y"]
        box = (left, top, left + face["width"], top + face["height"])
        draw.rectangle(box, outline="yellow", width=3)
    return Drawn(webp(image), variant.metadata.faces)


def swatches(variant: Variant) -> Drawn:
    """Draw the main colours below the picture, each as wide as its share."""
    image = opened(variant.content)
    canvas = Image.new("RGB", (image.width, image.height + SWATCH))
    canvas.paste(image)
    draw, left = ImageDraw.Draw(canvas), 0.0
    for each in variant.metadata.palette or ():
        right = left + float(str(each["share"])) * image.width
        draw.rectangle((left, image.height, right, canvas.height), fill=str(each["color"]))
        left = right
    return Drawn(webp(canvas), variant.metadata.palette)


def half_loaded(variant: Variant) -> Drawn:
    """Draw a colour in the place of the picture's right half, which is still to come."""
    image = opened(variant.content)
    box = (image.width // 2, 0, image.width, image.height)
    ImageDraw.Draw(image).rectangle(box, fill=variant.metadata.placeholder)
    return Drawn(webp(image), variant.metadata.placeholder)


def with_answer(variant: Variant) -> Drawn:
    return Drawn(variant.content, variant.metadata.placeholder)


def weighed(variant: Variant) -> Drawn:
    """Draw the picture, and tell how many bytes it came in."""
    return Drawn(webp(opened(variant.content), quality=85), {"bytes": len(variant.content)})


def signed(variant: Variant) -> Drawn:
    """Draw the picture, and tell the author that its file names."""
    with Image.open(io.BytesIO(variant.content)) as image:
        return Drawn(variant.content, {"Artist": image.getexif().get(ARTIST)})


DRAWN = {
    "half": half,
    "faces": boxes,
    "palette": swatches,
    "placeholder": half_loaded,
    "answer": with_answer,
    "bytes": weighed,
    "author": signed,
}


def opened(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        return image.convert("RGBA" if image.has_transparency_data else "RGB")


def png(image: Image.Image) -> bytes:
    return saved(image, "png")


def webp(image: Image.Image, quality: int = QUALITY) -> bytes:
    return saved(image, "webp", quality=quality, method=6)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
