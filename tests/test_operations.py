from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optidash_integrations.errors import OptionError, QueryError
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations

read = Operations.from_dict
query = Operations.from_query

BOX = {"width": 400, "height": 300}
FIT = {"mode": "fit", **BOX}
PAD = {"mode": "pad", **BOX}
RECT = {"x": 0, "y": 0, "width": 10, "height": 20}


def test_nothing_asked_is_valid_and_means_nothing() -> None:
    assert Operations() == read({}) == query("")
    assert (Operations().to_dict(), Operations().canonical(), Operations().to_query()) == (
        {},
        {},
        "",
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"resize": {"width": "640"}}, {"resize": {"width": 640}}),
        ({"resize": {"width": 640.0}}, {"resize": {"width": 640}}),
        ({"resize": FIT}, {"resize": dict(reversed(FIT.items()))}),
        ({"resize": {"width": 9, "mode": "auto"}}, {"resize": {"width": 9}}),
        ({"resize": {"width": 9, "upscale": False}}, {"resize": {"width": 9}}),
        ({"resize": {**FIT, "upscale": True}}, {"resize": FIT}),
        ({"resize": {**PAD, "upscale": False}}, {"resize": PAD}),
        ({"resize": {**FIT, "gravity": "center"}}, {"resize": FIT}),
        ({"resize": {**FIT, "focus": [0.5, "0.5"], "gravity": "top"}}, {"resize": FIT}),
        ({"resize": {**FIT, "focus": [-0.0, 1]}}, {"resize": {**FIT, "focus": [0, 1]}}),
        ({"resize": {**BOX, "gravity": "top", "background": "red"}}, {"resize": BOX}),
        ({"resize": {**PAD, "background": "red"}}, {"resize": {**PAD, "background": "#F00"}}),
        ({"resize": {"upscale": True}, "crop": {}}, {}),
        ({"scale": {"size": 2, "ratio": 1}}, {"scale": {"size": "2.0"}}),
        ({"scale": {"size": 1}}, {}),
        ({"crop": {**RECT, "gravity": "top"}}, {"crop": {**RECT, "mode": "rect"}}),
        (
            {"crop": {"mode": "ratio", "ratio": "32:18"}},
            {"crop": {"mode": "ratio", "ratio": "16:9"}},
        ),
        ({"optimize": {"compression": "medium"}}, {}),
        ({"output": {"format": "jpeg"}}, {"output": {"format": "jpg"}}),
        ({"output": {"format": "auto", "encoding": "progressive", "lossless": False}}, {}),
        ({"output": {"background": "white"}}, {}),
        ({"rotate": {"angle": -90}}, {"rotate": {"angle": "270"}}),
        ({"rotate": {"angle": 360, "background": "red"}}, {}),
        ({"stylize": {"grayscale": True}}, {"filter": {"grayscale": "true"}}),
        (
            {"filter": {"blur": {"value": 5}}},
            {"filter": {"blur": {"mode": "gaussian", "value": 5}}},
        ),
        ({"filter": {"pixelate": 1, "vignette": 0}}, {}),
        (
            {"padding": {"size": 4, "left": 9}},
            {"padding": {"top": 4, "right": 4, "bottom": 4, "left": 9}},
        ),
        ({"padding": {"size": 0, "color": "red"}}, {}),
        ({"border": {"color": "red"}}, {}),
        ({"mask": {"shape": "ellipse", "radius": 4}}, {"mask": {"shape": "ellipse"}}),
        (
            {"watermark": {"id": "a", "url": "https://b.example/c.png"}},
            {"watermark": {"url": "https://b.example/c.png"}},
        ),
        ({"text": {"text": "SGk=", "size": 20}}, {"text": {"text": "SGkK"}}),
        ({"crop": {"mode": "face", "gravity": "top"}}, {"crop": {"mode": "face", "padding": 0.5}}),
        ({"detect": {"faces": False, "palette": 0}}, {}),
        ({"adjust": {"gamma": 1, "hue": 0}}, {}),
    ],
)
def test_equal_meaning_is_equal(one: dict[str, object], other: dict[str, object]) -> None:
    assert read(one) == read(other)
    assert hash(read(one)) == hash(read(other))
    assert read(one).fingerprint == read(other).fingerprint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"resize": {"width": 9}}, {"resize": {"height": 9}}),
        ({"resize": {"width": 9, "upscale": True}}, {"resize": {"width": 9}}),
        ({"resize": {**FIT, "upscale": False}}, {"resize": FIT}),
        ({"resize": {**FIT, "focus": [0, 0]}}, {"resize": FIT}),
        ({"crop": RECT}, {"crop": {"width": 10, "height": 20}}),
        ({"output": {"lossless": True}}, {}),
        ({"output": {"background": "fffffffe"}}, {}),
        ({"mask": {"shape": "ellipse"}}, {}),
        ({"crop": {"mode": "face"}}, {}),
        ({"filter": {"blur": {"value": 5}}}, {"filter": {"blur": {"value": 6}}}),
        ({"filter": {"duotone": {"dark": "red", "light": "blue"}}}, {}),
        ({"padding": {"top": 1}}, {"padding": {"left": 1}}),
        ({"border": {"radius": 1}}, {}),
        ({"text": {"text": "SGk="}}, {"text": {"text": "SGE="}}),
    ],
)
def test_another_meaning_is_another_fingerprint(
    one: dict[str, object], other: dict[str, object]
) -> None:
    assert read(one) != read(other)
    assert read(one).fingerprint != read(other).fingerprint


def test_the_fingerprint_is_sixteen_hex_digits_and_never_changes() -> None:
    assert read({"resize": {"width": 640}}).fingerprint == "ee7b679a0c6d6b5c"


def test_what_was_given_is_kept_also_where_it_is_the_default() -> None:
    document = {"optimize": {"compression": "medium"}, "resize": {"mode": "auto", "width": "640"}}
    asked = read(document)
    assert asked.to_dict() == document | {"resize": {"mode": "auto", "width": 640}}
    assert asked.canonical() == {"resize": {"width": 640}}
    assert json.loads(json.dumps(asked.to_dict())) == asked.to_dict()


def test_fields_are_none_where_not_given_and_can_not_be_changed() -> None:
    asked = read({"resize": {"width": 640}})
    assert asked.resize is not None
    assert (asked.resize.mode, asked.resize.width, asked.crop) == (None, 640, None)
    with pytest.raises(FrozenInstanceError):
        asked.resize.width = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("mode", "grows"), [("auto", False), ("pad", False), ("fit", True), ("exact", True)]
)
def test_whether_a_small_image_grows_depends_on_the_mode(mode: str, *, grows: bool) -> None:
    resize = read({"resize": {**BOX, "mode": mode}}).resize
    assert resize is not None
    assert resize.upscales is grows
    assert resize.effective().to_dict()["upscale"] is grows


def test_of_two_the_right_one_wins_parameter_by_parameter() -> None:
    left = read({"resize": FIT, "optimize": {"compression": "high"}})
    right = read({"resize": {"width": 200}, "output": {"quality": 50}})
    assert (left | right).to_dict() == {
        "optimize": {"compression": "high"},
        "output": {"quality": 50},
        "resize": {"mode": "fit", "width": 200, "height": 300},
    }


def test_a_default_given_on_the_right_wins_and_one_not_given_does_not() -> None:
    left = read({"optimize": {"compression": "high"}})
    assert (left | Operations()) == left
    assert (left | read({"optimize": {"compression": "medium"}})) == Operations()


def test_a_fit_in_a_query_replaces_the_mode_on_the_left() -> None:
    left = read({"resize": FIT})
    assert (left | query("w=9&h=9&fit=clip")) == query("w=9&h=9")
    assert (left | query("w=9&h=9&fit=contain")) == query("w=9&h=9&fit=contain")


def test_a_gravity_on_the_right_replaces_the_focus_on_the_left() -> None:
    left = read({"resize": {**FIT, "focus": [0, 0]}})
    right = read({"resize": {"gravity": "top"}})
    assert (left | right) == read({"resize": {**FIT, "gravity": "top"}})


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (
            {"resize": {"width": "abc"}},
            'resize.width takes a positive integer up to 4096, not "abc"',
        ),
        ({"resize": {"width": 4097}}, "resize.width takes a positive integer up to 4096, not 4097"),
        ({"resize": {"width": 0}}, "resize.width takes a positive integer up to 4096, not 0"),
        ({"resize": {"width": 1.5}}, "resize.width takes a positive integer up to 4096, not 1.5"),
        ({"resize": {"width": True}}, "resize.width takes a positive integer up to 4096, not True"),
        ({"resize": {"width": None}}, "resize.width takes a positive integer up to 4096, not None"),
        ({"resize": {"width": [1]}}, "resize.width takes a positive integer up to 4096, not [1]"),
        ({"resize": [1]}, "resize takes an object, not [1]"),
        ({"resize": None}, "resize takes an object, not None"),
        ([], "operations takes an object, not []"),
        ({"resize": {"mode": "fill", **BOX}}, 'one of auto, fit, exact, pad, not "fill"'),
        ({"resize": {"mode": ["fit"]}}, "not ['fit']"),
        ({"resize": {"mode": "fit", "width": 9}}, "resize.height takes a positive integer"),
        ({"resize": {"width": 9, "upscale": 1}}, "resize.upscale takes true or false, not 1"),
        ({"resize": {"focus": [0.5]}}, "resize.focus takes"),
        ({"resize": {"focus": {"x": 0, "y": 0}}}, "resize.focus takes"),
        ({"resize": {"focus": [0, 1.01]}}, "resize.focus takes"),
        ({"resize": {"gravity": "middle"}}, 'not "middle"'),
        ({"scale": {"size": 0}}, "scale.size takes a number above 0, not 0"),
        ({"scale": {"size": float("nan")}}, "scale.size takes a number above 0, not nan"),
        ({"scale": {"size": float("inf")}}, "scale.size takes a number above 0, not inf"),
        ({"scale": {"size": "inf"}}, 'scale.size takes a number above 0, not "inf"'),
        ({"scale": {"size": True}}, "scale.size takes a number above 0, not True"),
        ({"scale": {"size": 10**400}}, "scale.size takes a number above 0, not 1000"),
        ({"crop": {"mode": "ratio"}}, "crop.ratio takes a ratio"),
        ({"crop": {"mode": "ratio", "ratio": "0:1"}}, 'not "0:1"'),
        ({"crop": {"mode": "ratio", "ratio": 1.5}}, "not 1.5"),
        ({"crop": {"x": -1, **BOX}}, "crop.x takes an integer"),
        ({"crop": {"x": 1}}, "crop.width takes a positive integer"),
        ({"crop": {**BOX, "gravity": "face"}}, 'not "face"'),
        ({"output": {"quality": 101}}, "output.quality takes"),
        ({"output": {"background": 0}}, "output.background takes a colour"),
        ({"output": {"background": "reddish"}}, 'not "reddish"'),
        ({"shadow": {"size": 9}}, 'scale, super_resolution, text, watermark, not "shadow"'),
        ({"crop": {"mode": "face", "padding": 11}}, "crop.padding takes a number from 0 to 10"),
        ({"crop": {"mode": "smart"}}, "crop.width takes a positive integer in mode smart"),
        ({"super_resolution": {"factor": 5}}, "super_resolution.factor takes an integer from 2 to"),
        ({"super_resolution": {"factor": 1}}, "super_resolution.factor takes an integer from 2 to"),
        ({"super_resolution": {}}, "super_resolution.factor takes an integer from 2 to 4"),
        ({"rotate": {"angle": "left"}}, 'rotate.angle takes an angle in degrees, not "left"'),
        ({"rotate": {"angle": float("inf")}}, "rotate.angle takes an angle in degrees, not inf"),
        ({"flip": {"horizontal": 1}}, "flip.horizontal takes true or false, not 1"),
        ({"auto": {"enhance": "much"}}, 'auto.enhance takes true or false, not "much"'),
        ({"adjust": {"unsharp": -1}}, "adjust.unsharp takes a number from 0 to 100, not -1"),
        ({"adjust": {"hue": 181}}, "adjust.hue takes a number from -180 to 180, not 181"),
        ({"adjust": {"gamma": 0}}, "adjust.gamma takes a number from 0.1 to 10, not 0"),
        ({"filter": {"blur": 3}}, "filter.blur takes an object, not 3"),
        ({"filter": {"blur": {}}}, "filter.blur.value takes a number from 0.3 to 250"),
        ({"stylize": {"blur": {"value": 300}}}, "filter.blur.value takes a number from 0.3 to 250"),
        ({"filter": {"duotone": {"dark": "red"}}}, "filter.duotone.light takes a colour"),
        ({"filter": {}, "stylize": {}}, "operations takes either filter or stylize"),
        ({"watermark": {"padding": 3}}, "watermark.id takes the id of a registered watermark"),
        ({"watermark": {"id": "../logo"}}, 'not "../logo"'),
        ({"watermark": {"url": "file:///etc/passwd"}}, "watermark.url takes an http or https"),
        ({"watermark": {"id": "logo", "opacity": 1.1}}, "watermark.opacity takes a number from 0"),
        ({"text": {"text": "Hällo"}}, "text.text takes text in UTF-8 of 1 to 2000 characters"),
        ({"text": {"text": "/w=="}}, "as base64, not"),
        ({"text": {"text": "Cg=="}}, "as base64, not"),
        ({"text": {"size": 9}}, "text.text takes text in UTF-8"),
        ({"text": {"text": "SGk=", "font": "/a.ttf"}}, "text.font takes the name of a registered"),
        ({"mask": {"shape": "star"}}, 'mask.shape takes one of ellipse, rounded, not "star"'),
        ({"mask": {"shape": "rounded"}}, "mask.radius takes an integer"),
        ({"border": {"size": -1}}, "border.size takes an integer from 0 to 1024, not -1"),
        ({"padding": {"top": "much"}}, 'padding.top takes an integer from 0 to 4096, not "much"'),
        ({"detect": {"palette": 17}}, "detect.palette takes an integer from 0 to 16, not 17"),
        ({"output": {"metadata": "gps"}}, "output.metadata takes one of none, copyright, all"),
        ({"resize": {"widht": 9}}, 'not "widht"'),
        ({7: {}}, "not 7"),
    ],
)
def test_a_wrong_document_is_one_sentence(document: dict[str, object], sentence: str) -> None:
    with pytest.raises(OptionError) as caught:
        read(document)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.public_status == 422


def test_a_factor_that_is_none_is_refused_in_the_api_s_own_words() -> None:
    for wrong in ("abc", 0, -2, 1.5, None, True):
        with pytest.raises(OptionError) as caught:
            read({"super_resolution": {"factor": wrong}})
        sentence = "Super-resolution 'factor' parameter must be a positive integer"
        assert str(caught.value) == sentence


def test_a_document_written_and_read_again_means_the_same() -> None:
    document = {
        "crop": {"mode": "smart", **BOX},
        "super_resolution": {"factor": 3},
        "rotate": {"angle": 12.5, "background": "navy"},
        "filter": {"blur": {"value": 2}, "duotone": {"dark": "red", "light": "fff"}, "tint": "123"},
        "text": {"text": "w6QKCg==", "color": "lime"},
        "watermark": {"id": "logo", "tile": True, "size": 0.25},
        "mask": {"shape": "rounded", "radius": 9},
        "padding": {"size": 3, "top": 5},
        "detect": {"faces": True, "palette": 4, "placeholder": "thumbhash"},
        "output": {"format": "jp2", "metadata": "copyright", "profile": "keep"},
    }
    asked = read(document)
    assert read(asked.to_dict()) == asked
    assert read(json.loads(asked.canonical_json)) == asked
    assert asked.text is not None
    assert asked.text.text == "ä"


def test_sides_are_bounded_by_the_limits_given() -> None:
    with pytest.raises(OptionError, match="up to 100"):
        read({"resize": {"width": 101}}, limits=Limits(max_width=100))
    assert read({"resize": {"height": 101}}, limits=Limits(max_width=100))


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("w=400&h=300&fit=crop", {"resize": FIT}),
        ("?h=300&fit=cover&width=400", {"resize": FIT}),
        ("w=400", {"resize": {"width": 400}}),
        ("w=400&fit=inside", {"resize": {"width": 400}}),
        ("w=400&fit=contain", {"resize": {"width": 400, "upscale": True}}),
        ("w=400&fit=crop", {"resize": {"width": 400}}),
        ("w=400&fit=pad&bg=fff", {"resize": {"width": 400}}),
        ("fit=fill", {}),
        ("w=400&h=300&fit=squeeze", {"resize": {**BOX, "mode": "exact"}}),
        ("w=400&h=300&fit=pad&bg=%23F00", {"resize": {**PAD, "background": "red"}}),
        ("bg=red&fm=jpeg&q=80", {"output": {"background": "f00", "format": "jpg", "quality": 80}}),
        ("fm=auto", {}),
        ("w=400&h=300&fit=crop&crop=top,left", {"resize": {**FIT, "gravity": "top-left"}}),
        ("w=400&h=300&fit=crop&g=left%2Ctop", {"resize": {**FIT, "gravity": "top-left"}}),
        ("w=400&h=300&fit=crop&crop=top-left", {"resize": {**FIT, "gravity": "top-left"}}),
        ("w=400&h=300&fit=crop&crop=faces", {"resize": {**FIT, "gravity": "faces"}}),
        ("w=400&h=300&fit=crop&fp-x=0.2", {"resize": {**FIT, "focus": [0.2, 0.5]}}),
        ("w=400&crop=top", {"resize": {"width": 400}}),
        ("rect=0,0,10,20", {"crop": RECT}),
        ("w=9&v=1&s=x&exp=5&kid=a&dl=a.jpg&cb=2", {"resize": {"width": 9}}),
    ],
)
def test_a_query_is_another_spelling_of_a_document(text: str, document: dict[str, object]) -> None:
    assert query(text) == read(document)


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("w=400&dpr=2", (800, None)),
        ("w=333&h=111&dpr=1.5", (500, 167)),
        ("w=50&dpr=1.15", (58, None)),
        ("w=3000&h=1500&dpr=2", (4096, 2048)),
        ("w=4096&dpr=3", (4096, None)),
        ("w=1&h=4096&dpr=3", (1, 4096)),
        ("dpr=2", (None, None)),
    ],
)
def test_density_multiplies_both_sides_as_far_as_the_limits_allow(
    text: str, sides: tuple[int | None, int | None]
) -> None:
    resize = query(text).resize
    assert (resize and resize.width, resize and resize.height) == sides


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("w=abc", 'w takes a positive integer up to 4096, not "abc"'),
        ("width=abc", 'width takes a positive integer up to 4096, not "abc"'),
        ("w=", 'w takes a positive integer up to 4096, not ""'),
        ("w=4097&dpr=1", 'w takes a positive integer up to 4096, not "4097"'),
        ("w=٤", "w takes a positive integer up to 4096, not"),
        ("dpr=1_0e-1", "dpr takes a number from 1 to 3"),
        ("w=-1", 'w takes a positive integer up to 4096, not "-1"'),
        ("w=1&w=1", "w takes one value, not ['1', '1']"),
        ("w=1&width=2", "width takes one value, not ['1', '2']"),
        ("dpr=4", "dpr takes a number from 1 to 3"),
        ("dpr=nan", "dpr takes a number from 1 to 3"),
        ("fit=stretch", 'fit takes one of clip, contain, crop, pad, fill, not "stretch"'),
        ("crop=top,top,left,center", "crop takes one of"),
        ("rect=1,2,3", 'not "1,2,3"'),
        ("rect=0,0,0,5", 'not "0,0,0,5"'),
        ("q=0", "q takes an integer from 1 to 100"),
        ("fm=tiff", 'not "tiff"'),
        ("bg=reddish", "bg takes a colour"),
        ("wid=9", 'bg, crop, dpr, fit, fm, fp-x, fp-y, h, q, rect, w, not "wid"'),
    ],
)
def test_a_wrong_query_is_one_sentence_with_its_own_words(text: str, sentence: str) -> None:
    with pytest.raises(QueryError) as caught:
        query(text)
    assert sentence in str(caught.value)
    assert caught.value.public_status == 400


def test_without_aliases_only_canonical_names_count() -> None:
    asked = query("w=9&width=5&height=x&page=2&page=3&v=1&v=2", aliases=False)
    assert asked == read({"resize": {"width": 9}})
    with pytest.raises(QueryError, match="w takes a positive integer"):
        query("w=abc", aliases=False)
    with pytest.raises(QueryError, match="w takes one value"):
        query("w=1&w=2", aliases=False)


def test_decoded_pairs_do_as_well_as_text() -> None:
    assert query([("w", "400"), ("fit", "crop"), ("h", "300")]) == read({"resize": FIT})


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"resize": FIT, "output": {"format": "webp"}}, "fit=crop&fm=webp&h=300&w=400"),
        ({"resize": {**PAD, "background": "#f00"}}, "bg=ff0000&fit=pad&h=300&w=400"),
        ({"resize": {"width": 9, "upscale": True}}, "fit=contain&w=9"),
        ({"crop": RECT}, "rect=0%2C0%2C10%2C20"),
        ({"resize": {**FIT, "focus": [0.25, 1]}}, None),
        ({"output": {"background": "00000080", "quality": 5}}, "bg=00000080&q=5"),
        ({"optimize": {"compression": "medium"}}, ""),
    ],
)
def test_a_document_is_written_as_a_sorted_and_encoded_query(
    document: dict[str, object], text: str | None
) -> None:
    written = read(document).to_query()
    assert text in (None, written)
    assert query(written) == read(document)


@pytest.mark.parametrize(
    "document",
    [
        {"scale": {"size": 2}},
        {"optimize": {"compression": "low"}},
        {"output": {"lossless": True}},
        {"crop": {"mode": "ratio", "ratio": "1:1"}},
        {"crop": {"width": 5, "height": 5}},
        {"crop": {"x": 1, "width": 5, "height": 5}},
        {"resize": {**FIT, "upscale": False}},
        {"resize": {**PAD, "upscale": True}},
        {"resize": PAD, "output": {"background": "red"}},
        {"resize": {**PAD, "background": "red"}, "output": {"background": "blue"}},
    ],
)
def test_what_no_query_says_is_refused_and_never_dropped(document: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        read(document).to_query()


def optional(**options: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries({}, optional=options)


part = st.floats(0, 1)
side = st.integers(1, 4096)
corners = st.sampled_from(["top,left", "left,top", "top-left", "center", "faces", "smart"])
queries = optional(
    **{
        "w": side,
        "h": side,
        "fit": st.sampled_from(["clip", "contain", "crop", "pad", "fill", "cover", "squeeze"]),
        "crop": corners,
        "fp-x": part,
        "fp-y": part,
        "rect": st.sampled_from(["0,0,1,1", "5,6,700,800"]),
        "q": st.integers(1, 100),
        "fm": st.sampled_from(["auto", "jpg", "jpeg", "webp"]),
        "dpr": st.floats(1, 3),
        "bg": st.sampled_from(["red", "#f00", "ffffff", "0008", "transparent"]),
    }
)


@settings(derandomize=True, deadline=None, database=None)
@given(queries)
def test_a_query_written_and_read_again_means_the_same(options: dict[str, object]) -> None:
    asked = query([(name, str(value)) for name, value in options.items()])
    assert query(asked.to_query()) == asked
    assert query(asked.to_query()).to_query() == asked.to_query()
    assert read(asked.to_dict()) == asked == read(asked.canonical())
