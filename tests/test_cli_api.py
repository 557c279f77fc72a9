"""The `optidash` command where the API does the work, and what it tells of an account."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from optidash_integrations.breaker import Breaker
from optidash_integrations.cache.disk import DiskCache
from optidash_integrations.cache.entry import Entry
from optidash_integrations.cli.commands import optidash
from optidash_integrations.errors import ApiError, ServerError
from optidash_integrations.formats import PNG
from optidash_integrations.ledger import FILE, Ledger, MonthlyBudget, account_of
from optidash_integrations.processors import EngineProcessor
from tests.api.faults import close_before_head, html, retry_after, stall_before_head, status
from tests.api.server import ApiServer
from tests.engine.pictures import encoded, noise
from tests.test_cli import COMMAND, INTERRUPTIBLE, PHOTO, animation, environment, put, tree

KEY = "test-key"


def broken():
    """Make a processor, and fail."""
    raise ZeroDivisionError("a mistake")


class AlwaysPng(EngineProcessor):
    """What an API does that does not heed the format."""

    def process(self, source, operations, output, limits):
        return super().process(source, operations, PNG, limits)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """An API that the environment names, with the key that it takes; commands run in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("OPTIDASH_")]:
        monkeypatch.delenv(name)
    with ApiServer() as server:
        for name, value in settings_for(server, tmp_path).items():
            monkeypatch.setenv(name, value)
        yield server
        assert not server.errors
        assert server.wait_closed()


def settings_for(server: ApiServer, folder: Path) -> dict[str, str]:
    return {
        "OPTIDASH_API_KEY": KEY,
        "OPTIDASH_API_URL": server.url,
        "OPTIDASH_CACHE_DIR": str(folder / "cache"),
    }


def run(*arguments):
    return CliRunner().invoke(optidash, [*map(str, arguments)])


def optimize(*arguments):
    return run("optimize", *arguments, "--delay", 0)


def document(server: ApiServer) -> dict[str, object]:
    """Return the operations of the last upload."""
    body = next(seen.body for seen in reversed(server.seen) if seen.path.endswith("/upload"))
    return json.loads(re.search(rb'\r\n\r\n(\{"[^\r]*\})\r\n', body)[1])


def spend(server: ApiServer, calls: int) -> None:
    """Count calls in the ledger, as the site's workers do."""
    ledger = Ledger(Path("cache", FILE))
    budget = MonthlyBudget(ledger, account_of(server.url, KEY), 1000)
    for _ in range(calls):
        budget.spend()
    ledger.close()


def used(server: ApiServer) -> int:
    ledger = Ledger(Path("cache", FILE))
    found = MonthlyBudget(ledger, account_of(server.url, KEY), 1000).used()
    ledger.close()
    return found


def uploads(server: ApiServer) -> int:
    return sum(seen.path.endswith("/upload") for seen in server.seen)


# optimize


def test_images_go_through_the_api_and_a_folder_is_mirrored(server):
    for name in ("a.jpg", "sub/b.png", "sub/deep/c.jpeg"):
        put(f"in/{name}", encoded(noise(64, 48), "png" if "png" in name else "jpeg", quality=98))
    done = optimize("in", "--output", "out", "--format", "webp", "--width", 32)
    assert done.exit_code == 0, done.output
    assert tree("out") == ["a.webp", "sub/b.webp", "sub/deep/c.webp"]
    for name in tree("out"):
        with Image.open(f"out/{name}") as image:
            assert (image.format, image.size) == ("WEBP", (32, 24))
    assert server.calls == 3


def test_options_go_into_the_document_and_nothing_is_enlarged(server):
    put("in/a.jpg")
    arguments = ("--width", 32, "--compression", "high", "--quality", 40, "--format", "webp")
    optimize("in", "--output", "out", *arguments)
    assert document(server) == {
        "resize": {"width": 32, "upscale": False},
        "optimize": {"compression": "high"},
        "output": {"quality": 40, "format": "webp"},
        "response": {"mode": "binary"},
    }


def test_results_are_told_of_in_the_order_of_the_originals(server):
    names = [f"{number:02}.jpg" for number in range(30)]
    for number, name in enumerate(names):
        put(f"in/{name}", encoded(noise(20 + number, 16), "jpeg", quality=98))
    put("in/05.jpg", b"no image")
    server.fail(retry_after(0))  # the first one comes late
    done = optimize("in", "--output", "out", "--jobs", 8, "--keep-going")
    assert re.findall(r"^in/(\S+):", done.stdout, re.M) == names[:5] + names[6:]
    assert done.stderr.startswith("in/05.jpg: these bytes are no image")
    assert (done.exit_code, len(tree("out")), uploads(server)) == (1, 29, 30)


def test_a_rate_limit_is_waited_for_and_opens_no_circuit(server):
    for name in "abcdefgh":
        put(f"in/{name}.jpg")
    server.fail(*[retry_after(0)] * 7)
    done = optimize("in", "--output", "out", "--jobs", 1, "--keep-going")
    assert (done.exit_code, len(tree("out"))) == (1, 7)  # one file met four of them, its last try
    assert "1 failed" in done.stdout
    assert not Path("cache", FILE).exists()


def test_many_failures_in_a_row_do_not_stop_the_others(server, monkeypatch):
    monkeypatch.setenv("OPTIDASH_RETRIES", "0")
    for name in "abcdefgh":
        put(f"in/{name}.jpg")
    server.fail(*[status(500)] * 7)
    done = optimize("in", "--output", "out", "--jobs", 1, "--keep-going")
    assert (done.exit_code, tree("out")) == (1, ["h.jpg"])
    assert "1 optimised, 7 failed in" in done.stdout
    assert "in/a.jpg: Something went wrong" in done.stderr


def test_without_keep_going_no_call_is_made_after_a_failure(server):
    for name in "abcdef":
        put(f"in/{name}.jpg")
    server.fail(None, status(422, "resize is wrong"))
    done = optimize("in", "--output", "out", "--jobs", 1)
    assert (done.exit_code, uploads(server) <= 3) == (1, True)  # one may be under way by then
    assert re.search(r"1 failed, [34] not begun in", done.stdout)
    assert done.stderr.startswith("in/b.jpg: resize is wrong\nStopped after the first failure")


def test_a_document_of_operations_goes_to_the_api(server):
    put("in/a.jpg")
    put("look.json", b'{"filter": {"sepia": true}, "output": {"format": "png"}}')
    done = optimize("in", "--output", "out", "--operations", "look.json", "--width", 32)
    assert (done.exit_code, tree("out")) == (0, ["a.png"])
    assert document(server) == {
        "resize": {"width": 32, "upscale": False},
        "optimize": {"compression": "medium"},
        "filter": {"sepia": True},
        "output": {"format": "png"},
        "response": {"mode": "binary"},
    }


@pytest.mark.parametrize("code", [401, 402])
def test_after_a_refusal_that_holds_for_all_no_other_call_is_made(server, code):
    for name in "abcdef":
        put(f"in/{name}.jpg")
    server.always = status(code)
    done = optimize("in", "--output", "out", "--jobs", 2, "--keep-going")
    assert (done.exit_code, tree("out")) == (1, [])
    assert done.stderr.count("\n") == 6
    assert uploads(server) <= 2


def test_a_wrong_key_is_told_of_without_telling_it(server, monkeypatch):
    monkeypatch.setenv("OPTIDASH_API_KEY", "secret-of-mine")
    server.always = status(401, "secret-of-… is not a key")
    put("in/a.jpg")
    done = optimize("in", "--output", "out")
    assert done.exit_code == 1
    assert "in/a.jpg: the API does not accept the key that OPTIDASH_API_KEY holds\n" in done.output
    assert "secret" not in done.output


def test_the_budget_is_kept_to_and_counted_for_the_site(server, monkeypatch):
    monkeypatch.setenv("OPTIDASH_MONTHLY_BUDGET", "5")
    spend(server, 3)
    for name in "abcd":
        put(f"in/{name}.jpg")
    done = optimize("in", "--output", "out", "--jobs", 1, "--keep-going")
    assert (done.exit_code, tree("out")) == (1, ["a.jpg", "b.jpg"])
    assert "in/c.jpg: the monthly_budget of 5 API calls is used up" in done.stderr
    assert (server.calls, used(server)) == (2, 5)


def test_what_is_there_already_and_what_is_animated_costs_no_call(server):
    put("in/a.gif", animation())
    put("in/b.jpg")
    put("in/c.png", PHOTO)  # a JPEG, so its result is c.jpg
    for name in ("b.jpg", "c.jpg"):
        put(f"out/{name}", b"earlier")
    done = optimize("in", "--output", "out")
    assert (done.exit_code, tree("out")) == (0, ["a.gif", "b.jpg", "c.jpg"])
    assert Path("out/a.gif").read_bytes() == animation()
    assert Path("out/b.jpg").read_bytes() == Path("out/c.jpg").read_bytes() == b"earlier"
    assert "in/a.gif" in done.stdout
    assert "1 kept, 2 skipped in" in done.stdout
    assert server.seen == []


def test_what_would_not_be_smaller_is_a_copy_of_its_source(server):
    small = encoded(noise(64, 48), "jpeg", quality=5, optimize=True)
    put("in/a.jpg", small)
    done = optimize("in", "--output", "out", "--quality", 95)
    assert Path("out/a.jpg").read_bytes() == small
    assert "kept: it would not be smaller" in done.stdout


def test_in_place_replaces_the_original_and_keeps_its_mode(server):
    file = put("in/a.jpg")
    file.chmod(0o640)
    assert optimize("in", "--in-place").exit_code == 0
    assert tree("in") == ["a.jpg"]
    assert file.stat().st_size < len(PHOTO)
    assert file.stat().st_mode & 0o777 == 0o640


def test_an_output_that_can_not_be_written_fails_its_file_alone(server):
    put("in/sub/a.jpg")
    put("in/z.jpg")
    put("out/sub", b"a file where a folder should be")
    done = optimize("in", "--output", "out", "--keep-going")
    assert (done.exit_code, tree("out")) == (1, ["sub", "z.jpg"])
    assert re.match(r"in/sub/a\.jpg: .*: out/sub/a\.jpg\n$", done.stderr)


def test_a_result_of_another_format_than_asked_for_is_refused(server, monkeypatch):
    put("in/a.jpg")
    with ApiServer(processor=AlwaysPng()) as other:
        monkeypatch.setenv("OPTIDASH_API_URL", other.url)
        done = optimize("in", "--output", "out", "--format", "webp")
    assert (done.exit_code, tree(".")) == (1, ["in/a.jpg"])
    assert done.stderr == "in/a.jpg: WEBP was asked for, and PNG came\n"


def test_the_delay_lies_between_calls_and_can_be_turned_off(server):
    for name in "abc":
        put(f"in/{name}.jpg")
    began = time.monotonic()
    done = run("optimize", "in", "--output", "out", "--jobs", 1, "--delay", 0.2)
    assert (done.exit_code, time.monotonic() - began > 0.4) == (0, True)


@pytest.mark.parametrize("seconds", ["-1", "61", "nan", "inf"])
def test_a_delay_that_makes_no_sense_is_exit_code_2(server, seconds):
    put("in/a.jpg")
    done = run("optimize", "in", "--output", "out", "--delay", seconds)
    assert (done.exit_code, done.stderr.count("\n"), server.seen) == (2, 1, [])
    assert "--delay takes 0 to 60 seconds" in done.stderr


def test_a_delay_without_the_api_is_a_mistake(server, monkeypatch):
    monkeypatch.setenv("OPTIDASH_PROCESSOR", "engine")
    put("in/a.jpg")
    done = optimize("in", "--output", "out")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--delay is for the API" in done.stderr


def test_avif_is_refused_before_any_call_where_the_api_is_known_not_to_write_it(
    server, monkeypatch
):
    put("in/a.jpg")
    monkeypatch.delenv("OPTIDASH_API_URL")
    done = optimize("in", "--output", "out", "--format", "avif")
    assert done.exit_code == 2
    assert "--format takes one of auto, gif, jpg, png, webp here, not avif" in done.stderr


def test_a_format_that_the_api_refuses_once_is_not_asked_for_again(server):
    for name in "abcdefghij":
        put(f"in/{name}.jpg")
    server.always = status(422, "output.format must be one of jpg, png, gif, webp")
    done = optimize("in", "--output", "out", "--format", "avif", "--jobs", 1, "-k")
    assert (done.exit_code, uploads(server) < 5) == (1, True)
    assert "in/j.jpg: --format takes one of gif, jpg, png, webp" in done.stderr


def process(server, tmp_path, *arguments):
    return subprocess.Popen(
        [*INTERRUPTIBLE, "optimize", "in", "--output", "out", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(**settings_for(server, tmp_path)),
        text=True,
    )


def test_ctrl_c_ends_a_stuck_call_and_leaves_no_half_file(server, tmp_path):
    for name in "abc":
        put(f"in/{name}.jpg")
    server.fail(None)
    server.always = stall_before_head()
    with process(server, tmp_path, "--jobs", 1, "--delay", 0) as running:
        assert running.stdout.readline().startswith("in/a.jpg: ")
        while uploads(server) < 2:
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=5)[1]
    assert (running.returncode, said) == (130, "Stopped.\n")
    assert tree("out") == ["a.jpg"]


def test_a_long_wait_is_told_of_once_and_can_be_interrupted(server, tmp_path):
    for name in "abcd":
        put(f"in/{name}.jpg")
    server.always = retry_after(600)
    with process(server, tmp_path, "--jobs", 4, "--delay", 0) as running:
        told = running.stderr.readline()
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=5)[1]
    assert re.fullmatch(r"The API wants to be left alone: waiting [67]\d\d s\.\n", told)
    assert (running.returncode, said) == (130, "Stopped.\n")


# --dry-run


def test_a_dry_run_counts_the_calls_and_makes_none(server):
    put("in/a.gif", animation())
    put("in/b.jpg")
    put("in/c.jpg")
    put("in/d.png", PHOTO)
    put("out/c.webp", b"earlier")
    done = run("optimize", "in", "--output", "out", "--format", "webp", "--dry-run")
    assert (done.exit_code, tree("out"), uploads(server)) == (0, ["c.webp"], 0)
    assert done.stdout.splitlines() == [
        "in/a.gif: would be kept, it is animated",
        f"in/b.jpg: {len(PHOTO) / 1000:.1f} kB, would become out/b.webp",
        "in/c.jpg: would be skipped, out/c.webp is already there",
        f"in/d.png: {len(PHOTO) / 1000:.1f} kB, would become out/d.webp",
        "2 to optimise, 1 to keep, 1 to skip; nothing was sent or written",
        "API calls: 2, and one more for each that has to be repeated",
        "Account: 20000 calls left, enough",
    ]
    assert not Path("cache").exists()


def test_a_dry_run_as_json_tells_of_calls_on_stderr(server):
    put("in/a.jpg")
    done = optimize("in", "--output", "out", "--dry-run", "--json")
    assert json.loads(done.stdout)["counts"]["optimised"] == 1
    assert "API calls: 1," in done.stderr
    assert "Account: 20000 calls left, enough" in done.stderr


def test_a_dry_run_says_what_a_budget_lacks(server, monkeypatch):
    monkeypatch.setenv("OPTIDASH_MONTHLY_BUDGET", "5")
    spend(server, 4)
    for name in "abc":
        put(f"in/{name}.jpg")
    done = run("optimize", "in", "--in-place", "--dry-run")
    assert (done.exit_code, uploads(server), used(server)) == (1, 0, 4)
    assert "Budget of this month: 1 calls left, 2 too few\n" in done.stdout
    assert "Account: 20000 calls left, enough\n" in done.stdout
    assert Path("in/a.jpg").read_bytes() == PHOTO


@pytest.mark.parametrize(("code", "exit_code"), [(401, 1), (503, 1), (404, 0)])
def test_a_dry_run_tells_where_the_account_can_not_be_asked(server, monkeypatch, code, exit_code):
    monkeypatch.setenv("OPTIDASH_RETRIES", "0")
    put("in/a.jpg")
    server.always = status(code)
    done = run("optimize", "in", "--output", "out", "--dry-run")
    assert (done.exit_code, done.stderr.count("\n")) == (exit_code, exit_code)
    assert "API calls: 1," in done.stdout


def test_a_dry_run_without_the_api_speaks_of_no_calls(server, monkeypatch):
    monkeypatch.setenv("OPTIDASH_PROCESSOR", "engine")
    put("in/a.jpg")
    put("in/b.jpg", b"no image")
    done = run("optimize", "in", "--output", "out", "--dry-run")
    assert (done.exit_code, server.seen, Path("out").exists()) == (1, [], False)
    assert "1 to optimise, 1 can't be read; nothing was sent or written" in done.stdout
    assert "calls" not in done.stdout


# account


def test_the_account_is_shown_with_its_rate_limit(server):
    server.rate = (1000, 990, 60)
    done = run("account")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "Account     Team",
        "Calls       20000 in all, 0 used, 20000 left",
        "Rate limit  990 of 1000 calls left for the next 60 s",
    ]
    assert [seen.path for seen in server.seen] == ["/1.0/account"]


def test_the_account_is_shown_with_the_budget_used_here(server, monkeypatch):
    monkeypatch.setenv("OPTIDASH_MONTHLY_BUDGET", "10")
    spend(server, 3)
    done = run("account")
    assert re.search(
        r"^Budget      3 of 10 calls made here in \d{4}-\d\d, 7 left$", done.stdout, re.M
    )
    assert used(server) == 3


def test_the_account_as_json(server, monkeypatch):
    monkeypatch.setenv("OPTIDASH_MONTHLY_BUDGET", "10")
    server.rate = (1000, 990, 60)
    found = json.loads(run("account", "--json").stdout)
    month = found["budget"].pop("month")
    assert re.fullmatch(r"\d{4}-\d\d", month)
    assert found == {
        "account": {"name": "Team", "total": 20000, "used": 0, "remaining": 20000},
        "rate_limit": {"limit": 1000, "remaining": 990, "reset": 60.0},
        "budget": {"budget": 10, "used": 0, "remaining": 10},
    }


def test_without_a_key_the_account_says_how_to_set_it(server, monkeypatch):
    for name in ("OPTIDASH_API_KEY", "OPTIDASH_API_URL"):
        monkeypatch.delenv(name)
    done = run("account")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "set OPTIDASH_API_KEY in the environment" in done.stderr


def test_an_api_of_ones_own_that_wants_a_key_says_how_to_set_it(server, monkeypatch):
    monkeypatch.delenv("OPTIDASH_API_KEY")
    done = run("account")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "set OPTIDASH_API_KEY in the environment" in done.stderr


@pytest.mark.parametrize("arguments", [["account"], ["account", "--json"], ["doctor"]])
def test_a_wrong_key_is_one_sentence_that_does_not_tell_it(server, monkeypatch, arguments):
    monkeypatch.setenv("OPTIDASH_API_KEY", "secret-of-mine")
    server.always = status(401, "secret-of-… and secret-of-mine are no keys")
    done = run(*arguments)
    assert done.exit_code == 1
    assert done.output.count("the API does not accept the key that OPTIDASH_API_KEY holds") == 1
    assert "secret" not in done.output
    assert arguments == ["doctor"] or (done.stdout, done.stderr.count("\n")) == ("", 1)


def test_an_api_that_is_not_there_is_one_sentence_with_its_address(server, monkeypatch):
    monkeypatch.setenv("OPTIDASH_API_URL", "http://127.0.0.1:9/1.0")
    monkeypatch.setenv("OPTIDASH_RETRIES", "0")
    done = run("account")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "http://127.0.0.1:9/1.0" in done.stderr


# doctor


def doctor(*arguments) -> dict[str, list[str]]:
    """Return mark, what was found and the advice of each check."""
    done = run("doctor", "--json", *arguments)
    found = json.loads(done.stdout)
    assert found["ok"] is (done.exit_code == 0)
    assert found["ok"] is all(each["mark"] != "failed" for each in found["findings"])
    assert all(each["mark"] == "ok" or each["advice"] for each in found["findings"])
    return {
        each["check"]: (each["mark"], each["what"], each["advice"]) for each in found["findings"]
    }


def marks(found: dict[str, list[str]]) -> dict[str, str]:
    return {name: mark for name, (mark, _, _) in found.items()}


def test_the_doctor_finds_a_healthy_api_well_and_makes_nothing(server, monkeypatch):
    monkeypatch.setenv("OPTIDASH_MONTHLY_BUDGET", "10")
    found = doctor()
    assert set(marks(found).values()) == {"ok"}
    assert {"API", "API key", "account", "rate limit", "ledger", "circuit", "budget"} <= set(found)
    assert found["processor"][1] == "the API, because OPTIDASH_API_KEY is set"
    assert re.fullmatch(re.escape(server.url) + r" answers in \d+ ms", found["API"][1])
    assert found["account"][1] == "Team: 20000 in all, 0 used, 20000 left"
    assert found["budget"][1].startswith("0 of 10 calls used in ")
    assert [seen.path for seen in server.seen] == ["/1.0/account"]
    assert tree(".") == []
    assert not Path("cache").exists()


def test_each_finding_is_a_line_and_advice_another(server):
    server.rate = (100, 3, 60)
    done = run("doctor")
    assert done.exit_code == 0
    assert re.search(r"^ok +API key +accepted$", done.stdout, re.M)
    assert re.search(
        r"^warning +rate limit +3 of 100 calls left for the next 60 s\n +→ make fewer calls",
        done.stdout,
        re.M,
    )


def test_offline_nothing_is_asked(server):
    found = doctor("--offline")
    assert found["API"][1] == f"{server.url}, not asked because of --offline"
    assert {"API key", "account", "rate limit"} & set(found) == set()
    assert {"ledger", "circuit", "cache folder"} <= set(found)
    assert server.seen == []


def test_the_doctor_does_not_count_against_the_budget(server, monkeypatch):
    monkeypatch.setenv("OPTIDASH_MONTHLY_BUDGET", "10")
    spend(server, 9)
    assert doctor()["budget"][0] == "ok"
    assert used(server) == 9


@pytest.mark.parametrize(
    ("calls", "budget", "mark"), [(8, 10, "ok"), (92, 100, "warning"), (10, 10, "failed")]
)
def test_a_budget_that_runs_out_is_told_of(server, monkeypatch, calls, budget, mark):
    monkeypatch.setenv("OPTIDASH_MONTHLY_BUDGET", str(budget))
    spend(server, calls)
    assert doctor("--offline")["budget"][0] == mark


@pytest.mark.parametrize(
    ("fault", "check", "mark", "said"),
    [
        (status(401), "API key", "failed", "does not accept the key"),
        (status(403), "API key", "failed", "does not allow this"),
        (status(503), "API", "failed", "but fails: Out of service"),
        (status(404), "account", "warning", "it can't be asked: There is no such thing"),
        (retry_after(60), "rate limit", "warning", "reached: no call is accepted now"),
        (html(), "API", "failed", "but not as the API does"),
        (close_before_head(), "API", "failed", "can't be reached"),
    ],
)
def test_what_is_wrong_with_the_api_is_told_once_and_with_advice(server, fault, check, mark, said):
    server.always = fault
    found = doctor()
    assert found[check][0] == mark
    assert said in found[check][1]
    others = {name for name, (mark, _, _) in found.items() if mark != "ok"}
    assert others == {check}
    assert len(server.seen) == 1


def test_a_silent_api_is_told_of(server, monkeypatch):
    monkeypatch.setenv("OPTIDASH_TIMEOUT", "0.2")
    server.always = stall_before_head()
    mark, what, _ = doctor()["API"]
    assert (mark, f"{server.url} is silent" in what) == ("failed", True)


def note(server: ApiServer, times: int, error: ApiError, *, ago: float = 0.0) -> None:
    """Have a site's worker meet an error so many times."""
    ledger = Ledger(Path("cache", FILE))
    breaker = Breaker(ledger, account_of(server.url, KEY), clock=lambda: time.time() - ago)
    for _ in range(times):
        breaker.heard(error)
    ledger.close()


@pytest.mark.parametrize(
    ("times", "ago", "mark", "said"),
    [
        (0, 0, "ok", r"closed, no failures|closed, no call was made yet"),
        (2, 0, "warning", r"closed, 2 failures in a row, the last: Out of service"),
        (5, 0, "warning", r"open, the API is left alone for [23]\d s more; 5 failures .* service"),
        (5, 40, "warning", r"half-open, the next call tries; 5 failures .*: Out of service"),
    ],
)
def test_the_circuit_is_the_one_that_the_sites_workers_see(server, times, ago, mark, said):
    note(server, times, ServerError("Out of service", status=503), ago=ago)
    found = doctor("--offline")["circuit"]
    assert found[0] == mark
    assert re.fullmatch(said, found[1])


def test_a_circuit_stays_as_it_is_when_it_is_looked_at(server):
    note(server, 5, ServerError("Out of service", status=503))
    before = Path("cache", FILE).read_bytes()
    doctor()
    assert Path("cache", FILE).read_bytes() == before


def test_a_damaged_ledger_is_failed(server, monkeypatch):
    monkeypatch.setenv("OPTIDASH_MONTHLY_BUDGET", "10")
    put(f"cache/{FILE}", b"no database at all " * 100)
    found = marks(doctor())
    assert (found["ledger"], found["circuit"], found["budget"]) == ("failed", "warning", "failed")


def test_without_a_cache_folder_there_is_no_ledger_to_share(server, monkeypatch):
    monkeypatch.setenv("OPTIDASH_CACHE_DIR", "none")
    found = marks(doctor())
    assert (found["ledger"], found["cache folder"]) == ("warning", "warning")
    assert "circuit" not in found


def test_wrong_settings_are_told_of_all_at_once_and_no_key_is_sent(server, monkeypatch):
    monkeypatch.setenv("OPTIDASH_WORKERS", "many")
    monkeypatch.setenv("OPTIDASH_API_URL", "http://example.com")
    monkeypatch.setenv("OPTIDASH_MAX_PIXLES", "secret")
    done = run("doctor")
    assert (done.exit_code, done.stderr, server.seen) == (1, "", [])
    assert "OPTIDASH_WORKERS in the environment takes a whole number" in done.stdout
    assert "OPTIDASH_API_URL in the environment takes an address" in done.stdout
    assert "did you mean OPTIDASH_MAX_PIXELS?" in done.stdout
    assert "secret" not in done.stdout
    assert KEY not in done.stdout


def test_unknown_names_are_a_warning_and_checks_go_on(server, monkeypatch):
    monkeypatch.setenv("OPTIDASH_KEY", "1")
    found = doctor()
    assert found["environment"][0] == "warning"
    assert '"OPTIDASH_KEY" is not a setting' in found["environment"][1]
    assert found["API key"][0] == "ok"


@pytest.mark.parametrize(
    ("processor", "mark", "said"),
    [
        ("engine", "ok", "the embedded engine, because OPTIDASH_PROCESSOR is engine"),
        ("tests.test_cli.WithoutAvif", "ok", "WithoutAvif, because OPTIDASH_PROCESSOR is tests."),
        ("tests.nowhere.Processor", "failed", "tests.nowhere.Processor"),
        ("json.dumps", "failed", "can't be called"),
        (f"{__name__}.broken", "failed", "ZeroDivisionError: a mistake"),
    ],
)
def test_the_processor_is_told_of_with_the_reason(server, monkeypatch, processor, mark, said):
    monkeypatch.setenv("OPTIDASH_PROCESSOR", processor)
    found = doctor()
    assert found["processor"][0] == mark
    assert said in found["processor"][1]
    assert "API" not in found
    assert server.seen == []


def test_the_engines_formats_are_tried(server, monkeypatch):
    monkeypatch.setenv("OPTIDASH_PROCESSOR", "engine")
    mark, what, _ = doctor()["libvips"]
    assert mark == "ok"
    assert (
        "reads AVIF, GIF, JP2, JPEG, PNG, TIFF, WEBP; writes AVIF, GIF, JP2, JPEG, PNG, WEBP"
        in what
    )


@pytest.mark.parametrize(
    ("saver", "mark"), [("VipsForeignSaveHeif", "warning"), ("VipsForeignSaveJpeg", "failed")]
)
def test_an_encoder_that_libvips_lacks_is_told_of(server, tmp_path, saver, mark):
    block = f"import pyvips; pyvips.operation_block_set({saver!r}, True)"
    found = in_a_process(server, tmp_path, block, OPTIDASH_PROCESSOR="engine")
    assert found["libvips"]["mark"] == mark
    assert re.search(r"; not .*(AVIF|JPEG)", found["libvips"]["what"])
    assert 'pip install "optidash-integrations[engine]"' in found["libvips"]["advice"]


def in_a_process(server, tmp_path, first: str, **more: str) -> dict[str, dict[str, str]]:
    """Return the doctor's findings in a process that begins with other statements."""
    code = f"{first}\nimport sys; sys.argv = ['optidash', 'doctor', '--json']\n{COMMAND[-1]}"
    done = subprocess.run(
        [*COMMAND[:-1], code],
        capture_output=True,
        env=environment(**settings_for(server, tmp_path) | more),
        text=True,
    )
    assert done.stderr == ""
    return {each["check"]: each for each in json.loads(done.stdout)["findings"]}


@pytest.mark.parametrize(
    ("missing", "mark", "said"),
    [
        (["pyvips"], "ok", "Pillow"),
        (["pyvips", "PIL"], "failed", "neither pyvips nor Pillow"),
    ],
)
def test_what_reads_headers_for_the_api_is_told_of(server, tmp_path, missing, mark, said):
    block = f"import sys; sys.modules.update(dict.fromkeys({missing!r}))"
    found = in_a_process(server, tmp_path, block)["headers"]
    assert (found["mark"], said in found["what"]) == (mark, True)


def test_without_libvips_the_engine_is_failed(server, tmp_path):
    block = "import sys; sys.modules['pyvips'] = None"
    found = in_a_process(server, tmp_path, block, OPTIDASH_PROCESSOR="engine")
    assert found["processor"]["mark"] == "failed"
    assert 'pip install "optidash-integrations[engine]"' in found["processor"]["advice"]


def test_a_cache_folder_that_can_not_be_made_is_failed(server, monkeypatch):
    file = put("a-file", b"")
    monkeypatch.setenv("OPTIDASH_CACHE_DIR", str(file / "cache"))
    assert doctor("--offline")["cache folder"][0] == "failed"
    monkeypatch.setenv("OPTIDASH_CACHE_DIR", str(file))
    assert doctor("--offline")["cache folder"][0] == "failed"


def test_a_cache_that_is_in_use_is_told_of_with_its_size(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPTIDASH_CACHE_BYTES", "1 MiB")
    with closing(DiskCache(tmp_path / "cache", 1_000_000)) as disk:
        disk.put("0" * 64, Entry({}, b"x" * 10_000, ""))
    before = tree("cache")
    mark, what, _ = doctor()["cache space"]
    assert (mark, tree("cache")) == ("ok", before)
    assert re.fullmatch(r"1 entry, 16\.4 kB of 1\.0 MB used; the disk has .* free", what)


def test_a_disk_with_less_room_than_the_cache_may_take_is_a_warning(server, monkeypatch):
    Path("cache").mkdir()
    monkeypatch.setenv("OPTIDASH_CACHE_BYTES", "9000000 GiB")
    assert doctor()["cache space"][0] == "warning"


@pytest.mark.parametrize(
    ("mode", "mark"), [(0o700, "ok"), (0o755, "ok"), (0o777, "warning"), (0o1777, "ok")]
)
def test_a_cache_folder_that_anybody_can_write_is_a_warning(server, mode, mark):
    Path("cache").mkdir()
    Path("cache").chmod(mode)
    assert doctor()["permissions"][0] == mark


def test_the_cache_of_another_user_is_left_alone(server, tmp_path):
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    Path("cache").mkdir()
    os.chown("cache", 12345, 12345)
    mark, what, advice = doctor()["cache folder"]
    assert (mark, "belongs to #12345" in what, "#12345" in advice) == ("warning", True, True)
    assert tree("cache") == []


@pytest.mark.parametrize(
    ("url", "mark"), [("redis://127.0.0.1:1/0", "failed"), ("redis://127.0.0.1/x", "failed")]
)
def test_the_doctor_tells_of_a_shared_cache_that_does_not_work(url, mark, tmp_path, monkeypatch):
    monkeypatch.setenv("OPTIDASH_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("OPTIDASH_CACHE_URL", url)
    result = run("doctor", "--json")
    found = {each["check"]: each for each in json.loads(result.stdout)["findings"]}
    assert (found["shared cache"]["mark"], result.exit_code) == (mark, 1)
