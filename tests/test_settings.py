from __future__ import annotations

import logging
from pathlib import Path

import pytest

from optidash_integrations.errors import SettingsError
from optidash_integrations.limits import Limits
from optidash_integrations.settings import DJANGO, FLASK, SPECS, Settings, problems, read

MIB = 1024 * 1024
BOTH_ORIGINS = ("https://app.example", "http://127.0.0.1:8000")


def test_the_defaults_need_no_setting_at_all():
    assert read({}, environ={}) == Settings()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_width", "1200", 1200),
        ("max_input_bytes", "20 MiB", 20 * MIB),
        ("memory_bytes", "1.5GiB", 1536 * MIB),
        ("cache_bytes", 4096, 4096),
        ("formats", "webp, avif", ("webp", "avif")),
        ("formats", [], ()),
        ("widths", "640,320,640", (320, 640)),
        ("deadline", "none", None),
        ("deadline", None, None),
        ("deadline", 0, 0.0),
        ("fresh_for", "2.5", 2.5),
        ("public_paths", ["/static/", "*.png"], ("/static/", "*.png")),
        ("signing_keys", ["new", b"old"], (b"new", b"old")),
        ("cache_dir", "/tmp/images", Path("/tmp/images")),
        ("cache_dir", "none", None),
        ("compression", "High", "high"),
        ("access", "signed", "signed"),
        ("access", "signed, public", ("signed", "public")),
        ("access", ["Signed"], "signed"),
        ("rate_limit", " 600 / Minutes ", "600/minute"),
        ("rate_limit", "none", None),
        ("cors_origins", "https://App.example, http://127.0.0.1:8000", BOTH_ORIGINS),
        ("cors_origins", "*", ("*",)),
        ("remote_hosts", "a.example, *.b.example/x/", ("a.example", "*.b.example/x/")),
        ("follow_links", "yes", True),
        ("hide_refused", "0", False),
        ("referers", "WWW.example, *.b.example", ("www.example", "*.b.example")),
        ("referers", ["[::1]", "localhost"], ("[::1]", "localhost")),
        ("expired_status", "410", 410),
        ("clock_skew", "2.5", 2.5),
        ("fallback_image", "/tmp/a.png", Path("/tmp/a.png")),
        ("fallback_status", "404", 404),
    ],
)
def test_values_are_read_from_python_and_from_text(name, value, expected):
    assert getattr(read({name: value}, environ={}), name) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_width", "abc"),
        ("max_width", 0),
        ("max_width", True),
        ("max_width", 20_000),
        ("max_input_bytes", "50 megs"),
        ("max_input_bytes", -1),
        ("formats", "jxl"),
        ("formats", "webp,webp"),
        ("widths", ""),
        ("deadline", "soon"),
        ("deadline", -1),
        ("deadline", "nan"),
        ("public_paths", "static/"),
        ("signing_keys", [""]),
        ("signing_keys", [7]),
        ("compression", "max"),
        ("access", "everyone"),
        ("access", []),
        ("access", ["signed", 7]),
        ("rate_limit", "often"),
        ("rate_limit", "0/minute"),
        ("rate_limit", 600),
        ("cors_origins", "app.example"),
        ("cors_origins", "https://app.example/path"),
        ("cors_origins", ["*", "https://app.example"]),
        ("remote_hosts", "https://a.example"),
        ("follow_links", "perhaps"),
        ("fallback_status", 304),
        ("referers", "https://a.example"),
        ("referers", "a.example:80"),
        ("referers", "a.*.example"),
        ("referers", "*"),
        ("expired_status", 401),
        ("expired_status", 405),
        ("clock_skew", -1),
        ("cache_dir", 7),
        ("on_error", "explode"),
    ],
)
def test_a_wrong_value_is_one_sentence_with_the_name_what_it_takes_and_what_came(name, value):
    [sentence] = problems({name: value}, environ={})
    assert sentence.startswith(f"{name} takes ")
    assert ", not " in sentence


def test_all_problems_are_reported_together():
    with pytest.raises(SettingsError) as caught:
        read({"max_width": "wide", "max_widht": 1, "queue": 0}, environ={})
    assert len(caught.value.problems) == 3
    assert '"max_widht" is not a setting; did you mean max_width?' in caught.value.problems


@pytest.mark.parametrize(
    ("spelling", "key", "shown"),
    [(DJANGO, "MAX_WIDTH", 'OPTIDASH["MAX_WIDTH"]'), (FLASK, "OPTIDASH_MAX_WIDTH", "OPTIDASH_MAX")],
)
def test_each_framework_sees_its_own_spelling_in_messages(spelling, key, shown):
    [sentence] = problems({key: 0}, spelling=spelling, environ={})
    assert sentence.startswith(shown)
    assert read({key: 800}, spelling=spelling, environ={}).max_width == 800


def test_an_async_rule_of_access_is_refused():
    async def rule(request, name):
        return False

    assert "not async" in problems({"access": rule}, environ={})[0]


@pytest.mark.parametrize("name", ["color", "max_widht"])
def test_a_setting_that_nothing_reads_is_refused_as_unknown(name):
    assert "is not a setting" in problems({name: "x"}, environ={})[0]


def test_the_environment_is_the_fallback_of_what_is_not_given():
    environ = {"OPTIDASH_MAX_WIDTH": "800", "OPTIDASH_MAX_HEIGHT": "600"}
    settings = read({"max_width": 1000}, environ=environ)
    assert (settings.max_width, settings.max_height) == (1000, 600)


def test_a_wrong_value_in_the_environment_says_where_it_came_from():
    [sentence] = problems({}, environ={"OPTIDASH_QUEUE": "long"})
    assert sentence.startswith("OPTIDASH_QUEUE in the environment takes")


def test_an_unknown_name_in_the_environment_is_a_log_line(caplog):
    with caplog.at_level(logging.WARNING):
        assert problems({}, environ={"OPTIDASH_COLOUR": "red"}) == []
    assert "OPTIDASH_COLOUR" in caplog.text


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("api_key", "kéy"),
        ("api_key", "two\nlines"),
        ("api_url", "http://api.example/1.0"),
        ("api_url", "https://user:hush@api.example/1.0"),
        ("api_url", "api.example"),
        ("cache_url", "mysql://hush@host"),
        ("cache_url", "redis"),
        ("timeout", 0),
        ("retries", -1),
        ("monthly_budget", -1),
        ("monthly_budget", "many"),
    ],
)
def test_a_wrong_setting_of_the_api_is_told_without_secrets(name, wrong):
    [sentence] = problems({name: wrong}, environ={})
    assert sentence.startswith(f"{name} takes ")
    assert "hush" not in sentence


def test_the_api_has_more_workers_than_there_are_cores():
    assert Settings(api_key="a-key").threads == 16
    assert Settings(api_key="a-key", processor="engine").threads == Settings().threads
    assert Settings(api_key="a-key", workers=3).threads == 3


def test_secrets_show_in_no_repr_and_no_message():
    assert "hush" not in repr(Settings(api_key="hush", cache_url="redis://:hush@host"))
    assert "hush" not in repr(Settings(signing_keys=["hush"]))
    assert "hush" not in problems({"signing_keys": {"hush": 1}.values()}, environ={})[0]


def test_settings_made_directly_are_checked_too():
    with pytest.raises(SettingsError, match="max_width takes"):
        Settings(max_width="wide")


def test_equal_settings_are_equal_and_hashable():
    assert hash(Settings(widths=[640, 320])) == hash(Settings(widths=(320, 640)))


def test_every_setting_has_a_parser_with_words():
    assert all(spec.metadata["parser"].takes for spec in SPECS.values())


DERIVED = {"workers": "threads"}


@pytest.mark.parametrize("name", SPECS)
def test_every_setting_is_read_somewhere(name):
    package = Path(__file__).parents[1] / "optidash_integrations"
    modules = [p for p in package.rglob("*.py") if p.name != "settings.py"]
    sources = [p.read_text(encoding="utf-8") for p in modules]
    derived = "limits" if name in Limits.__dataclass_fields__ else DERIVED.get(name, name)
    assert any(f"settings.{derived}" in text or f"settings.{name}" in text for text in sources), (
        name
    )
