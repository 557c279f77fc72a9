"""docs/operations.md tells of every operation as it is declared, with a picture of each example."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from example_sites import operation_pictures, operations
from optidash_integrations.declarations import Nested, parameters_of
from optidash_integrations.operations import DECLARED, Operations
from tests.engine.pictures import noise

PICTURES = sorted(operations.FOLDER.glob("*.webp"))
MOST_BYTES = 12_000
MOST_PIXELS = 280

EXAMPLES = {example["name"]: (name, example) for name, example in operations.examples()}


def test_the_page_is_what_its_generator_makes() -> None:
    committed = operations.PAGE.read_text(encoding="utf-8")
    assert committed == operations.page(), "run python -m example_sites.operations"


def test_every_operation_and_no_other_has_a_section() -> None:
    assert sorted(operations.ORDER) == sorted(DECLARED) == sorted(operations.words())


@pytest.mark.parametrize("name", operations.ORDER)
def test_the_words_are_of_parameters_that_are_declared(name: str) -> None:
    known, declared = operations.words()[name], parameters_of(DECLARED[name])
    flat = {word for word, _ in operations.flat(DECLARED[name])}
    assert set(known["means"]) == flat
    assert set(known.get("defaults", {})) <= flat
    if known.get("ours") is not True:
        assert set(known.get("ours", [])) <= set(declared)
    for word, values in known.get("ours_of", {}).items():
        assert set(values) <= set(declared[word].kind.words)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_a_document_that_does_something(name: str) -> None:
    operation, example = EXAMPLES[name]
    document = json.loads(example["document"])
    assert operation in document
    assert Operations.from_dict(document).given()[operation].has_effect


def test_every_parameter_is_shown_by_an_example() -> None:
    shown = {
        (operation, word)
        for _, example in EXAMPLES.values()
        for operation, given in json.loads(example["document"]).items()
        for word in given
    }
    declared = {(name, word) for name, kind in DECLARED.items() for word in parameters_of(kind)}
    assert declared <= shown


def test_every_mode_is_shown_by_an_example() -> None:
    documents = [json.loads(example["document"]) for _, example in EXAMPLES.values()]
    for name, word in (("resize", "mode"), ("crop", "mode"), ("mask", "shape")):
        shown = [Operations.from_dict(d).given().get(name) for d in documents]
        modes = {each.chosen_mode for each in shown if each is not None}
        assert modes == set(parameters_of(DECLARED[name])[word].kind.words)


def test_objects_are_shown_with_all_that_they_hold() -> None:
    page = operations.page()
    for word, declared in parameters_of(DECLARED["filter"]).items():
        if isinstance(declared.kind, Nested):
            for inner in parameters_of(declared.kind.of):
                assert f"| `{word}.{inner}`" in page


def test_the_page_names_every_picture_and_no_other() -> None:
    named = re.findall(r"\(operations/([a-z0-9-]+\.webp)\)", operations.page())
    assert sorted(set(named)) == [path.name for path in PICTURES]
    assert set(EXAMPLES) <= {path.stem for path in PICTURES}


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_a_picture_is_small_and_decodes(path) -> None:
    assert path.stat().st_size <= MOST_BYTES
    with Image.open(path) as image:
        image.load()
        assert image.format == "WEBP"
        assert max(image.size) <= MOST_PIXELS


@pytest.fixture(scope="module")
def originals() -> dict[str, bytes]:
    """Pictures in the place of the photos, which tests don't fetch."""
    return operation_pictures.sources(noise(240, 160), noise(240, 240))


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_engine_does_every_example(name, originals, tmp_path) -> None:
    engine, example = operation_pictures.engine_with_logo(tmp_path), EXAMPLES[name][1]
    drawn = operation_pictures.picture(engine, originals[example.get("from", "meadow")], example)
    with Image.open(io.BytesIO(drawn.content)) as image:
        image.load()
        assert (image.format, max(image.size) <= MOST_PIXELS) == ("WEBP", True)
    assert (drawn.answer is not None) is (name in operations.answers())


CHANGING = set(operations.ORDER) - {"detect", "optimize", "output"}


@pytest.mark.parametrize("name", [n for n, (kind, _) in EXAMPLES.items() if kind in CHANGING])
def test_an_example_that_changes_pixels_does_not_look_like_its_original(name) -> None:
    original = pixels(EXAMPLES[name][1].get("from", "meadow"))
    made = pixels(name)
    assert made.shape != original.shape or np.abs(made - original).mean() > 2


def pixels(name: str) -> np.ndarray:
    with Image.open(operations.FOLDER / f"{name}.webp") as image:
        return np.asarray(image.convert("RGB")).astype(float)
