from __future__ import annotations

import pytest

from optidash_integrations.formats import AVIF, GIF, JPEG, PNG, TIFF, WEBP
from optidash_integrations.negotiation import accepted, chosen_format, may_keep

CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
CHROME_156 = "image/jxl," + CHROME
WEBP_ONLY = "image/webp,*/*"
OLD = "image/png,image/*;q=0.8,*/*;q=0.5"
BOTH = (AVIF, WEBP)


@pytest.mark.parametrize(
    ("accept", "offered", "own", "expected"),
    [
        (CHROME, BOTH, JPEG, AVIF),
        (CHROME_156, BOTH, JPEG, AVIF),
        (CHROME, (WEBP, AVIF), JPEG, WEBP),
        (CHROME, (), JPEG, JPEG),
        (WEBP_ONLY, BOTH, JPEG, WEBP),
        (WEBP_ONLY, (AVIF,), JPEG, JPEG),
        (OLD, BOTH, JPEG, JPEG),
        (OLD, BOTH, PNG, PNG),
        ("image/*", BOTH, JPEG, JPEG),
        ("*/*", BOTH, GIF, GIF),
        ("image/avif;q=0,image/webp", BOTH, JPEG, WEBP),
        ("image/avif;q=0,image/webp;q=0,*/*", BOTH, JPEG, JPEG),
        ("image/avif;q=0.5,image/webp;q=0.9", BOTH, JPEG, WEBP),
        ("image/avif;q=0.2,image/*;q=0.8", BOTH, JPEG, JPEG),
        ("IMAGE/WEBP ; Q=1.0", BOTH, JPEG, WEBP),
        ("image/webp;q=nonsense,image/*", BOTH, JPEG, JPEG),
        ("image/webp;q=7,image/*", BOTH, JPEG, JPEG),
    ],
)
def test_the_most_welcome_format_wins_and_the_sites_order_breaks_ties(
    accept, offered, own, expected
):
    assert chosen_format(accepted(accept), offered, own) is expected


@pytest.mark.parametrize("accept", [None, "", "garbage", ";;;,", "text/html", "image", "x" * 3000])
@pytest.mark.parametrize("own", [JPEG, PNG, WEBP, AVIF, TIFF])
def test_a_missing_or_unusable_accept_gets_the_sources_own_format(accept, own):
    assert chosen_format(accepted(accept), BOTH, own) is own


@pytest.mark.parametrize("own", [WEBP, AVIF, TIFF])
@pytest.mark.parametrize(("alpha", "expected"), [(False, JPEG), (True, PNG)])
def test_an_old_browser_gets_jpeg_or_png_for_a_format_it_does_not_know(own, alpha, expected):
    assert chosen_format(accepted(OLD), BOTH, own, alpha=alpha) is expected


def test_when_nothing_is_acceptable_the_format_that_every_browser_shows_is_sent():
    assert chosen_format(accepted("image/webp;q=0"), BOTH, JPEG) is JPEG


def test_the_sources_own_modern_format_is_kept_for_browsers_that_name_it():
    assert chosen_format(accepted(WEBP_ONLY), (AVIF,), WEBP) is WEBP


def test_a_repeated_range_counts_with_its_highest_weight():
    accept = accepted("image/webp;q=0.1,image/webp;q=0.9,*/*;q=0.5")
    assert chosen_format(accept, BOTH, JPEG) is WEBP


@pytest.mark.parametrize(
    ("own", "output", "expected"),
    [(JPEG, AVIF, True), (WEBP, AVIF, True), (AVIF, WEBP, False), (TIFF, JPEG, False)],
)
def test_a_source_stands_in_only_for_browsers_that_show_it(own, output, expected):
    assert may_keep(own, output) is expected
