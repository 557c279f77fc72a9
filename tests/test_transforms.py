from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from optidash_integrations.operations import Operations
from optidash_integrations.settings import DEFAULT_WIDTHS
from optidash_integrations.transforms import TransformPolicy


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def policy(transforms="bounded", per_source=64, clock=None, widths=DEFAULT_WIDTHS):
    return TransformPolicy(
        transforms, widths, per_source, max_height=4096, clock=clock or (lambda: 0.0)
    )


def ask(policy, query, *, digest="d", signed=False, stored=()):
    """Return the query of what a request gets."""
    known = [Operations.from_query(each) for each in stored]
    asked = Operations.from_query(query)
    got = policy.decide(digest, asked, signed=signed, is_stored=lambda each: each in known)
    return got.to_query()


@pytest.mark.parametrize("transforms", ["none", "allowlist", "bounded", "any"])
def test_a_signed_address_always_gets_exactly_what_it_says(transforms):
    query = "bg=ff0000&fit=pad&h=333&q=41&w=333"
    strict = policy(transforms, per_source=1)
    ask(strict, "w=1")
    assert ask(strict, query, signed=True) == query


def test_none_ignores_unsigned_options():
    assert ask(policy("none"), "w=640&fm=webp") == ""


def test_any_counts_nothing():
    free = policy("any", per_source=1)
    assert [ask(free, f"w={w}") for w in (7, 8, 9)] == ["w=7", "w=8", "w=9"]


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("w=640", "w=672"),
        ("w=320", "w=320"),
        ("w=1", "w=320"),
        ("w=2560", "w=2560"),
        ("w=4000", "w=2560"),
        ("w=200&dpr=2", "w=448"),
        ("w=160&dpr=2", "w=320"),
        ("h=500", "h=512"),
        ("h=500&fit=contain", "fit=contain&h=512"),
        ("w=400&fit=contain", "fit=contain&w=448"),
        ("w=400&fit=crop", "w=448"),
        ("w=400&h=300&fit=crop", "fit=crop&h=336&w=448"),
        ("w=400&h=290&fit=crop&crop=top,left", "crop=top-left&fit=crop&h=336&w=448"),
        ("w=448&h=448&fit=pad&bg=f00", "fit=pad&h=448&w=448"),
        ("w=300&h=300&fit=fill", "fit=fill&h=320&w=320"),
        ("w=400&h=711&fit=crop&fp-x=0.1&fp-y=0.2", "fit=crop&h=796&w=448"),
        ("w=3000&h=10&fit=crop", "fit=crop&h=853&w=2560"),
        ("w=10&h=3000&fit=crop", "fit=crop&h=569&w=320"),
        ("w=2500&h=4096&fit=crop", "fit=crop&h=4096&w=2304"),
        ("w=2304&h=4096&fit=crop", "fit=crop&h=4096&w=2304"),
        ("w=2560&h=4096&fit=crop&dpr=3", "fit=crop&h=3840&w=2560"),
        ("w=320&q=33&rect=1,2,3,4&bg=123456", "w=320"),
        ("fm=webp&q=33", "fm=webp"),
        ("fm=auto&w=320", "w=320"),
        ("q=33", ""),
        ("crop=top&fit=crop", ""),
        ("", ""),
    ],
)
def test_an_allowlist_snaps_sizes_and_drops_the_rest(asked, got):
    assert ask(policy("allowlist"), asked) == got
    assert ask(policy("allowlist"), got) == got


@pytest.mark.parametrize(
    ("asked", "shape"),
    [
        ("w=400&h=300", (4, 3)),
        ("w=300&h=400", (3, 4)),
        ("w=400&h=225", (16, 9)),
        ("w=225&h=400", (9, 16)),
        ("w=500&h=500", (1, 1)),
        ("w=500&h=480", (1, 1)),
        ("w=1200&h=400", (3, 1)),
        ("w=1200&h=600", (2, 1)),
        ("w=1400&h=600", (21, 9)),
        ("w=600&h=400", (3, 2)),
        ("w=400&h=600", (2, 3)),
        ("w=500&h=400", (5, 4)),
        ("w=400&h=500", (4, 5)),
    ],
)
def test_a_box_gets_the_nearest_of_a_dozen_shapes(asked, shape):
    got = policy("allowlist").snapped(Operations.from_query(f"{asked}&fit=crop")).resize
    assert got.height == pytest.approx(got.width * shape[1] / shape[0], abs=0.5)


def test_an_allowlist_is_finite():
    strict = policy("allowlist")
    boxes = {
        ask(strict, f"w={w}&h={h}&fit=crop") for w in range(1, 4096, 61) for h in range(1, 4096, 61)
    }
    assert len(boxes) <= len(DEFAULT_WIDTHS) * 12


@pytest.mark.parametrize("height", [1, 700, 4096])
def test_nothing_it_gives_is_higher_than_a_variant_may_be(height):
    low = TransformPolicy("allowlist", (320, 2560), 1, max_height=700)
    for width in (1, 320, 2560):
        asked = Operations.from_query(f"w={width}&h={height}&fit=crop")
        assert low.snapped(asked).resize.height <= 700
    assert low.snapped(Operations.from_query("h=4000")).resize.height == 700


def test_one_meaning_in_several_spellings_is_one_variant():
    strict = policy("allowlist")
    spellings = [
        "w=400&h=300&fit=crop",
        "h=301&fit=cover&w=399",
        "width=200&height=150&dpr=2&fit=crop",
    ]
    got = {strict.snapped(Operations.from_query(each)).fingerprint for each in spellings}
    assert len(got) == 1


def test_bounded_is_exact_until_one_source_has_had_its_number():
    bounded = policy(per_source=3)
    exact = [ask(bounded, f"w={w}") for w in (401, 402, 403)]
    assert exact == ["w=401", "w=402", "w=403"]
    assert ask(bounded, "w=404") == "w=448"
    assert ask(bounded, "w=404", digest="another") == "w=404"


def test_past_the_bound_what_was_counted_or_is_stored_is_still_exact():
    bounded = policy(per_source=1)
    assert ask(bounded, "w=401") == "w=401"
    assert ask(bounded, "w=402") == "w=448"
    assert ask(bounded, "w=401") == "w=401"
    assert ask(bounded, "w=402", stored=["w=402"]) == "w=402"


def test_the_store_is_asked_only_past_the_bound():
    bounded, looked = policy(per_source=1), []
    for query in ("w=401", "w=401", "w=320", "w=402"):
        asked = Operations.from_query(query)
        bounded.decide("d", asked, signed=False, is_stored=lambda each: bool(looked.append(each)))
    assert looked == [Operations.from_query("w=402")]


def test_the_same_options_count_once_and_listed_or_signed_ones_never():
    bounded = policy(per_source=2)
    for query in ("w=401", "width=401", "w=401&fit=clip", "w=320", "w=448&fm=avif", ""):
        ask(bounded, query)
    ask(bounded, "w=999", signed=True)
    assert ask(bounded, "w=402") == "w=402"
    assert ask(bounded, "w=403") == "w=448"


def test_counts_are_forgotten_a_day_after_the_first():
    clock = Clock()
    bounded = policy(per_source=1, clock=clock)
    assert ask(bounded, "w=401") == "w=401"
    clock.now = 86_399
    assert ask(bounded, "w=401") == "w=401"
    assert ask(bounded, "w=402") == "w=448"
    clock.now = 86_401
    assert ask(bounded, "w=402") == "w=402"


def test_threads_share_one_count():
    bounded = policy(per_source=10)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda w: ask(bounded, f"w={w}"), range(401, 448)))
    assert sum(each != "w=448" for each in got) == 10
