"""Enlarging, with a model made here and without one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optidash_integrations.engine import superres
from optidash_integrations.engine.superres import MARGIN, TILE, enlarge
from optidash_integrations.engine.vips import pyvips
from optidash_integrations.errors import ProcessorError

STEP = TILE - 2 * MARGIN


def picture(width: int, height: int, bands: int = 3) -> pyvips.Image:
    """Return waves and an edge, so that a seam or a shift shows."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    planes = [128 + 100 * np.sin(x / (7 + 3 * b)) * np.cos(y / (9 + b)) for b in range(bands)]
    values = np.stack(planes, axis=2)
    values[height // 3 : height // 2, width // 4 : width // 2] = 20
    image = pyvips.Image.new_from_array(values.round().astype(np.uint8))
    return image.copy(interpretation="srgb" if bands >= 3 else "b-w")


def save_model(
    path: Path,
    *,
    factor: int = 2,
    bands: int = 3,
    kind: int = TensorProto.FLOAT,
    blur: int = 3,
    side: int | None = None,
    gain: float = 1.0,
    out_bands: int | None = None,
) -> Path:
    """Write a model: nearest neighbour, then a blur over `blur` pixels of the larger picture."""
    plain = np.float16 if kind == TensorProto.FLOAT16 else np.float32
    kernel = np.zeros((bands, 1, blur, blur), plain)
    kernel[:] = gain / blur**2
    edge = blur // 2
    name = ["n", bands, side or "h", side or "w"]
    made = [1, out_bands or bands, "hh", "ww"]
    graph = helper.make_graph(
        [
            helper.make_node(
                "Resize",
                ["in", "", "scales"],
                ["large"],
                mode="nearest",
                nearest_mode="floor",
                coordinate_transformation_mode="asymmetric",
            ),
            helper.make_node("Pad", ["large", "pads"], ["padded"], mode="edge"),
            helper.make_node("Conv", ["padded", "kernel"], ["out"], group=bands),
        ],
        "enlarging",
        [helper.make_tensor_value_info("in", kind, name)],
        [helper.make_tensor_value_info("out", kind, made)],
        [
            numpy_helper.from_array(np.array([1, 1, factor, factor], np.float32), "scales"),
            numpy_helper.from_array(np.array([0, 0, edge, edge] * 2, np.int64), "pads"),
            numpy_helper.from_array(kernel, "kernel"),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=opset), str(path))
    return path


def expected(image: pyvips.Image, factor: int, blur: int) -> np.ndarray:
    """Return what such a model makes of the whole picture at once."""
    large = image.numpy().reshape(image.height, image.width, -1).astype(float)
    large = large.repeat(factor, axis=0).repeat(factor, axis=1)
    edge = blur // 2
    padded = np.pad(large, ((edge, edge), (edge, edge), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (blur, blur), axis=(0, 1))
    return windows.mean(axis=(3, 4))


def values(image: pyvips.Image) -> np.ndarray:
    return image.numpy().reshape(image.height, image.width, -1).astype(float)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_without_a_model_the_sides_grow_and_flat_places_stay(factor: int) -> None:
    flat = pyvips.Image.new_from_array(np.full((7, 9, 3), (10, 200, 99), np.uint8))
    large = enlarge(flat.copy(interpretation="srgb"), factor)
    assert (large.width, large.height, large.format) == (9 * factor, 7 * factor, "uchar")
    assert (values(large) == [10, 200, 99]).all()


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_without_a_model_edges_are_steeper_than_lanczos_but_gently(factor: int) -> None:
    edge = np.full((20, 40), 80, np.uint8)
    edge[:, 20:] = 160
    small = pyvips.Image.new_from_array(edge).copy(interpretation="b-w")
    plain = values(small.resize(factor, kernel="lanczos3"))
    sharp = values(enlarge(small, factor))
    steepness = [np.abs(np.diff(each, axis=1)).max() for each in (plain, sharp)]
    assert 1.05 < steepness[1] / steepness[0] < 1.5
    assert 80 - 80 / 5 < sharp.min() < sharp.max() < 160 + 80 / 5


@pytest.mark.parametrize("with_model", [False, True])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_grey_stays_grey_and_alpha_stays(tmp_path: Path, bands: int, *, with_model: bool) -> None:
    model = save_model(tmp_path / "m.onnx") if with_model else None
    image = picture(40, 30, bands)
    large = enlarge(image, 2, model)
    assert (large.width, large.height, large.bands) == (80, 60, bands)
    assert (large.interpretation, large.format) == (image.interpretation, "uchar")
    back = values(large.resize(0.5, kernel="lanczos3"))
    assert np.abs(back - values(image)).mean() < 8


def test_clear_pixels_lend_no_colour_without_a_model() -> None:
    """A red square on clear green: no green may creep in."""
    square = np.zeros((20, 20, 4), np.uint8)
    square[...] = (0, 255, 0, 0)
    square[5:15, 5:15] = (255, 0, 0, 255)
    image = pyvips.Image.new_from_array(square).copy(interpretation="srgb")
    large = values(enlarge(image, 2))
    assert large[large[..., 3] > 60][:, 1].max() <= 2


@pytest.mark.parametrize(
    "size", [(10, 10), (STEP, STEP), (STEP + 1, STEP - 1), (2 * STEP + 50, STEP + 70)]
)
def test_tiles_leave_no_seam(tmp_path: Path, size: tuple[int, int]) -> None:
    """The model's picture of tiles is its picture of the whole, to the last pixel."""
    model = save_model(tmp_path / "m.onnx", blur=9)
    image = picture(*size)
    assert np.abs(values(enlarge(image, 2, model)) - expected(image, 2, 9)).max() <= 0.51


def test_a_model_of_another_factor_is_resampled_without_a_seam(tmp_path: Path) -> None:
    model = save_model(tmp_path / "m.onnx", factor=4, blur=5)
    image = picture(STEP + 60, 80)
    whole = pyvips.Image.new_from_array(expected(image, 4, 5).astype(np.float32))
    for factor in (2, 3):
        large = values(enlarge(image, factor, model))
        assert large.shape[:2] == (80 * factor, (STEP + 60) * factor)
        wanted = values(whole.resize(factor / 4, kernel="lanczos3")).clip(0, 255)
        inside = np.s_[8:-8, 8:-8]
        assert np.abs(large - wanted)[inside].max() < 1.5


def test_a_model_of_one_band_sees_each_band(tmp_path: Path) -> None:
    model = save_model(tmp_path / "m.onnx", bands=1, blur=5)
    image = picture(50, 40)
    assert np.abs(values(enlarge(image, 2, model)) - expected(image, 2, 5)).max() <= 0.51


def test_a_model_of_half_precision_will_do(tmp_path: Path) -> None:
    model = save_model(tmp_path / "m.onnx", kind=TensorProto.FLOAT16)
    image = picture(50, 40)
    assert np.abs(values(enlarge(image, 2, model)) - expected(image, 2, 3)).max() <= 1.5


def test_a_model_of_a_fixed_size_gets_tiles_of_it(tmp_path: Path) -> None:
    model = save_model(tmp_path / "m.onnx", side=96, blur=5)
    image = picture(150, 100)
    assert np.abs(values(enlarge(image, 2, model)) - expected(image, 2, 5)).max() <= 0.51


def test_values_past_white_are_white(tmp_path: Path) -> None:
    model = save_model(tmp_path / "m.onnx", gain=3.0)
    assert values(enlarge(picture(20, 20), 2, model)).max() == 255


def test_a_model_is_read_once_for_all_threads(tmp_path: Path) -> None:
    model = save_model(tmp_path / "m.onnx")
    image = picture(60, 50)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: values(enlarge(image, 2, model)), range(16)))
    assert all(np.array_equal(each, made[0]) for each in made)
    assert superres.model_of(model) is superres.model_of(model)


def test_what_is_no_model_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    tiny = save_model(tmp_path / "tiny.onnx", side=16)
    shrinking = save_model(tmp_path / "same.onnx", blur=4)
    for path in (tmp_path / "text.onnx", tmp_path / "missing.onnx", tiny, shrinking):
        with pytest.raises(ProcessorError, match=path.name):
            enlarge(picture(20, 20), 2, path)
