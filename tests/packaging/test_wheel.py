"""The wheel as a user gets it: built, installed with no extra, used from elsewhere."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "optidash_integrations"

pytestmark = pytest.mark.xdist_group("wheel")


def run(*command: object, cwd: Path) -> str:
    """Run a command and return what it printed; a failure shows its errors."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dist = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", dist, ROOT]
    run(*build, cwd=dist)
    (built,) = dist.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder outside the checkout with a `.venv` that holds the wheel and no extra."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / ".venv", with_pip=True, symlinks=True)
    run(python_of(folder), "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    return folder


def python_of(folder: Path) -> Path:
    return folder / ".venv" / "bin" / "python"


def files_that_are_no_modules() -> set[str]:
    paths = (path for path in (ROOT / PACKAGE).rglob("*") if path.is_file())
    kept = (path for path in paths if "__pycache__" not in path.parts and path.suffix != ".py")
    return {str(path.relative_to(ROOT)) for path in kept}


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / PACKAGE).rglob("*.py")}
    assert modules | files_that_are_no_modules() <= names


@pytest.mark.parametrize(
    "name", ["py.typed", "django/templatetags/__init__.py", "django/templatetags/optidash.py"]
)
def test_the_wheel_holds(name: str, wheel: Path) -> None:
    assert f"{PACKAGE}/{name}" in zipfile.ZipFile(wheel).namelist()


def test_the_wheel_holds_nothing_but_the_package(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {PACKAGE}


def test_it_imports_from_elsewhere_with_no_extra_installed(elsewhere: Path) -> None:
    code = f"import {PACKAGE}; from {PACKAGE} import *; print({PACKAGE}.__file__)"
    place = run(python_of(elsewhere), "-W", "error", "-c", code, cwd=elsewhere)
    assert str(elsewhere) in place


def test_what_is_missing_without_an_extra_is_said_in_one_sentence(elsewhere: Path) -> None:
    code = (
        f"from {PACKAGE}.processors import EngineProcessor\n"
        f"from {PACKAGE}.limits import Limits\n"
        f"from {PACKAGE}.errors import ProcessorMissingError\n"
        "try:\n"
        "    EngineProcessor().probe(b'GIF89a', Limits())\n"
        "except ProcessorMissingError as error:\n"
        "    print(error)\n"
    )
    sentence = run(python_of(elsewhere), "-c", code, cwd=elsewhere)
    assert "pip install" in sentence
    assert len(sentence.splitlines()) == 1
