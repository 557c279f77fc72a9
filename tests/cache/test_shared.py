"""What the shared tiers have in common: addresses, the stored value, a medium that fails."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from optidash_integrations.cache.entry import Entry
from optidash_integrations.cache.files import DamagedError
from optidash_integrations.cache.shared import (
    Medium,
    Notes,
    open_shared,
    packed,
    shown_error,
    unpacked,
)
from optidash_integrations.errors import SettingsError
from tests.cache.conftest import Clock, key_of

ROOT = Path(__file__).parents[2]
ENTRY = Entry({"type": "image/webp", "why": None}, bytes(range(256)), "cat")


# Addresses


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://127.0.0.1:1/0", "RedisCache"),
        ("rediss://:hunter2@127.0.0.1:1?prefix=x:&ssl_check_hostname=true", "RedisCache"),
        ("s3://pictures/here?region=x&access_key_id=a&secret_access_key=hunter2", "ObjectCache"),
        ("gs://pictures?skip_signature=true", "ObjectCache"),
        ("az://pictures/here?account_name=a&account_key=aHVudGVyMg==", "ObjectCache"),
        ("memory://", "ObjectCache"),
        ("django://default", "DjangoCache"),
    ],
)
def test_the_scheme_picks_the_tier_and_nothing_is_connected(url: str, kind: str) -> None:
    cache = open_shared(url)
    assert type(cache).__name__ == kind
    assert "hunter2" not in repr(cache) + repr(vars(cache))
    cache.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hunter2",
        "hunter2:hunter2",
        "//hunter2",
        "ftp://me:hunter2@host/",
        "redis://:hun/ter2@host/0",
        "redis://:hunter2@host:port/0",
        "redis://:hunter2@[::1/0",
        "redis://:hunter2@host/hunter2",
        "redis://:hunter2@host/0?nonsense=hunter2",
        "redis://:hunter2@host/0?socket_timeout=hunter2",
        "redis://:hunter2@host/0?hunter2",
        "redis://:hunter2@host/0?prefix=",
        "redis://:hunter2@host/0?prefix=hunter2%20",
        "s3://",
        "s3:///hunter2",
        "s3://me:hunter2@pictures/here",
        "s3://pictures?nonsense=hunter2",
        "s3://pictures?timeout=hunter2",
        "s3://pictures?virtual_hosted_style_request=hunter2",
        "az://pictures?account_name=me&account_key=hunter2!",
        "memory://?x=hunter2",
        "django://",
        "django://me:hunter2@default",
        "django://hunter2",
        "django://default/hunter2",
        "django://default?x=hunter2",
    ],
)
def test_a_wrong_address_is_one_sentence_without_its_secrets(url: str) -> None:
    with pytest.raises(SettingsError) as raised:
        open_shared(url)
    (sentence,) = raised.value.problems
    assert sentence.startswith("cache_url ")
    assert "hunter2" not in sentence
    assert "ter2" not in sentence
    assert "\n" not in sentence
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize(
    ("package", "url", "extra"),
    [
        ("redis", "redis://host/0", "redis"),
        ("obstore", "s3://pictures", "storage"),
        ("django", "django://default", "django"),
    ],
)
def test_a_missing_package_names_the_extra_to_install(package: str, url: str, extra: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from optidash_integrations.cache.shared import open_shared\n"
        "from optidash_integrations.errors import SettingsError\n"
        f"try: open_shared({url!r})\nexcept SettingsError as error: print(error)"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, check=True, capture_output=True, text=True, cwd=ROOT)
    assert f'pip install "optidash-integrations[{extra}]"' in done.stdout


def test_importing_the_tiers_in_common_brings_none_of_their_packages() -> None:
    code = (
        "import sys\n"
        "import optidash_integrations.cache.shared, optidash_integrations.cache.django\n"
        "print({'redis', 'obstore', 'django'} & set(sys.modules))"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"


# The stored value


def test_every_cut_and_every_changed_byte_is_noticed() -> None:
    value = packed(ENTRY, 1000)
    assert unpacked(value) == ENTRY
    # The tag of the source is for the server's own look, and no part of the entry.
    places = [place for place in range(len(value)) if not 4 <= place < 36]
    for place in places:
        changed = bytearray(value)
        changed[place] ^= 0x01
        with pytest.raises(DamagedError):
            unpacked(bytes(changed))
    for length in range(len(value)):
        with pytest.raises(DamagedError):
            unpacked(value[:length])


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    for value in (pickle.dumps(Trap(str(trap))), Trap(str(trap)), "text", None, 5):
        with pytest.raises(DamagedError):
            unpacked(value)
    assert not trap.exists()


def test_a_body_in_a_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "body"
    file.write_bytes(b"x" * 100)
    assert packed(Entry({}, file, "", 100), 99) is None
    assert unpacked(packed(Entry({}, file, "", 100), 100)).body == b"x" * 100


def test_a_long_body_does_not_hide_facts_that_are_no_json() -> None:
    with pytest.raises(TypeError):
        packed(Entry({"x": object()}, b"x" * 100), 10)


# The medium


class Server:
    """Answers or fails, and counts how often it was asked."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return "answer"


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def medium(clock: Clock) -> Medium:
    log = logging.getLogger("optidash_integrations.test")
    return Medium("the server", (OSError,), (ValueError,), log, clock)


def test_after_a_failure_it_is_left_alone_for_longer_and_longer(
    medium: Medium, server: Server, clock: Clock
) -> None:
    server.error = OSError("gone")
    start = clock.seconds
    asked = []
    for _ in range(1200):
        before = server.asked
        assert medium.ask(server, "nothing") == "nothing"
        if server.asked > before:
            asked.append(round(clock.seconds - start, 1))
        clock.seconds += 0.1
    pauses = [round(b - a) for a, b in pairwise(asked)]
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


def test_it_recovers_by_itself_and_begins_again_with_a_second(
    medium: Medium, server: Server, clock: Clock
) -> None:
    server.error = OSError("gone")
    for _ in range(5):
        medium.ask(server, "nothing")
        clock.hour()
    server.error = None
    assert medium.ask(server, "nothing") == "answer"
    assert medium.ask(server, "nothing") == "answer"
    server.error = OSError("gone")
    medium.ask(server, "nothing")
    server.error = None
    clock.seconds += 1.1
    assert medium.ask(server, "nothing") == "answer"


def test_after_the_pause_one_caller_tries_and_the_others_do_without(
    medium: Medium, server: Server, clock: Clock
) -> None:
    server.error = OSError("gone")
    medium.ask(server, "nothing")
    clock.seconds += 1.1
    meanwhile = []

    def slow() -> str:
        meanwhile.append(medium.ask(server, "nothing"))
        return server()

    server.error = None
    assert medium.ask(slow, "nothing") == "answer"
    assert meanwhile == ["nothing"]


def test_many_that_fail_together_make_one_pause(
    medium: Medium, server: Server, clock: Clock
) -> None:
    server.error = OSError("gone")

    def nested(depth: int) -> str:
        if depth:
            medium.ask(lambda: nested(depth - 1), "nothing")
        return server()

    medium.ask(lambda: nested(6), "nothing")
    assert server.asked == 7
    server.error = None
    clock.seconds += 1.1
    assert medium.ask(server, "nothing") == "answer"


def test_a_server_that_refuses_is_not_left_alone(medium: Medium, server: Server) -> None:
    server.error = ValueError("full")
    assert medium.ask(server, "nothing") == "nothing"
    server.error = None
    assert medium.ask(server, "nothing") == "answer"


def test_what_must_be_asked_is_asked_in_a_pause(medium: Medium, server: Server) -> None:
    server.error = OSError("gone")
    medium.ask(server, "nothing")
    medium.ask(server, "nothing", always=True)
    assert server.asked == 2


def test_a_clock_that_was_set_back_does_not_prolong_the_pause(
    medium: Medium, server: Server, clock: Clock
) -> None:
    server.error = OSError("gone")
    medium.ask(server, "nothing")
    server.error = None
    clock.seconds -= 10_000
    assert medium.ask(server, "nothing") == "answer"


def test_a_failure_is_logged_once_a_minute(
    medium: Medium, server: Server, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server.error = OSError("gone")
    for _ in range(90):
        medium.ask(server, "nothing")
        clock.seconds += 1
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "the server failed and is left alone" in caplog.text


def test_a_logged_error_has_one_line_and_no_query_of_an_address() -> None:
    error = OSError("GET http://host/a?sig=hunter2&x=1 failed\nhunter2 in detail")
    assert str(shown_error(error)) == "OSError: GET http://host/a failed"


# Notes


def test_the_use_of_an_entry_is_noted_at_most_every_ten_minutes(clock: Clock) -> None:
    notes = Notes(clock)
    for _ in range(3):
        notes.add(key_of(1))
    assert notes.take() == [key_of(1)]
    clock.seconds += 599
    notes.add(key_of(1))
    assert notes.take() == []
    clock.seconds += 2
    notes.add(key_of(1))
    assert notes.take() == [key_of(1)]


def test_notes_that_nobody_sends_do_not_pile_up(clock: Clock) -> None:
    notes = Notes(clock)
    for number in range(30_000):
        notes.add(key_of(number))
        notes.stored(key_of(-number))
    assert len(notes.waiting) <= 500
    assert len(notes.touched) <= 10_000
