from __future__ import annotations

import pytest

from optidash_integrations.paths import Paths


@pytest.mark.parametrize(
    ("path", "raw", "expected"),
    [
        ("/static/a.jpg", "", True),
        ("/static/a/b.jpg", "/static/a/b.jpg", True),
        ("/logo.png", "", True),
        ("/media/a.jpg", "", False),
        ("/static", "", False),
        ("/static/../private/x.jpg", "", False),
        ("/static/./x.jpg", "", False),
        ("/static//x.jpg", "", False),
        ("/static/a\\b.jpg", "", False),
        ("/static/..%2fprivate/x.jpg", "", False),
        ("/static/a/private.jpg", "/static/a%2Fprivate.jpg", False),
        ("/static/a\x00.jpg", "", False),
        ("/static/a\n.jpg", "", False),
        ("/static/..", "", False),
        ("/static/a..b.jpg", "", True),
    ],
)
def test_an_ambiguous_path_is_in_no_set(path, raw, expected):
    assert Paths(["/static/", "*.png"]).has(path, raw) is expected


def test_no_patterns_make_an_empty_set():
    assert not Paths([])
    assert Paths(["/a/"])
