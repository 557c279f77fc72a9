"""Every requirement of image delivery has a test that carries its id."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
TESTS = HERE.parent

REQUIRED = {f"SRV-{number:02}" for number in range(1, 67)}

# Shown by tests that stand elsewhere and hold for every site or for the core below all of them.
ELSEWHERE = {
    "SRV-04": [
        "test_example_sites.py::test_in_a_browser_every_picture_shows_and_nothing_overflows"
    ],
    "SRV-20": ["test_guard.py::test_no_other_network_is_public_whatever_leads_to_it"],
    "SRV-21": ["test_guard.py::test_one_address_that_is_not_public_refuses_the_host"],
    "SRV-28": ["test_urls.py::test_any_change_and_any_further_parameter_undoes_the_signature"],
    "SRV-34": ["test_urls.py::test_an_expiring_address_stays_the_same_within_a_window"],
    "SRV-50": [
        "engine/test_process.py::test_all_eight_orientations_come_out_upright",
        "engine/test_process.py::test_a_profile_is_converted_and_dropped",
        "engine/test_process.py::test_metadata_does_not_survive",
    ],
    "SRV-56": [
        "engine/test_process.py::test_an_animation_is_never_flattened",
        "engine/test_process.py::test_only_who_asks_for_a_still_picture_gets_the_first_frame",
    ],
}


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            yield node


def marks(function: ast.FunctionDef) -> Iterator[str]:
    """Give the ids in `@pytest.mark.srv("SRV-…")`."""
    for mark in function.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.srv":
            yield from (str(ast.literal_eval(argument)) for argument in mark.args)


def marked() -> set[str]:
    return {
        name
        for path in TESTS.rglob("test_*.py")
        for function in functions(path)
        for name in marks(function)
    }


def test_every_requirement_has_a_test_with_its_id() -> None:
    assert REQUIRED - marked() - ELSEWHERE.keys() == set()


def test_no_test_carries_an_id_that_there_is_not() -> None:
    assert marked() | ELSEWHERE.keys() <= REQUIRED


def test_the_tests_named_here_exist() -> None:
    for place in (place for places in ELSEWHERE.values() for place in places):
        file, _, name = place.partition("::")
        assert name in {function.name for function in functions(TESTS / file)}, place
