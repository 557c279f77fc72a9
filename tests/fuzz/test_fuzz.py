from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from optidash_integrations.operations import DECLARED, Operations
from tests.fuzz.cases import NARROW, Case, case_of
from tests.fuzz.documents import operation
from tests.fuzz.mutations import mutated
from tests.fuzz.samples import Sample, made_here
from tests.fuzz.worker import Worker

SAMPLES = [Sample(name, data, True) for name, data in sorted(made_here().items())]


def test_a_seed_and_a_number_tell_a_case() -> None:
    cases = [case_of(8, number, SAMPLES) for number in range(30)]
    assert cases == [case_of(8, number, SAMPLES) for number in range(30)]
    assert len({case.data for case in cases}) > 10
    assert cases != [case_of(9, number, SAMPLES) for number in range(30)]


def test_what_was_kept_is_the_same_case_again(tmp_path: Path) -> None:
    for number in range(20):
        case = case_of(8, number, SAMPLES)
        assert Case.read(case.keep(tmp_path)) == case


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_operations_are_chosen_with_every_parameter(name: str) -> None:
    chance = Random(name)
    found = [operation(DECLARED[name], chance) for _ in range(200)]
    for document in found:
        if document:
            assert set(document) <= set(DECLARED[name].__dataclass_fields__)
    assert set().union(*found) == set(DECLARED[name].__dataclass_fields__)
    readable = [one for one in found if is_read({name: one})]
    assert len(readable) > 100


def is_read(document: dict[str, object]) -> bool:
    try:
        Operations.from_dict(document)
    except ValueError:
        return False
    return True


def test_damage_is_done_to_more_than_half_of_the_files() -> None:
    chance = Random(8)
    data = SAMPLES[0].data
    assert 50 < sum(mutated(data, data, chance) != data for _ in range(100)) < 90


def test_a_process_that_dies_is_a_finding_and_another_goes_on(tmp_path: Path) -> None:
    worker = Worker(tmp_path / "errors.log")
    good = Case("good", made_here()["jpeg"], {}, "png", NARROW)
    try:
        assert worker.outcome(good).kind == "made"
        worker.process.kill()
        assert worker.outcome(good).kind == "crashed"
        assert worker.outcome(good).kind == "made"
    finally:
        worker.stop()
