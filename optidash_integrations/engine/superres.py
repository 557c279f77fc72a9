"""Enlarging: with a super-resolution model where there is one, else Lanczos, sharpened a little.

A model is an ONNX file that takes one float image (1 x bands x height x width, 0 to 1, three bands
or one) and returns it larger. It sees tiles with a margin around them, so that memory stays
bounded and no seam shows.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optidash_integrations.engine import vips
from optidash_integrations.errors import ProcessorError, ProcessorMissingError

if TYPE_CHECKING:
    import pyvips

MISSING = (
    "super-resolution models need onnxruntime: "
    'pip install "optidash-integrations[superres]", or leave super_resolution_model out'
)

# Sides of what a model sees at once, and how much of it, at each side, only helps with the rest.
TILE, MARGIN = 256, 16

# How much of what a blur takes away is added, and how wide that blur is for each doubling.
SHARPENING, BLUR = 0.35, 0.5

KINDS = {"tensor(float)": "float32", "tensor(float16)": "float16"}


class Model:
    """A super-resolution model in memory; any number of threads may use it.

    `bands` is how many it takes at once, `factor` by how much it enlarges, `tile` the sides of
    what it sees at once. Raises ProcessorError where it is no such model.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.session = session(path)
        entry = self.session.get_inputs()[0]
        if len(entry.shape) != 4 or entry.type not in KINDS:
            raise self.unfit(f"takes {entry.type} of {entry.shape}")
        self.name, self.kind = entry.name, KINDS[entry.type]
        self.bands = entry.shape[1] if entry.shape[1] in (1, 3) else 3
        high, wide = (side if isinstance(side, int) else TILE for side in entry.shape[2:])
        self.tile = min(high, wide)
        if high != wide or self.tile < 4 * MARGIN:
            raise self.unfit(f"takes {wide} x {high} pixels")
        self.factor = self.measured()

    def measured(self) -> int:
        """Return by how much the model enlarges."""
        import numpy as np

        shape = self.run(np.zeros((1, self.bands, self.tile, self.tile), self.kind)).shape
        factor = int(shape[2]) // self.tile if len(shape) == 4 else 0
        if not factor or shape != (1, self.bands, self.tile * factor, self.tile * factor):
            raise self.unfit(f"makes {shape} of {self.tile} x {self.tile} pixels")
        return factor

    def unfit(self, what: str) -> ProcessorError:
        return ProcessorError(f"{self.path} is no super-resolution model that can be used: {what}")

    def run(self, values: Any) -> Any:
        """Return what the model makes of one tile."""
        try:
            return self.session.run(None, {self.name: values})[0]
        except Exception as error:
            raise self.unfit(" ".join(str(error).split())[:300]) from error


models: dict[Path, Model] = {}
loading = threading.Lock()


def model_of(path: Path) -> Model:
    """Return the model in a file, read once a process."""
    with loading:
        if path not in models:
            models[path] = Model(path)
        return models[path]


def session(path: Path) -> Any:
    """Return a session of onnxruntime whose threads sleep when there is nothing to do."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ProcessorMissingError(MISSING) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise ProcessorError(f"the model {path} can't be read: {said}") from error


def enlarge(image: pyvips.Image, factor: int, model: Path | None = None) -> pyvips.Image:
    """Return a picture in sRGB or grey of 8 bits with sides `factor` times as long.

    `model` is the path of an ONNX file. Raises ProcessorError where it can't be used.
    """
    if model is None:
        return by_lanczos(image, factor)
    image = image.copy_memory()
    colours = image[: image.bands - 1] if image.hasalpha() else image
    large = modelled(colours.copy(interpretation=image.interpretation), factor, model_of(model))
    if not image.hasalpha():
        return large
    alpha = image[image.bands - 1].resize(factor, kernel="lanczos3")
    return large.bandjoin(alpha).copy(interpretation=image.interpretation)


def by_lanczos(image: pyvips.Image, factor: int) -> pyvips.Image:
    """Return the picture enlarged without a model; what is clear lends no colour."""
    if not image.hasalpha():
        return rounded(sharpened(image, factor), image.interpretation)
    large = sharpened(image.premultiply(), factor).copy(interpretation=image.interpretation)
    return rounded(large.unpremultiply(), image.interpretation)


def rounded(image: pyvips.Image, interpretation: Any) -> pyvips.Image:
    """Return values as whole numbers from 0 to 255."""
    return image.rint().cast("uchar").copy(interpretation=interpretation)


def sharpened(image: pyvips.Image, factor: int) -> pyvips.Image:
    """Return the picture enlarged by Lanczos, its edges a little steeper."""
    large = image.resize(factor, kernel="lanczos3").cast("float")
    soft = large.gaussblur(BLUR * factor, precision="float")
    return large + (large - soft) * SHARPENING


def modelled(image: pyvips.Image, factor: int, model: Model) -> pyvips.Image:
    """Return the picture enlarged by a model, tile by tile, then resampled to the factor."""
    step = model.tile - 2 * MARGIN
    rows, columns = -(-image.height // step), -(-image.width // step)
    # What lies beyond an edge is the edge's pixels again.
    wide = image.embed(
        MARGIN, MARGIN, columns * step + 2 * MARGIN, rows * step + 2 * MARGIN, extend="copy"
    )
    tiles = [
        enlarged_tile(wide.crop(column * step, row * step, model.tile, model.tile), factor, model)
        for row in range(rows)
        for column in range(columns)
    ]
    whole = vips.pyvips.Image.arrayjoin(tiles, across=columns)
    return whole.crop(0, 0, image.width * factor, image.height * factor).copy(
        interpretation=image.interpretation
    )


def enlarged_tile(tile: pyvips.Image, factor: int, model: Model) -> pyvips.Image:
    """Return the inner part of a tile, enlarged, in memory."""
    large = large_tile(tile, model)
    if model.factor != factor:
        large = large.resize(factor / model.factor, kernel="lanczos3")
    inner = (tile.width - 2 * MARGIN) * factor
    cut = large.crop(MARGIN * factor, MARGIN * factor, inner, inner)
    return rounded(cut, tile.interpretation).copy_memory()


def large_tile(tile: pyvips.Image, model: Model) -> pyvips.Image:
    """Return what the model makes of a tile, with as many bands as that has."""
    import numpy as np

    shape = (tile.height, tile.width, tile.bands)
    pixels = np.frombuffer(tile.write_to_memory(), np.uint8).reshape(shape)
    planes = np.moveaxis(pixels, 2, 0).astype(model.kind) / np.asarray(255, model.kind)
    if model.bands == 1:
        made = np.concatenate([model.run(plane[None, None])[0] for plane in planes])
    elif tile.bands == 1:
        made = model.run(np.repeat(planes, 3, axis=0)[None])[0].mean(axis=0, keepdims=True)
    else:
        made = model.run(planes[None])[0]
    values = np.moveaxis(np.clip(made.astype("float32"), 0, 1) * 255, 0, 2)
    bands, side = tile.bands, tile.width * model.factor
    return vips.pyvips.Image.new_from_memory(
        np.ascontiguousarray(values).tobytes(), side, side, bands, "float"
    )
