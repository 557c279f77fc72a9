"""Imports point one way, and third-party packages are imported where they belong."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "optidash_integrations"

# Everything else is the core. Pieces of the core and of the service may import each other, as
# long as there is no circle; adapters never do.
CORE, SERVICE, ADAPTER, SERVER, PROGRAM = range(5)
LAYERS = {
    "service": SERVICE,
    "interception": SERVICE,
    "endpoint": SERVICE,
    "reception": SERVICE,
    "stale": SERVICE,
    "uploads": SERVICE,
    "images": SERVICE,
    "prometheus": ADAPTER,
    "asgi": ADAPTER,
    "django": ADAPTER,
    "flask": ADAPTER,
    "compat": ADAPTER,
    "server": SERVER,
    "cli": PROGRAM,
}

# Programs that lie where a framework looks for them: each hands its arguments to `cli`, with the
# site's own settings, and only when it is run.
PROGRAMS = {
    "optidash_integrations.django.management.commands.optidash",
    "optidash_integrations.flask.commands",
}

# Who imports which third-party package. cachetools is a container, not a service: any
# module may hold one. `_typeshed` exists for type checkers only.
OWNERS = {
    "httpx": {"transport", "download", "httpx_errors"},
    "httpcore": {"connections", "download"},
    "pyvips": {"engine"},
    "PIL": {"engine", "heads"},
    "cv2": {"engine"},
    "numpy": {"engine"},
    "onnxruntime": {"engine"},
    "oxipng": {"engine"},
    "mozjpeg_lossless_optimization": {"engine"},
    "sqlalchemy": {"server"},
    "boto3": {"server"},
    "botocore": {"server"},
    "libcloud": {"server"},
    "python_multipart": {"server"},
    "jwt": {"credentials"},
    "limits": {"counting", "ratelimit", "server"},
    "redis": {"cache"},
    "obstore": {"cache", "server"},
    "django": {"cache", "django"},
    "flask": {"flask"},
    "jinja2": {"flask"},
    "markupsafe": {"flask"},
    "werkzeug": {"flask"},
    "asgiref": {"django"},
    "starlette": {"asgi", "server"},
    "uvicorn": {"cli", "server"},
    "click": {"cli", "flask"},
    "prometheus_client": {"prometheus", "server"},
    "opentelemetry": {"server"},
    "rich": {"cli"},
}
ANYWHERE = {"cachetools", "_typeshed"}

FILES = sorted((ROOT / PACKAGE).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imported(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[str]:
    """Yield the absolute dotted names that a tree imports, `from a import b` as `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base] if base else parts)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports_of(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    return list(imported(tree, module_name(path), is_package=path.name == "__init__.py"))


def piece(module: str) -> str:
    """Return the part of the package that a module belongs to: `cache` for `….cache.disk`."""
    return module.split(".")[1] if "." in module else ""


def module_of(name: str) -> str:
    """Return the module of ours that a dotted name lies in or is."""
    while name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def is_ours(name: str) -> bool:
    return name.partition(".")[0] == PACKAGE


each_module = pytest.mark.parametrize("path", FILES, ids=[module_name(path) for path in FILES])


def is_downward(here: str, there: str) -> bool:
    mine, other = LAYERS.get(here, CORE), LAYERS.get(there, CORE)
    return here == there or other < mine or mine == other <= SERVICE


@pytest.mark.parametrize(
    ("here", "there", "allowed"),
    [
        ("flask", "service", True),
        ("service", "operations", True),
        ("service", "interception", True),
        ("cli", "server", True),
        ("django", "flask", False),
        ("operations", "service", False),
        ("service", "asgi", False),
    ],
)
def test_the_rule_about_directions(here: str, there: str, *, allowed: bool) -> None:
    assert is_downward(here, there) is allowed


@each_module
def test_imports_point_from_adapters_to_the_service_to_the_core(path: Path) -> None:
    here = "cli" if module_name(path) in PROGRAMS else piece(module_name(path))
    ours = {piece(name) for name in imports_of(path) if is_ours(name)} - {""}
    assert {there for there in ours if not is_downward(here, there)} == set()


@each_module
def test_names_come_from_the_module_that_defines_them(path: Path) -> None:
    from_the_root = {
        name
        for name in imports_of(path)
        if is_ours(name) and module_of(name) == PACKAGE and name != f"{PACKAGE}.__version__"
    }
    assert not from_the_root


@each_module
def test_third_party_packages_are_imported_where_they_belong(path: Path) -> None:
    here = piece(module_name(path))
    tops = {name.partition(".")[0] for name in imports_of(path) if not is_ours(name)}
    others = tops - set(sys.stdlib_module_names) - ANYWHERE
    assert {name: here in OWNERS.get(name, ()) for name in others} == dict.fromkeys(others, True)


def test_no_module_needs_itself_to_be_imported_first() -> None:
    graph = {name: needed_at_import(name, path) for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports run in a circle: {' -> '.join(error.args[1])}")


def needed_at_import(name: str, path: Path) -> set[str]:
    """Return the modules of ours that run when this one is imported, but for packages around it."""
    tree = WhatRunsAtImport().visit(ast.parse(path.read_text()))
    names = imported(tree, name, is_package=path.name == "__init__.py")
    return {module_of(found) for found in names if is_ours(found)} - {name, PACKAGE}


class WhatRunsAtImport(ast.NodeTransformer):
    """Drops functions and what is there for types only."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        return None

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        return None

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test).endswith("TYPE_CHECKING") else node


def modules_after(statement: str) -> set[str]:
    """Return the top names in `sys.modules` after a statement in a fresh interpreter."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, check=True, capture_output=True, text=True, cwd=ROOT)
    return set(done.stdout.split())


HEAVY = {
    "cv2",
    "django",
    "flask",
    "httpx",
    "jinja2",
    "numpy",
    "onnxruntime",
    "PIL",
    "pyvips",
    "sqlalchemy",
    "starlette",
    "werkzeug",
}


def test_the_package_imports_no_framework_no_libvips_and_no_http_library() -> None:
    assert modules_after(f"import {PACKAGE}") & HEAVY == set()


def test_the_public_names_are_there_and_bring_no_framework_and_no_libvips() -> None:
    loaded = modules_after(f"from {PACKAGE} import *")
    assert loaded & (HEAVY - {"httpx"}) == set()


@pytest.mark.parametrize(
    ("module", "own"),
    [
        ("processors", set()),
        ("service", set()),
        ("asgi", {"starlette"}),
        ("flask", {"flask", "jinja2", "werkzeug"}),
        ("django", {"django"}),
    ],
)
def test_importing_a_piece_brings_only_its_own_framework(module: str, own: set[str]) -> None:
    assert modules_after(f"import {PACKAGE}.{module}") & HEAVY <= own
