"""What `example_sites/server` gives people to copy is what the program takes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from optidash_integrations.cli.serve import serve

FOLDER = Path(__file__).parents[2] / "example_sites" / "server"
KNOWN = {option for parameter in serve.params for option in parameter.opts}
OTHERS = {"--rm", "--entrypoint", "--primary"}  # docker's, and of `optidash keys`


@pytest.mark.parametrize("name", ["optidash.service", "README.md"])
def test_options_are_known(name: str) -> None:
    found = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", (FOLDER / name).read_text()))
    system = {"--system", "--home-dir", "--now"}
    assert found - system - OTHERS <= KNOWN
    assert found & KNOWN


def test_the_image_starts_with_options_that_are_known() -> None:
    text = (FOLDER / "Dockerfile").read_text()
    words = json.loads(text.partition("ENTRYPOINT ")[2])
    assert words[:2] == ["optidash", "serve"]
    assert {word for word in words if word.startswith("--")} <= KNOWN


def test_the_unit_outlasts_what_is_running() -> None:
    text = (FOLDER / "optidash.service").read_text()
    seconds = int(re.findall(r"TimeoutStopSec=(\d+)", text)[0])
    longest = next(p.default for p in serve.params if p.name == "max_seconds")
    assert seconds > longest + 10
