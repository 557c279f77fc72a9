"""`optidash cache …`, and the commands with a site's own settings."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from django.core.management import call_command
from flask import Flask

from optidash_integrations.cache.entry import Entry
from optidash_integrations.cli.commands import for_site, optidash
from optidash_integrations.flask import commands as flask_commands
from optidash_integrations.ledger import FILE
from optidash_integrations.settings import Settings
from optidash_integrations.store import Store
from tests.test_invalidation import fill, intercepted, left

A, B = intercepted("/media/a.jpg"), intercepted("/media/b.jpg", host="www.example.com")


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name a cache folder in the environment, and nothing else."""
    for name in [name for name in os.environ if name.startswith("OPTIDASH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OPTIDASH_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Store]:
    """The store of a site that runs with the same folder."""
    with closing(Store.of(Settings(cache_dir=tmp_path / "cache"))) as store:
        yield store


def run(*arguments: str, **more: Any) -> Result:
    return CliRunner().invoke(optidash, ["cache", *arguments], **more)


def document(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


# Looking


def test_stats_tell_of_each_tier(site: Store, tmp_path: Path) -> None:
    fill(site, A, "1")
    told = document("stats")["tiers"]
    disk = site.lower[0].stats()
    assert told == [
        {
            "tier": "disk",
            "where": str(tmp_path / "cache"),
            "entries": disk.entries,
            "bytes": disk.bytes,
            "budget": 2**30,
        }
    ]
    assert run("stats").output.startswith(f"disk    {disk.entries} entries, ")


def test_stats_of_a_shared_tier_show_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIDASH_CACHE_DIR", "none")
    monkeypatch.setenv("OPTIDASH_CACHE_URL", "redis://:hunter2@127.0.0.1:1/0")
    done = run("stats")
    assert done.exit_code == 1
    assert "Redis" in done.output
    assert "hunter2" not in done.output


def test_list_shows_the_largest_first_with_its_variants(site: Store) -> None:
    fill(site, A, "1")
    fill(site, B, "2")
    site.put("a" * 40, Entry({}, b"x" * 10_000, source=digest_of(site, "www.example.com")))
    found = document("list")
    assert found["total"] == 2
    first, second = found["sources"]
    assert (first["name"], first["variants"]) == ("www.example.com/media/b.jpg", 4)
    assert (second["name"], second["variants"]) == ("example.com/media/a.jpg", 3)
    assert first["bytes"] > second["bytes"] > 0
    assert first["used_at"].endswith("+00:00")


def digest_of(store: Store, start: str) -> str:
    (tag,) = store.lower[0].sources(f"name:{start}")
    return tag.rpartition("#")[2]


def test_list_is_bounded_and_says_what_it_leaves_out(site: Store) -> None:
    for number in range(5):
        fill(site, intercepted(f"/{number}.jpg"), str(number))
    lines = run("list", "--limit", "2").output.splitlines()
    assert (len(lines), lines[-1]) == (4, "3 more: --limit shows them")
    assert len(document("list", "--limit", "2")["sources"]) == 2


def test_list_takes_a_prefix(site: Store) -> None:
    fill(site, A, "1")
    fill(site, intercepted("/static/c.jpg"), "3")
    assert [one["name"] for one in document("list", "--prefix", "/static/")["sources"]] == [
        "example.com/static/c.jpg"
    ]


def test_an_empty_cache_lists_nothing() -> None:
    assert run("list").output == "nothing is cached\n"
    assert document("list") == {"sources": [], "total": 0}


def test_names_are_printed_without_what_drives_terminals(site: Store) -> None:
    fill(site, intercepted("/\x1b[31mred.jpg"), "1")
    assert "\x1b" not in run("list").output


# Forgetting


def test_purge_forgets_sources_by_name(site: Store) -> None:
    keys, others = fill(site, A, "1"), fill(site, B, "2")
    done = run("purge", "/media/a.jpg", "/nothing.jpg")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"/media/a.jpg: Forgot 1 source, {len(keys)} entries.",
        "/nothing.jpg: Nothing of it was cached.",
    ]
    assert sum(site.lower[0].get(key) is not None for key in keys) == 0
    assert left(site, others) == len(others)


def test_purge_takes_a_prefix(site: Store) -> None:
    keys = [*fill(site, A, "1"), *fill(site, B, "2")]
    assert "Forgot 2 sources" in run("purge", "--prefix", "/media/").output
    assert sum(site.lower[0].get(key) is not None for key in keys) == 0


def test_purge_wants_to_know_what() -> None:
    done = run("purge")
    assert (done.exit_code, "say what to forget" in done.output) == (2, True)


def test_clear_asks_first(site: Store) -> None:
    keys = fill(site, A, "1")
    assert run("clear", input="n\n").exit_code == 1
    assert run("clear").exit_code == 1
    assert left(site, keys) == len(keys)


def test_clear_leaves_the_apis_ledger(site: Store, tmp_path: Path) -> None:
    keys = fill(site, A, "1")
    (tmp_path / "cache" / FILE).write_bytes(b"calls of this month")
    assert run("clear", "--yes").exit_code == 0
    assert sum(site.lower[0].get(key) is not None for key in keys) == 0
    assert (tmp_path / "cache" / FILE).read_bytes() == b"calls of this month"


# What is not well


def test_without_any_cache_there_is_nothing_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIDASH_CACHE_DIR", "none")
    done = run("stats")
    assert (done.exit_code, "there is no cache beside memory" in done.output) == (1, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")
def test_another_users_cache_is_left_alone(site: Store, tmp_path: Path) -> None:
    fill(site, A, "1")
    os.chown(tmp_path / "cache" / "v1", 12345, 12345)
    done = run("clear", "--yes")
    assert (done.exit_code, "belongs to #12345" in done.output) == (1, True)
    assert site.lower[0].stats().entries > 0


def test_what_could_not_be_forgotten_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, site: Store
) -> None:
    monkeypatch.setenv("OPTIDASH_CACHE_URL", "redis://127.0.0.1:1/0")
    fill(site, A, "1")
    done = run("purge", "/media/a.jpg")
    assert (done.exit_code, "Redis failed" in done.output) == (1, True)


def test_wrong_settings_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIDASH_CACHE_BYTES", "much")
    done = run("stats")
    assert done.exit_code == 2
    assert "OPTIDASH_CACHE_BYTES" in done.output


# A site's own settings


def in_django(*arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    with redirect_stdout(out):
        try:
            call_command("optidash", *arguments)
        except SystemExit as ending:
            return int(ending.code or 0), out.getvalue()
    return 0, out.getvalue()


def test_in_django_they_are_those_of_the_project(settings: Any, tmp_path: Path) -> None:
    settings.OPTIDASH = {"CACHE_DIR": tmp_path / "own"}
    with closing(Store.of(Settings(cache_dir=tmp_path / "own"))) as store:
        fill(store, "storage:default/a.jpg", "1")
    status, told = in_django("cache", "list", "--json")
    assert status == 0
    assert [one["name"] for one in json.loads(told)["sources"]] == ["storage:default/a.jpg"]
    assert "Forgot 1 source" in in_django("cache", "purge", "a.jpg")[1]


def test_in_django_the_doctor_names_them_as_they_are_spelled(settings: Any, tmp_path: Path) -> None:
    settings.OPTIDASH = {"CACHE_DIR": tmp_path / "own", "WIDHTS": [1]}
    status, told = in_django("doctor", "--offline", "--json")
    found = json.loads(told)["findings"][1]
    assert (status, found["mark"]) == (1, "failed")
    assert "did you mean WIDTHS" in found["what"]
    assert found["advice"] == "correct them in Django's settings"


def test_in_django_help_is_the_commands_own(capsys: pytest.CaptureFixture[str]) -> None:
    from django.core.management import execute_from_command_line

    execute_from_command_line(["manage.py", "optidash", "--help"])
    told = capsys.readouterr().out
    assert "Usage: manage.py optidash" in told
    assert {"account", "cache", "doctor"} <= set(told.split())
    assert "optimize" not in told


def test_the_account_command_needs_the_sites_key(settings: Any) -> None:
    settings.OPTIDASH = {}
    assert in_django("account")[0] == 2


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    made = Flask("site")
    values = {"OPTIDASH_CACHE_DIR": tmp_path / "own", "OPTIDASH_FORMATS": "webp"}
    made.cli.add_command(flask_commands.command_for(values))
    return made


def test_in_flask_they_are_those_of_the_app(app: Flask, tmp_path: Path) -> None:
    with closing(Store.of(Settings(cache_dir=tmp_path / "own"))) as store:
        fill(store, A, "1")
    done = app.test_cli_runner().invoke(args=["optidash", "cache", "list", "--limit", "1"])
    assert done.exit_code == 0, done.output
    assert "example.com/media/a.jpg" in done.output


def test_in_flask_the_doctor_tells_where_settings_come_from(app: Flask) -> None:
    done = app.test_cli_runner().invoke(args=["optidash", "doctor", "--offline", "--json"])
    found = json.loads(done.stdout)["findings"][1]
    assert found["what"].startswith("from Flask's configuration: OPTIDASH_CACHE_DIR, OPTIDASH_FOR")


def test_in_flask_help_is_the_commands_own(app: Flask) -> None:
    done = app.test_cli_runner().invoke(args=["optidash", "cache", "--help"])
    assert "Usage: flask optidash cache" in done.output


@pytest.mark.parametrize("command", ["account", "cache", "doctor"])
def test_a_sites_commands_are_the_same_as_those_of_the_program(command: str) -> None:
    assert for_site.commands[command] is optidash.commands[command]
