"""What docs/endpoint.md has to say, beside what tests show."""

from __future__ import annotations

from pathlib import Path

import pytest

from optidash_integrations.inline import MOST_BYTES
from optidash_integrations.query import FITS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def page() -> str:
    return " ".join((ROOT / "docs/endpoint.md").read_text(encoding="utf-8").split())


@pytest.mark.srv("SRV-49")
def test_each_way_to_fit_says_whether_it_enlarges(page: str) -> None:
    table = page[page.index("| `fit` |") : page.index("## Who")]
    assert all(f"`{fit}`" in table for fit in FITS.values())


@pytest.mark.srv("SRV-60")
def test_the_cost_of_base64_is_told(page: str) -> None:
    assert "a third larger, has to be decoded" in page
    assert f"Past {MOST_BYTES // 1024} KiB" in page


@pytest.mark.srv("SRV-66")
def test_the_guard_of_referers_is_called_weak(page: str) -> None:
    assert "This guard is weak" in page


def test_the_readme_leads_there() -> None:
    assert "docs/endpoint.md" in (ROOT / "README.md").read_text(encoding="utf-8")
