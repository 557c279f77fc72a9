"""The API as the processor of a site: what it asks for, and how it lets the API rest."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from optidash_integrations import formats
from optidash_integrations.errors import (
    AnimatedImageError,
    ApiTimeoutError,
    BudgetExceededError,
    CircuitOpenError,
    ImageTooLargeError,
    InvalidOperationsError,
    OptionError,
    ProtocolError,
    RateLimitError,
    RejectedImageError,
    ServerError,
    UnsupportedImageError,
)
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.processors import ApiProcessor
from optidash_integrations.settings import Settings
from tests.api import faults
from tests.api.server import ApiServer
from tests.api.speakers import KEY, Time
from tests.sites.photos import photo

LIMITS = Limits()
NOTHING = Operations()
Make = Callable[..., tuple[ApiProcessor, Time]]


@pytest.fixture
def make(server: ApiServer, tmp_path: Path) -> Iterator[Make]:
    made: list[ApiProcessor] = []

    def processor(**settings: Any) -> tuple[ApiProcessor, Time]:
        time = Time()
        given = {"api_key": KEY, "api_url": server.url, "cache_dir": tmp_path, "timeout": 5}
        chosen = Settings(**given | settings)
        made.append(ApiProcessor(chosen, clock=time, monotonic=time, sleep=time.sleep))
        return made[-1], time

    yield processor
    for each in made:
        each.close()
    assert server.wait_closed()


def operations(**given: Any) -> Operations:
    return Operations.from_dict(given)


def asked(server: ApiServer) -> dict[str, Any]:
    body = server.seen[-1].body.decode("latin-1")
    found: dict[str, Any] = json.loads(body[body.index('name="data"') :].split("\r\n")[2])
    return found


def saved(picture: Image.Image, kind: str, **more: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **more)
    return file.getvalue()


def test_a_variant_comes_from_the_api(make: Make, server: ApiServer) -> None:
    processor, _ = make()
    variant = processor.process(photo(), operations(resize={"width": 40}), formats.WEBP, LIMITS)
    assert (variant.width, variant.content_type) == (40, "image/webp")
    assert Image.open(io.BytesIO(variant.content)).format == "WEBP"
    assert asked(server) == {
        "resize": {"width": 40, "upscale": False},  # the API's own default is to enlarge
        "output": {"format": "webp"},
        "response": {"mode": "binary"},
    }


def test_a_file_is_sent_from_its_path(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(photo())
    processor, _ = make()
    assert processor.process(path, NOTHING, None, LIMITS).content_type == "image/jpeg"


def test_a_result_is_kept_within_the_limits_on_its_size(make: Make, server: ApiServer) -> None:
    processor, _ = make()
    narrow = Limits(max_width=30, max_height=4096)
    variant = processor.process(photo(), NOTHING, None, narrow)
    assert variant.width == 30
    scaled = processor.process(photo(), operations(scale={"size": 3}), None, narrow)
    assert scaled.width == 30
    assert "scale" not in asked(server)


def test_what_is_no_image_or_too_large_is_not_even_sent(make: Make, server: ApiServer) -> None:
    processor, _ = make()
    with pytest.raises(UnsupportedImageError):
        processor.process(b"<html>", NOTHING, None, LIMITS)
    with pytest.raises(ImageTooLargeError):
        processor.process(photo(), NOTHING, None, Limits(max_pixels=10))
    outside = operations(crop={"x": 100_000, "width": 1, "height": 1})
    with pytest.raises(OptionError, match=r"crop\.x"):
        processor.process(photo(), outside, None, LIMITS)
    assert server.seen == []


def test_an_animation_is_not_flattened(make: Make, server: ApiServer) -> None:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "lime", "blue")]
    gif = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    processor, _ = make()
    with pytest.raises(AnimatedImageError):
        processor.process(gif, NOTHING, None, LIMITS)
    assert server.seen == []


def test_an_image_that_the_api_refuses_is_the_sources_fault(make: Make, server: ApiServer) -> None:
    processor, _ = make()
    server.fail(faults.status(415))
    with pytest.raises(RejectedImageError) as caught:
        processor.process(photo(), NOTHING, None, LIMITS)
    assert isinstance(caught.value, UnsupportedImageError)
    assert caught.value.public_status == 415


def test_a_result_of_another_format_is_no_result(make: Make) -> None:
    processor, _ = make()
    jpeg = processor.process(photo(), NOTHING, None, LIMITS)
    with pytest.raises(ProtocolError, match="WEBP was asked for, and JPEG came"):
        processor.checked(jpeg, formats.WEBP, LIMITS)


def test_an_api_that_does_not_write_avif_is_asked_for_it_once(
    make: Make, server: ApiServer
) -> None:
    processor, _ = make()
    assert "avif" in processor.formats
    server.fail(faults.status(422, "output.format must be one of gif, jpg, png, webp"))
    with pytest.raises(InvalidOperationsError):
        processor.process(photo(), NOTHING, formats.AVIF, LIMITS)
    assert processor.formats == {"gif", "jpg", "png", "webp"}


def test_the_hosted_api_is_asked_for_documented_formats_only() -> None:
    hosted = ApiProcessor(Settings(api_key=KEY, cache_dir=None))
    assert hosted.formats == {"gif", "jpg", "png", "webp"}
    hosted.close()


def test_each_api_has_a_revision_of_its_own(make: Make) -> None:
    one, other = make()[0], make(api_url="https://images.example/1.0")[0]
    assert one.revision != other.revision
    assert one.revision == make()[0].revision


def test_no_thread_sleeps_for_a_rate_limit(make: Make, server: ApiServer) -> None:
    processor, time = make()
    server.fail(faults.retry_after(20))
    with pytest.raises(RateLimitError):
        processor.process(photo(), NOTHING, None, LIMITS)
    for _ in range(3):
        with pytest.raises(CircuitOpenError, match="20 s"):
            processor.process(photo(), NOTHING, None, LIMITS)
    assert (time.waits, len(server.seen)) == ([], 1)
    time.now += 21
    assert processor.process(photo(), NOTHING, None, LIMITS).width


def test_nor_for_calls_that_get_short(make: Make, server: ApiServer) -> None:
    processor, time = make()
    server.rate = (1000, 9, 50)
    processor.process(photo(), NOTHING, None, LIMITS)
    processor.process(photo(), NOTHING, None, LIMITS)
    with pytest.raises(RateLimitError):
        processor.process(photo(), NOTHING, None, LIMITS)
    assert time.waits == []
    assert processor.stats()["circuit"] == "closed"


def test_after_five_failed_tries_the_api_is_left_alone_until_one_probe_succeeds(
    make: Make, server: ApiServer
) -> None:
    processor, time = make(retries=0)
    server.always = faults.status(500)
    for _ in range(5):
        with pytest.raises(ServerError):
            processor.process(photo(), NOTHING, None, LIMITS)
    with pytest.raises(CircuitOpenError, match="Something went wrong"):
        processor.process(photo(), NOTHING, None, LIMITS)
    assert len(server.seen) == 5
    stats = processor.stats()
    assert (stats["circuit"], stats["failures"], stats["left_alone_seconds"]) == ("open", 5, 30)
    time.now += 31
    assert processor.stats()["circuit"] == "half-open"
    with pytest.raises(ServerError):
        processor.process(photo(), NOTHING, None, LIMITS)
    time.now += 59
    with pytest.raises(CircuitOpenError):
        processor.process(photo(), NOTHING, None, LIMITS)
    server.always = None
    time.now += 2
    processor.process(photo(), NOTHING, None, LIMITS)
    processor.process(photo(), NOTHING, None, LIMITS)
    assert processor.stats()["circuit"] == "closed"


def test_while_one_call_tries_the_others_stay_away(make: Make, server: ApiServer) -> None:
    processor, time = make(retries=0, timeout=0.5)
    server.fail(faults.retry_after(5))
    with pytest.raises(RateLimitError):
        processor.process(photo(), NOTHING, None, LIMITS)
    time.now += 6
    server.fail(faults.stall_before_head())
    ended: list[Exception] = []

    def try_it() -> None:
        try:
            processor.process(photo(), NOTHING, None, LIMITS)
        except ApiTimeoutError as error:
            ended.append(error)

    probe = threading.Thread(target=try_it)
    probe.start()
    while len(server.seen) < 2 and probe.is_alive():
        probe.join(0.01)
    with pytest.raises(CircuitOpenError, match="one call tries"):
        processor.process(photo(), NOTHING, None, LIMITS)
    probe.join()
    assert (len(server.seen), len(ended)) == (2, 1)


def test_all_processes_of_a_host_see_the_same_circuit(make: Make, server: ApiServer) -> None:
    one, other = make()[0], make()[0]
    server.fail(faults.retry_after(20))
    with pytest.raises(RateLimitError):
        one.process(photo(), NOTHING, None, LIMITS)
    with pytest.raises(CircuitOpenError):
        other.process(photo(), NOTHING, None, LIMITS)
    assert other.stats()["circuit"] == "open"


def test_images_at_fault_do_not_open_the_circuit(make: Make, server: ApiServer) -> None:
    processor, _ = make()
    server.always = faults.status(422)
    for _ in range(9):
        with pytest.raises(InvalidOperationsError):
            processor.process(photo(), NOTHING, None, LIMITS)
    assert processor.stats()["circuit"] == "closed"


def test_past_the_budget_nothing_is_sent_and_the_stats_say_so(
    make: Make, server: ApiServer
) -> None:
    processor, _ = make(monthly_budget=1)
    processor.process(photo(), NOTHING, None, LIMITS)
    with pytest.raises(BudgetExceededError):
        processor.process(photo(), NOTHING, None, LIMITS)
    stats = processor.stats()
    assert (stats["calls_this_month"], stats["monthly_budget"], stats["circuit"]) == (
        1,
        1,
        "closed",
    )
    assert len(server.seen) == 1


def test_clearing_the_cache_leaves_the_count_alone(make: Make, tmp_path: Path) -> None:
    from optidash_integrations.cache.disk import DiskCache

    processor, _ = make(monthly_budget=1)
    processor.process(photo(), NOTHING, None, LIMITS)
    disk = DiskCache(tmp_path, 1_000_000)
    disk.clear()
    disk.close()
    with pytest.raises(BudgetExceededError):
        make(monthly_budget=1)[0].process(photo(), NOTHING, None, LIMITS)
