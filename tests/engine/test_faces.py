"""Finding faces: drawn ones, those of photographs, and none where there are none."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from optidash_integrations.engine import faces
from optidash_integrations.engine.faces import Face, available, find
from optidash_integrations.engine.vips import pyvips
from optidash_integrations.errors import ProcessorError
from tests.corpus.corpus import FOLDER, is_present

from .pictures import noise
from .portraits import wall


def picture(image: Image.Image) -> pyvips.Image:
    values = np.asarray(image)
    return pyvips.Image.new_from_array(values).copy(
        interpretation="srgb" if image.mode in ("RGB", "RGBA") else "b-w"
    )


def covers(found: Face, left: float, top: float, side: float) -> bool:
    """Say whether a face's box is about where a face was drawn: its middle and its width."""
    x, y = found.x + found.width / 2, found.y + found.height / 2
    middle = abs(x - left - side / 2) < side / 6 and abs(y - top - side * 0.65) < side / 4
    return middle and 0.7 < found.width / side < 1.3


@pytest.mark.parametrize(
    ("width", "height", "place"),
    [
        (400, 300, (200, 40, 100)),
        (400, 300, (20, 100, 60)),
        (1600, 1200, (900, 300, 400)),
        (3000, 400, (2400, 100, 200)),
    ],
)
def test_a_face_is_found_where_it_is_in_the_picture_s_own_pixels(
    width: int, height: int, place: tuple[int, int, int]
) -> None:
    found = find(picture(wall(width, height, place)))
    assert len(found) == 1
    assert covers(found[0], *place)
    assert 0.8 < found[0].score <= 1


def test_the_most_prominent_face_comes_first() -> None:
    small, large = (20, 40, 60), (200, 40, 140)
    found = find(picture(wall(400, 300, small, large)))
    assert [covers(face, *place) for face, place in zip(found, (large, small), strict=True)]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "RGB"])
def test_faces_are_found_in_grey_and_with_alpha(mode: str) -> None:
    found = find(picture(wall(400, 300, (200, 40, 100)).convert(mode)))
    assert len(found) == 1
    assert covers(found[0], 200, 40, 100)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (16, 16)])
def test_tiny_and_thin_pictures_have_no_faces(size: tuple[int, int]) -> None:
    assert find(picture(Image.new("RGB", size, (120, 140, 160)))) == []


def test_a_wall_and_noise_have_no_faces() -> None:
    assert find(picture(wall(400, 300))) == []
    assert find(picture(noise(300, 300))) == []


def test_faces_never_reach_beyond_the_picture() -> None:
    for left in (-10, 310):
        for face in find(picture(wall(400, 300, (left, 20, 100)))):
            assert face.x >= 0
            assert face.x + face.width <= 400


def test_threads_do_not_disturb_each_other() -> None:
    places = [(20 + 30 * each, 40, 90) for each in range(3)]
    images = [picture(wall(400, 300, place)) for place in places] * 2
    alone = [find(image) for image in images]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(find, images)) == alone
    assert all(alone)


WITH_FACES = {
    "photos/kodim04.png": (256, 380),
    "photos/kodim15.png": (540, 200),
    "photos/kodim17.png": (215, 200),
    "photos/kodim18.png": (288, 208),
}
WITHOUT_FACES = [
    *(f"photos/kodim{each:02}.png" for each in (8, 13, 20, 23)),
    "photos/autumn-hills-6mp.jpg",
    "photos/stream-3mp-q30.jpg",
    "graphics/screenshot-dashboard.png",
]
needs_corpus = pytest.mark.skipif(not is_present(), reason="there is no corpus here")


def photo(name: str) -> pyvips.Image:
    return pyvips.Image.new_from_file(str(FOLDER / name)).copy_memory()


@needs_corpus
@pytest.mark.parametrize(("name", "middle"), WITH_FACES.items())
def test_the_faces_of_photographs_are_found(name: str, middle: tuple[int, int]) -> None:
    found = find(photo(name))
    assert len(found) == 1
    face = found[0]
    assert face.x < middle[0] < face.x + face.width
    assert face.y < middle[1] < face.y + face.height


@needs_corpus
@pytest.mark.parametrize("name", WITHOUT_FACES)
def test_no_face_is_seen_where_there_is_none(name: str) -> None:
    """In each of the photographs a single cascade sees one."""
    assert find(photo(name)) == []


def test_without_opencv_there_are_no_faces_and_a_note_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    faces.opencv.cache_clear()
    try:
        assert not available()
        assert not available(Path("model.onnx"))
        assert find(picture(wall(400, 300, (200, 40, 100)))) == []
        assert "optidash-integrations[faces]" in faces.NOTE
    finally:
        faces.opencv.cache_clear()


def test_an_opencv_without_cascades_wants_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(faces.opencv(), "CascadeClassifier")
    assert not available()
    assert available(Path("model.onnx"))
    assert find(picture(wall(400, 300, (200, 40, 100)))) == []


def save_yunet(path: Path) -> Path:
    """Write a model with YuNet's outputs that takes each white cell of 32 x 32 for a face.

    Its answer for strides 8 and 16 is never; for 32 it is how white a cell is, 32 pixels wide.
    """
    nodes, outputs, values = [], [], []

    def constant(name: str, array: np.ndarray) -> str:
        values.append(numpy_helper.from_array(array, name))
        return name

    colour = constant("mean", np.full((1, 3, 1, 1), 1 / 765, np.float32))
    nodes.append(helper.make_node("Conv", ["input", colour], ["white"]))
    for stride in (8, 16, 32):
        cells = f"cells{stride}"
        nodes.append(
            helper.make_node(
                "AveragePool", ["white"], [cells], kernel_shape=[stride] * 2, strides=[stride] * 2
            )
        )
        for kind, wide, gain in (("cls", 1, 1), ("obj", 1, 1), ("bbox", 4, 0), ("kps", 10, 0)):
            seen = gain if stride == 32 else 0
            kernel = constant(f"k_{kind}_{stride}", np.full((wide, 1, 1, 1), seen, np.float32))
            grid, turned, name = (f"{each}_{kind}_{stride}" for each in ("grid", "turned", "out"))
            shape = constant(f"s_{kind}_{stride}", np.array([1, -1, wide], np.int64))
            nodes += [
                helper.make_node("Conv", [cells, kernel], [grid]),
                helper.make_node("Transpose", [grid], [turned], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [turned, shape], [name.replace("out_", "")]),
            ]
            outputs.append(
                helper.make_tensor_value_info(
                    name.replace("out_", ""), TensorProto.FLOAT, [1, None, wide]
                )
            )
    order = [f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]
    outputs.sort(key=lambda output: order.index(output.name))
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 640, 640])
    graph = helper.make_graph(nodes, "cells", [source], outputs, values)
    opset = [helper.make_opsetid("", 11)]
    onnx.save(helper.make_model(graph, ir_version=7, opset_imports=opset), str(path))
    return path


def test_a_yunet_model_is_used_where_one_is_given(tmp_path: Path) -> None:
    values = np.zeros((320, 480, 3), np.uint8)
    values[64:96, 128:160] = 255
    image = pyvips.Image.new_from_array(values).copy(interpretation="srgb")
    model = save_yunet(tmp_path / "cells.onnx")
    found = find(image, model)
    assert [(face.width, face.height) for face in found] == [(32, 32)]
    assert (found[0].x, found[0].y) == pytest.approx((128, 64), abs=32)
    assert found[0].score > 0.9
    twice = find(image.resize(4, kernel="nearest"), model)
    assert twice
    assert twice[0].width > 60


@pytest.mark.parametrize("content", [None, b"", b"no model"])
def test_what_is_no_model_is_said_to_be_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ProcessorError, match=r"model\.onnx can't be used"):
        find(picture(wall(400, 300)), path)
