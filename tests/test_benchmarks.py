"""Every benchmark's servers start, answer right, and end; what they print adds up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.cases import CASES, SERVED
from benchmarks.load import LoadError, PythonLoad, rate_in
from benchmarks.material import Material
from benchmarks.measures import PER_SECOND, Comparison, Effort, by_round, in_turns
from benchmarks.servers import ServerError, Side, check, running

TINY = Effort(PythonLoad(connections=4, requests=20), seconds=60, rounds=1)

REPORT = """Running 2s test @ http://127.0.0.1:8000/
  1 threads and 16 connections
  1234 requests in 2.00s, 70.1MB read
Requests/sec:    617.25
Transfer/sec:     35.05MB
"""


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material.made(tmp_path_factory.mktemp("benchmarks"))


# The others fetch photos, and install what they compare with.
HERE = [name for name in CASES if not name.startswith(("engine", "server"))]


@pytest.mark.parametrize("name", HERE)
def test_each_case_runs_and_gives_ratios(name: str, material: Material) -> None:
    comparisons = CASES[name].measure(material, TINY)
    assert comparisons
    assert all(row.case == name and row.ratio > 0 for row in comparisons)


def test_the_photo_leaves_as_about_60_kilobytes(material: Material) -> None:
    assert 45_000 < len(material.variant) < 75_000


def test_a_server_that_sends_other_bytes_is_an_error(material: Material) -> None:
    side = SERVED[0].sides[1]
    with running([side], material) as (url,), pytest.raises(ServerError, match="bare app answers"):
        check(side, url, b"something else")


def test_a_server_that_does_not_start_is_an_error_with_what_it_said(material: Material) -> None:
    side = Side("nothing", "benchmarks.asgi_apps:no_such_app", "/")
    with pytest.raises(ServerError, match=r"(?s)nothing did not start.*no_such_app"):
        running([side], material).__enter__()


def test_no_server_outlives_its_block(material: Material) -> None:
    side = SERVED[0].sides[1]
    with pytest.raises(KeyboardInterrupt), running([side], material) as (url,):
        raise KeyboardInterrupt
    with pytest.raises(LoadError, match="does not answer"):
        TINY.load.rate(url, {}, 1)


def test_answers_other_than_200_are_no_figures(material: Material) -> None:
    side = Side("static", "benchmarks.asgi_apps:static_files", "/static/none.webp")
    with running([side], material) as (url,), pytest.raises(LoadError, match="404"):
        TINY.load.rate(url, {}, 1)


def test_reads_the_report_of_wrk() -> None:
    assert rate_in(REPORT) == 617.25


@pytest.mark.parametrize(
    "report",
    [
        "unable to connect to 127.0.0.1:1 Connection refused",
        REPORT + "Non-2xx or 3xx responses: 7",
        REPORT + "Socket errors: connect 0, read 3, write 0, timeout 0",
        REPORT.replace("617.25", "0.00"),
    ],
)
def test_a_report_of_failures_is_no_figure(report: str) -> None:
    with pytest.raises(LoadError):
        rate_in(report)


def test_figures_are_taken_in_turns() -> None:
    taken = iter(range(6))
    assert in_turns([lambda: next(taken), lambda: next(taken)], 3) == [(0, 2, 4), (1, 3, 5)]


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    row = Comparison("case", "ours", "other", PER_SECOND, (10, 30, 20), (10, 10, 10))
    assert (row.ratio, row.spread, row.added) == (2, (1, 3), 10)


def test_a_round_of_many_figures_counts_as_their_median() -> None:
    assert by_round([1, 9, 2, 5, 6, 7], 3) == (2, 6)


def test_prints_a_table_and_writes_the_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "figures.json"
    assert main(["import", "--rounds", "1", "--json", str(path)]) == 0
    assert "bare Python" in capsys.readouterr().out
    (row,) = json.loads(path.read_text())["comparisons"]
    assert (row["case"], row["better"], row["unit"]) == ("import", "lower", "ms")


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["nothing"])
    assert "nothing is none of import, " in capsys.readouterr().err
