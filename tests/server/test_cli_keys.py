"""`optidash keys`: the keys of the self-hosted server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import closing

import pytest
from click.testing import CliRunner

from optidash_integrations.cli.commands import optidash
from optidash_integrations.server.database import Database
from optidash_integrations.server.keys import Keys
from optidash_integrations.server.usage import Usage

SECRET = re.compile(r"[A-Za-z0-9]{40}")


@pytest.fixture
def url(sqlite_url, monkeypatch):
    """The address of a database that the environment names."""
    monkeypatch.setenv("OPTIDASH_DATABASE_URL", sqlite_url)
    return sqlite_url


@pytest.fixture
def database(url):
    with closing(Database(url)) as database:
        yield database


def run(*arguments):
    return CliRunner().invoke(optidash, ["keys", *map(str, arguments)])


def done(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def made(*arguments):
    return done("create", *arguments).stdout.strip()


def listed(*arguments):
    return json.loads(done("list", "--json", *arguments).stdout)["keys"]


def test_create_prints_the_key_alone_and_just_once(database):
    result = done("create", "shop")
    secret = result.stdout.strip()
    assert SECRET.fullmatch(secret)
    assert result.stdout == f"{secret}\n"
    assert result.stderr == "The key of shop; it can't be shown again:\n"
    assert Keys(database).verify(secret).path == "shop"
    for arguments in (["list"], ["list", "--json", "--all"]):
        assert not SECRET.search(done(*arguments).output)


def test_create_sets_what_a_key_may_do(database):
    secret = made("shop", "--primary", "--rate-limit", "600/minute", "--monthly-quota", 500)
    key = Keys(database).verify(secret)
    assert (key.is_primary, key.rate_limit, key.monthly_quota) == (True, "600/1 minutes", 500)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["create", "shop"], 'Error: There is a key named "shop" already'),
        (["create", "a/b"], "Error: 'name' parameter must not contain /"),
        (["create", "x", "--rate-limit", "often"], "Error: 'rate_limit' parameter must be a"),
        (["create", "x", "--monthly-quota", "-1"], "Error: 'monthly_quota' parameter must be"),
        (["rename", "nobody", "x"], 'Error: There is no key "nobody"'),
        (["rename", "other", "shop"], 'Error: There is a key named "shop" already'),
        (["revoke", "nobody"], 'Error: There is no key "nobody"'),
        (["change", "nobody", "--rate-limit", "default"], 'Error: There is no key "nobody"'),
    ],
)
def test_what_cannot_be_done_is_one_sentence(url, arguments, sentence):
    made("shop")
    made("other")
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(sentence)
    assert len(result.stderr.splitlines()) == 1


def test_list_shows_keys_and_what_they_have_used(database):
    keys, usage = Keys(database), Usage(database)
    shop, _ = keys.create("shop", is_primary=True, monthly_quota=500)
    customer, _ = keys.create_for(shop, "customer")
    keys.create("other", rate_limit="5/second")
    usage.spend(shop)
    usage.spend(customer)
    rows = [re.split(r"\s{2,}", line)[:4] for line in done("list").stdout.strip().splitlines()]
    assert rows == [
        ["Key", "Rate limit", "Calls a month", "Used"],
        ["other", "5/1 seconds", "none", "0"],
        ["shop (primary)", "default", "500", "2"],
        ["shop/customer", "default", "500", "1"],
    ]


def test_list_has_json_and_leaves_out_what_is_revoked(url):
    made("shop")
    made("old")
    done("revoke", "old")
    (key,) = listed()
    assert (key["name"], key["used"], key["revoked_at"]) == ("shop", 0, None)
    assert re.fullmatch(r"[0-9a-f]{16}", key["id"])
    both = {key["name"]: key["revoked_at"] for key in listed("--all")}
    assert (both["shop"], both["old"][:2]) == (None, "20")
    assert "old (revoked)" in done("list", "--all").stdout


def test_list_without_keys_says_how_to_make_one(url):
    result = done("list")
    assert (result.stdout, result.stderr) == (
        "",
        "There are no keys: optidash keys create NAME makes one.\n",
    )
    assert listed() == []


def test_names_do_not_steer_the_terminal(database):
    Keys(database).create("shop")
    with database.begin() as connection:
        connection.exec_driver_sql("update keys set name = 'a\x1b[31mb'")
    assert "\x1b" not in done("list").stdout


def test_rename_keeps_the_key(database):
    secret = made("shop")
    assert done("rename", "shop", "store").stderr == "shop is now store.\n"
    assert Keys(database).verify(secret).path == "store"


def test_keys_made_by_others_are_named_by_both_names(database):
    keys = Keys(database)
    primary = keys.verify(made("shop", "--primary"))
    _, secret = keys.create_for(primary, "customer")
    done("rename", "shop/customer", "client")
    assert keys.verify(secret).path == "shop/client"
    done("revoke", "shop/client")
    assert keys.verify(secret) is None


def test_revoke_ends_several_and_their_own(database):
    keys = Keys(database)
    secrets = [made("shop", "--primary"), made("other")]
    secrets.append(keys.create_for(keys.verify(secrets[0]), "customer")[1])
    result = done("revoke", "shop", "other")
    assert result.stderr == "shop is revoked.\nother is revoked.\n"
    assert [keys.verify(secret) for secret in secrets] == [None] * 3


def test_change_sets_and_unsets(database):
    secret = made("shop")
    result = done("change", "shop", "--rate-limit", "5/15 minutes", "--monthly-quota", 7)
    assert result.stderr == "shop: 5/15 minutes, 7 calls a month.\n"
    done("change", "shop", "--rate-limit", "default")
    assert Keys(database).verify(secret).rate_limit is None
    assert Keys(database).verify(secret).monthly_quota == 7
    done("change", "shop", "--monthly-quota", "none")
    assert Keys(database).verify(secret).monthly_quota is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["change", "shop"], "say what to change: --rate-limit or --monthly-quota"),
        (["change", "shop", "--monthly-quota", "many"], "takes a number or none, not many"),
        (["revoke"], "Missing argument"),
        (["create"], "Missing argument"),
        (["list", "--database", "mysql://me:secret@here/x"], "the database takes sqlite:///PATH"),
    ],
)
def test_a_mistake_exits_with_two(url, arguments, sentence):
    result = run(*arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "secret" not in result.stderr


def test_the_option_wins_over_the_environment(url, tmp_path):
    elsewhere = f"sqlite:///{tmp_path / 'other.sqlite3'}"
    done("create", "shop", "--database", elsewhere)
    assert listed() == []
    assert [key["name"] for key in listed("--database", elsewhere)] == ["shop"]


def test_a_database_that_is_not_there_is_one_sentence(url):
    result = run("list", "--database", "postgresql://me:secret@127.0.0.1:1/keys")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: postgresql+psycopg://me:***@127.0.0.1:1/keys: ")
    assert "Traceback" not in result.output


def test_without_the_extra_it_says_what_to_install(url):
    code = """
import sys
sys.modules["sqlalchemy"] = None
from optidash_integrations.cli import main
sys.argv = ["optidash", "keys", "list"]
main()
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 1
    assert 'pip install "optidash-integrations[server]"' in found.stderr
    assert "Traceback" not in found.stderr
