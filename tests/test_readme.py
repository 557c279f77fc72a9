"""What the README shows of a terminal is what the example sites answer."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from example_sites import servers
from tests.test_example_sites import photo

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```console\n(.*?)```", README, re.DOTALL)

pytestmark = [
    pytest.mark.xdist_group("example sites"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]


def transcripts() -> list[tuple[str, list[str]]]:
    """Return each `curl` command of the README with the lines that it shows of the answer."""
    found: list[tuple[str, list[str]]] = []
    for line in "".join(BLOCKS).splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
    return [(command, lines) for command, lines in found if command.startswith("curl ")]


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The sites' addresses, by those that the README and the demo give them."""
    picture = tmp_path_factory.mktemp("photos") / "peaks.jpg"
    picture.write_bytes(photo(1600, 1200))
    with ExitStack() as stack:
        yield {
            f"http://127.0.0.1:{site.port}": stack.enter_context(
                servers.running(
                    replace(site, port=0), tmp_path_factory.mktemp(site.name), [picture], {}
                )
            )
            for site in servers.SITES
            if str(site.port) in README
        }


def pattern(line: str) -> str:
    """Return a regular expression for a line in which an ellipsis stands for anything."""
    return ".*".join(re.escape(part) for part in line.split("…"))


def test_the_curl_transcripts_are_what_the_sites_answer(addresses: dict[str, str]) -> None:
    shown = transcripts()
    assert len(shown) >= 6
    for command, lines in shown:
        actual = command
        for documented, real in addresses.items():
            actual = actual.replace(documented, real)
        output = subprocess.run(
            actual, shell=True, capture_output=True, text=True, check=True, timeout=60
        ).stdout
        answered = [line.strip() for line in output.splitlines()]
        assert lines, f"the README shows nothing for {command}"
        for line in lines:
            matching = [each for each in answered if re.fullmatch(pattern(line), each, re.I)]
            assert matching, f"{line!r} is not in the answer to {command}:\n{output}"


def test_install_and_code_stand_within_the_first_forty_lines() -> None:
    top = "\n".join(README.splitlines()[:40])
    for expected in (
        "pip install",
        "OptidashMiddleware",
        "OptidashStorage",
        "Optidash(app)",
        "avif",
    ):
        assert expected in top
