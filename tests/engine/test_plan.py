from __future__ import annotations

import pytest

from optidash_integrations.engine.crops import Box, Sight
from optidash_integrations.engine.plan import Plan
from optidash_integrations.errors import OptionError
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations


def plan(document: dict[str, object], width: int, height: int, **limits: int) -> Plan:
    return Plan.of(Operations.from_dict(document), width, height, Limits(**limits))


def final(made: Plan) -> tuple[int, int]:
    return made.final_width, made.final_height


@pytest.mark.parametrize(
    ("resize", "source", "result"),
    [
        ({"width": 500}, (1000, 333), (500, 167)),
        ({"height": 100}, (1000, 333), (300, 100)),
        ({"width": 300, "height": 300}, (1000, 500), (300, 150)),
        ({"width": 300, "height": 100}, (1000, 500), (200, 100)),
        ({"width": 2000}, (1000, 500), (1000, 500)),
        ({"width": 2000, "upscale": True}, (1000, 500), (2000, 1000)),
        ({"width": 1}, (1000, 3), (1, 1)),
        ({"mode": "exact", "width": 300, "height": 300}, (100, 50), (300, 300)),
        ({"mode": "exact", "width": 300, "height": 20, "upscale": False}, (100, 50), (100, 20)),
        ({"mode": "fit", "width": 300, "height": 300}, (1000, 500), (300, 300)),
        ({"mode": "fit", "width": 300, "height": 200}, (100, 50), (300, 200)),
        ({"mode": "fit", "width": 300, "height": 150, "upscale": False}, (100, 100), (100, 50)),
        ({"mode": "pad", "width": 300, "height": 300}, (1000, 500), (300, 300)),
        ({"mode": "pad", "width": 300, "height": 300}, (100, 50), (300, 300)),
    ],
)
def test_a_resize_gives_exactly_the_size_asked_for(
    resize: dict[str, object], source: tuple[int, int], result: tuple[int, int]
) -> None:
    assert final(plan({"resize": resize}, *source)) == result


@pytest.mark.parametrize(
    ("gravity", "left", "top"),
    [
        ("center", 150, 0),
        ("left", 0, 0),
        ("right", 300, 0),
        ("top", 150, 0),
        ("bottom", 150, 0),
        ("top-left", 0, 0),
        ("top-right", 300, 0),
        ("bottom-left", 0, 0),
        ("bottom-right", 300, 0),
        ("face", 150, 0),
        ("faces", 150, 0),
    ],
)
def test_gravity_says_which_part_of_a_covering_picture_stays(
    gravity: str, left: int, top: int
) -> None:
    resize = {"mode": "fit", "width": 300, "height": 300, "gravity": gravity}
    made = plan({"resize": resize}, 1000, 500)
    assert (made.width, made.height, made.window) == (600, 300, Box(left, top, 300, 300))


@pytest.mark.parametrize(
    ("focus", "left"), [([0, 0], 0), ([0.5, 0.5], 150), ([0.6, 0.1], 210), ([1, 1], 300)]
)
def test_a_focus_is_kept_as_near_the_middle_as_the_edges_allow(
    focus: list[float], left: int
) -> None:
    resize = {"mode": "fit", "width": 300, "height": 300, "focus": focus}
    assert plan({"resize": resize}, 1000, 500).window == Box(left, 0, 300, 300)


def test_smart_and_entropy_leave_the_place_to_a_search() -> None:
    resize = {"mode": "fit", "width": 300, "height": 300, "gravity": "smart"}
    assert plan({"resize": resize}, 1000, 500).search == "attention"
    resize["gravity"] = "entropy"
    assert plan({"resize": resize}, 1000, 500).search == "entropy"


def test_a_padded_picture_lies_in_the_middle_of_its_canvas() -> None:
    resize = {"mode": "pad", "width": 300, "height": 300}
    made = plan({"resize": resize}, 1000, 500)
    assert (made.width, made.height, made.canvas) == (300, 150, Box(0, 75, 300, 300))


@pytest.mark.parametrize(
    ("crop", "part"),
    [
        ({"x": 10, "y": 20, "width": 30, "height": 40}, Box(10, 20, 30, 30)),
        ({"x": 90, "y": 40, "width": 30, "height": 40}, Box(90, 40, 10, 10)),
        ({"width": 30, "height": 40}, Box(35, 5, 30, 40)),
        ({"width": 30, "height": 40, "gravity": "bottom-right"}, Box(70, 10, 30, 40)),
        ({"x": 10, "width": 30, "height": 40, "gravity": "bottom"}, Box(10, 0, 30, 40)),
        ({"x": 0, "y": 0, "width": 500, "height": 500}, None),
        ({"mode": "ratio", "ratio": "1:1"}, Box(25, 0, 50, 50)),
        ({"mode": "ratio", "ratio": "1:1", "gravity": "left"}, Box(0, 0, 50, 50)),
        ({"mode": "ratio", "ratio": "4:1"}, Box(0, 12, 100, 25)),
        ({"mode": "ratio", "ratio": "2:1"}, None),
    ],
)
def test_a_crop_is_cut_to_the_edges(crop: dict[str, object], part: Box | None) -> None:
    made = plan({"crop": crop}, 100, 50)
    assert made.crop == part
    assert final(made) == ((part.width, part.height) if part else (100, 50))


def test_a_crop_beyond_the_picture_is_an_error() -> None:
    with pytest.raises(OptionError, match=r"crop\.x takes an integer below 100"):
        plan({"crop": {"x": 100, "y": 0, "width": 10, "height": 10}}, 100, 50)


@pytest.mark.parametrize(
    ("scale", "result"),
    [({"size": 0.5}, (50, 25)), ({"size": 2}, (200, 100)), ({"ratio": 2}, (100, 100))],
)
def test_a_scale_multiplies_both_sides(scale: dict[str, object], result: tuple[int, int]) -> None:
    assert final(plan({"scale": scale}, 100, 50)) == result


def test_crop_resize_and_scale_follow_each_other_in_one_resampling() -> None:
    document = {
        "crop": {"x": 0, "y": 0, "width": 100, "height": 100},
        "resize": {"mode": "fit", "width": 60, "height": 30},
        "scale": {"size": 2},
    }
    made = plan(document, 200, 200)
    assert made.crop == Box(0, 0, 100, 100)
    assert (made.width, made.height) == (120, 120)
    assert made.window == Box(0, 30, 120, 60)


@pytest.mark.parametrize(
    ("document", "result"),
    [
        ({}, (400, 200)),
        ({"scale": {"size": 1e6}}, (400, 200)),
        ({"resize": {"mode": "pad", "width": 800, "height": 800}}, (300, 300)),
        ({"resize": {"mode": "fit", "width": 800, "height": 800}}, (300, 300)),
    ],
)
def test_a_result_past_the_limits_is_scaled_down_to_fit(
    document: dict[str, object], result: tuple[int, int]
) -> None:
    assert final(plan(document, 1000, 500, max_width=400, max_height=300)) == result


@pytest.mark.parametrize("size", [(65_500, 1), (1, 65_500), (10_000, 10)])
def test_a_sliver_made_to_cover_a_box_is_cut_before_it_is_enlarged(size: tuple[int, int]) -> None:
    for gravity in ("center", "bottom-right", "smart"):
        resize = {"mode": "fit", "width": 1000, "height": 400, "gravity": gravity}
        made = plan({"resize": resize}, *size)
        assert final(made) == (1000, 400)
        assert made.width * made.height <= 4 * 1000 * 1000


def test_a_picture_that_nothing_is_asked_of_keeps_its_pixels() -> None:
    assert plan({}, 1000, 500).keeps_pixels
    assert plan({"resize": {"width": 1000}, "scale": {"size": 1}}, 1000, 500).keeps_pixels
    assert not plan({"resize": {"width": 999}}, 1000, 500).keeps_pixels


# --- what makes a picture larger again


LIMITS = Limits()
FACES = Sight(faces=(Box(600, 100, 100, 120), Box(100, 300, 80, 80)))


def planned(document: dict[str, object], sight: Sight = FACES, limits: Limits = LIMITS) -> Plan:
    return Plan.of(Operations.from_dict(document), 800, 600, limits, sight)


@pytest.mark.parametrize(
    ("document", "size"),
    [
        ({"rotate": {"angle": 90}}, (600, 800)),
        ({"rotate": {"angle": 180}}, (800, 600)),
        ({"rotate": {"angle": 45}}, (990, 990)),
        ({"rotate": {"angle": 30}}, (993, 920)),
        ({"super_resolution": {"factor": 2}}, (1600, 1200)),
        ({"border": {"size": 7}}, (814, 614)),
        ({"padding": {"size": 5, "left": 11}}, (816, 610)),
        ({"resize": {"width": 400}, "rotate": {"angle": 90}, "border": {"size": 1}}, (302, 402)),
        ({"super_resolution": {"factor": 3}, "rotate": {"angle": 270}}, (1800, 2400)),
    ],
)
def test_the_final_size_counts_everything(
    document: dict[str, object], size: tuple[int, int]
) -> None:
    plan = planned(document)
    assert (plan.final_width, plan.final_height) == size
    assert not plan.keeps_pixels


@pytest.mark.parametrize(
    "document",
    [
        {"super_resolution": {"factor": 4}},
        {"rotate": {"angle": 33}, "padding": {"size": 100}},
        {"border": {"size": 400}, "scale": {"size": 3}},
        {"resize": {"mode": "pad", "width": 900, "height": 900}, "rotate": {"angle": 1}},
    ],
)
def test_the_final_size_never_exceeds_the_limits(document: dict[str, object]) -> None:
    plan = planned(document, limits=Limits(max_width=1000, max_height=900))
    assert plan.final_width <= 1000
    assert plan.final_height <= 900


def test_a_frame_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(OptionError, match=r"border.size and padding takes at most 4096 x 4096"):
        planned({"padding": {"left": 4096}})


def test_a_crop_of_a_face_is_the_best_one_with_its_surroundings() -> None:
    assert planned({"crop": {"mode": "face", "padding": 0}}).crop == Box(600, 100, 100, 120)
    assert planned({"crop": {"mode": "face"}}).crop == Box(550, 40, 200, 240)
    assert planned({"crop": {"mode": "face", "padding": 2}}).crop == Box(400, 0, 400, 460)
    assert planned({"crop": {"mode": "face"}}, Sight()).crop is None


def test_a_smart_crop_lies_around_what_draws_the_eye() -> None:
    smart = {"crop": {"mode": "smart", "width": 200, "height": 100}}
    assert planned(smart, Sight(attention=(0.5, 0.25))).crop == Box(300, 100, 200, 100)
    assert planned(smart, Sight(attention=(0.0, 1.0))).crop == Box(0, 500, 200, 100)
    assert planned(smart, Sight()).crop == Box(300, 250, 200, 100)


def test_a_gravity_of_faces_keeps_the_best_or_all_of_them() -> None:
    square = {"mode": "fit", "width": 300, "height": 300}
    best = planned({"resize": {**square, "gravity": "face"}})
    assert (best.width, best.height, best.window) == (400, 300, Box(100, 0, 300, 300))
    both = planned({"resize": {**square, "gravity": "faces"}})
    assert both.window == Box(50, 0, 300, 300)
    none = planned({"resize": {**square, "gravity": "face"}}, Sight())
    assert none.window == Box(50, 0, 300, 300)


def test_a_face_is_looked_for_in_what_the_crop_left() -> None:
    document = {
        "crop": {"x": 400, "y": 0, "width": 400, "height": 200},
        "resize": {"mode": "fit", "width": 100, "height": 100, "gravity": "face"},
    }
    plan = planned(document)
    assert (plan.width, plan.height) == (200, 100)
    assert plan.window == Box(75, 0, 100, 100)


def test_a_focus_that_was_given_wins_over_what_was_seen() -> None:
    square = {"mode": "fit", "width": 300, "height": 300, "gravity": "face", "focus": [0, 0]}
    assert planned({"resize": square}).window == Box(0, 0, 300, 300)
