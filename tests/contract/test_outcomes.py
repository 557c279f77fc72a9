"""The table of outcomes in the docs is what the sites answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import MakeSite, sites_of
from tests.contract.outcomes import OUTCOMES, PARTS, page

WRITTEN = Path(__file__).parents[2] / "docs" / "delivery.md"


@pytest.mark.srv("SRV-37")
@pytest.mark.parametrize(
    "make_site", sites_of("django", "django_async", "flask", "asgi")[:4], indirect=True
)
def test_each_kind_of_site_answers_as_the_docs_say(make_site: MakeSite) -> None:
    """Where this fails with good reason: python -m tests.contract.outcomes > docs/delivery.md"""
    assert page(make_site).splitlines() == WRITTEN.read_text(encoding="utf-8").splitlines()


def test_no_outcome_is_told_twice_or_left_out() -> None:
    named = [(each.where, each.title) for each in OUTCOMES]
    assert len(set(named)) == len(named)
    assert {where for where, _ in named} == set(PARTS)
