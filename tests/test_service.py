"""The service without any framework: flows driven by hand, a processor that does as it is told."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from optidash_integrations.cache.memory import MemoryCache
from optidash_integrations.errors import BrokenImageError, OptionError, ProcessorError
from optidash_integrations.exchange import INNER, Answer, Head, Request, Verdict
from optidash_integrations.formats import AVIF, BY_NAME, JPEG
from optidash_integrations.probes import Probe
from optidash_integrations.service import Service, service_for
from optidash_integrations.settings import Settings
from optidash_integrations.store import Store
from optidash_integrations.variants import Variant

CHROME = "image/avif,image/webp,image/*,*/*;q=0.8"
PHOTO = b"\xff\xd8\xff" + bytes(1000)
HEAD = [("content-type", "image/jpeg"), ("etag", '"app-1"'), ("content-length", str(len(PHOTO)))]


class Recorder:
    """A processor that counts, waits to be let on, and fails when told to."""

    revision = "recorder-1"
    formats = frozenset({"jpg", "png", "webp", "avif"})
    reads = frozenset({"jpg", "png", "webp", "avif", "gif"})

    def __init__(self):
        self.calls = 0
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.error = None
        self.size = 100

    def probe(self, source, limits):
        data = source.read_bytes() if isinstance(source, Path) else source
        if not data.startswith(b"\xff\xd8"):
            raise BrokenImageError("not a JPEG")
        return Probe(JPEG, 40, 30, bytes=len(data))

    def process(self, source, operations, output, limits):
        self.calls += 1
        self.begun.set()
        assert self.gate.wait(20)
        if self.error:
            raise self.error
        width = operations.resize.width if operations.resize else 40
        return Variant(bytes(self.size), BY_NAME[output.name].media_type, width, 30)


class Clock:
    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now


class Site:
    """An app that answers with one image, behind the service."""

    def __init__(self, **settings):
        self.processor, self.clock = Recorder(), Clock()
        given = {"cache_dir": None, "workers": 2, "public_paths": ["/public/"]} | settings
        self.service = Service(
            Settings(**given),
            processor=self.processor,
            store=Store(MemoryCache(10_000_000)),
            clock=self.clock,
            monotonic=self.clock,
        )
        self.asked = 0
        self.read = 0

    def get(self, path="/media/a.jpg", head=HEAD, body=PHOTO, status=200, method="GET", **headers):
        named = {"accept": CHROME} | {n.replace("_", "-"): v for n, v in headers.items()}
        request = Request(method, path.partition("?")[0], path.partition("?")[2], named)
        interception = self.service.intercept(request)
        try:
            if interception.public:
                early = self.service.run(interception.early())
                if early is not None:
                    return early
            self.asked += 1
            inner = Head(status, head)
            if not interception.considers(inner) or not interception.fits(len(body)):
                return Verdict.PASS
            verdict = self.service.run(interception.from_head(inner, len(body)))
            if verdict is Verdict.BODY:
                self.read += 1
                verdict = self.service.run(interception.from_body(inner, body))
            return verdict
        finally:
            interception.close()


@pytest.fixture
def site():
    made = Site()
    yield made
    made.processor.gate.set()
    made.service.close()


def said(answer: Answer, name: str) -> str | None:
    return dict(answer.headers).get(name)


def test_a_hit_needs_no_body_of_the_app_when_its_validator_tells_the_bytes(site):
    first, second = site.get(), site.get()
    assert said(first, "cache-status") == "optidash; fwd=uri-miss; stored"
    assert said(second, "cache-status") == "optidash; hit"
    assert (site.read, site.processor.calls) == (1, 1)
    assert first.body == second.body
    assert said(first, "etag") == said(second, "etag")


def test_the_same_picture_under_another_name_is_not_worked_on_again(site):
    site.get("/media/a.jpg")
    site.get("/media/b.jpg?junk=1")
    assert site.processor.calls == 1


def test_a_weak_or_fresh_date_alone_is_no_validator(site):
    fresh = [("content-type", "image/jpeg"), ("last-modified", "Fri, 15 Jan 2027 08:00:00 GMT")]
    site.clock.now = 1_800_000_001.0
    site.get(head=fresh)
    site.get(head=fresh)
    assert (site.read, site.processor.calls) == (2, 1)
    site.clock.now += 10
    site.get(head=fresh)
    site.get(head=fresh)
    assert site.read == 3


def test_callers_of_one_variant_share_one_encode(site):
    site.processor.gate.clear()
    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(site.get) for _ in range(4)]
        assert site.processor.begun.wait(10)
        site.processor.gate.set()
        bodies = {answer.result(20).body for answer in answers}
    assert (site.processor.calls, len(bodies)) == (1, 1)


def test_past_the_deadline_the_original_goes_out_and_the_variant_to_the_next():
    site = Site(deadline=0.02)
    site.processor.gate.clear()
    first = site.get()
    assert (first.status, first.body) == (200, PHOTO)
    assert said(first, "cache-control") == "public, max-age=60"
    assert said(first, "last-modified") is None
    assert said(first, "vary") == "Accept"
    assert 'detail="not ready within' in said(first, "cache-status")
    site.processor.gate.set()
    [job] = list(site.service.workshop.jobs.values())
    job.future.result(10)
    again = site.get(if_none_match=said(first, "etag"))
    assert (again.status, said(again, "cache-status")) == (200, "optidash; hit")
    assert site.processor.calls == 1


def test_a_deadline_of_nothing_never_waits():
    site = Site(deadline=0)
    assert site.get().body == PHOTO


def test_one_caller_who_gives_up_cancels_nobody(site):
    site.processor.gate.clear()
    with ThreadPoolExecutor(2) as threads:
        patient = threads.submit(site.get)
        assert site.processor.begun.wait(10)
        hasty = Site(deadline=0.01)
        hasty.service.workshop = site.service.workshop
        hasty.service.store = site.service.store
        assert hasty.get().body == PHOTO
        site.processor.gate.set()
        assert patient.result(20).body == bytes(100)


def test_at_most_four_threads_wait_at_a_time(site):
    site.processor.gate.clear()
    with ThreadPoolExecutor(5) as threads:
        answers = [threads.submit(site.get) for _ in range(5)]
        fifth = next(a for a in iter(lambda: [a for a in answers if a.done()], None) if a)[0]
        assert fifth.result().body == PHOTO
        site.processor.gate.set()
        assert sum(a.result(20).body == bytes(100) for a in answers) == 4


def test_a_failing_processor_is_left_alone_for_half_a_minute_then_for_a_minute(site):
    site.processor.error = ProcessorError("out of luck")
    for _ in range(3):
        assert site.get().body in (PHOTO, INNER)
    assert site.processor.calls == 1
    site.clock.now += 31
    site.get()
    assert site.processor.calls == 2
    site.clock.now += 31
    site.get()
    assert site.processor.calls == 2
    site.clock.now += 30
    site.get()
    assert site.processor.calls == 3


def test_an_unexpected_exception_of_a_processor_gives_the_original(site):
    site.processor.error = ZeroDivisionError("surprise")
    assert site.get().body == PHOTO


def test_what_the_source_is_to_blame_for_is_not_tried_again(site):
    site.processor.error = BrokenImageError("damaged")
    assert [site.get() for _ in range(3)] == [Verdict.PASS] * 3
    assert (site.processor.calls, site.read) == (1, 1)


def test_what_is_no_image_is_passed_on_and_not_read_again(site):
    assert [site.get(body=b"GIF?") for _ in range(2)] == [Verdict.PASS] * 2
    assert site.read == 1


def test_a_variant_that_is_not_smaller_leaves_the_source_and_the_decision_is_kept(site):
    site.processor.size = len(PHOTO) + 1
    first, second = site.get(), site.get()
    assert (first.body, second.body) == (PHOTO, INNER)
    assert said(second, "cache-status") == 'optidash; hit; detail="the source is smaller"'
    assert said(second, "content-type") == "image/jpeg"
    assert said(second, "etag") == said(first, "etag")
    assert (site.processor.calls, site.read) == (1, 1)


def test_a_resized_variant_is_used_even_when_it_is_larger(site):
    site.processor.size = len(PHOTO) + 1
    assert len(site.get("/media/a.jpg?w=20").body) == len(PHOTO) + 1


@pytest.mark.parametrize(
    "extra",
    [
        ("set-cookie", "a=b"),
        ("cache-control", "private"),
        ("cache-control", "no-store"),
        ("cache-control", "max-age=60, no-transform"),
        ("vary", "*"),
        ("content-encoding", "gzip"),
        ("content-disposition", 'attachment; filename="a.jpg"'),
        ("x-accel-redirect", "/a.jpg"),
        ("etag", '"od-ours"'),
    ],
)
def test_private_and_special_answers_are_not_touched(site, extra):
    head = [h for h in HEAD if h[0] != extra[0]]
    assert site.get(head=[*head, extra]) is Verdict.PASS


def test_an_answer_to_a_request_with_authorization_is_not_touched(site):
    assert site.get(authorization="Bearer x") is Verdict.PASS


def test_a_visitor_with_a_cookie_gets_an_answer_for_himself_alone(site):
    assert said(site.get(cookie="a=b"), "cache-control") == "private, max-age=300"
    assert said(site.get(), "cache-control").startswith("public, max-age=3600")


def test_the_apps_cache_control_is_never_widened(site):
    head = [*HEAD, ("cache-control", "max-age=10")]
    assert said(site.get(head=head), "cache-control") == "max-age=10"
    assert said(site.get(head=[*HEAD, ("expires", "0")]), "cache-control") is None


def test_under_a_public_path_a_hit_does_not_ask_the_app(site):
    first = site.get("/public/a.jpg")
    again = site.get("/public/a.jpg")
    assert site.asked == 1
    assert again.body == first.body
    site.clock.now += 61
    site.get("/public/a.jpg")
    assert site.asked == 2


@pytest.mark.parametrize("status", [403, 404])
def test_a_public_image_that_is_taken_away_is_forgotten(site, status):
    site.get("/public/a.jpg")
    site.clock.now += 61
    assert site.get("/public/a.jpg", status=status) is Verdict.PASS
    assert site.get("/public/a.jpg", status=status) is Verdict.PASS
    assert site.asked == 3


def test_while_one_request_asks_the_app_anew_the_others_still_get_the_image(site):
    site.get("/public/a.jpg")
    site.clock.now += 61
    interception = site.service.intercept(Request("GET", "/public/a.jpg", "", {"accept": CHROME}))
    assert site.service.run(interception.early()) is None
    assert site.get("/public/a.jpg").body == bytes(100)
    assert site.asked == 1


def test_no_cookie_of_a_public_answer_is_sent_on(site):
    answer = site.get("/public/a.jpg", head=[*HEAD, ("set-cookie", "a=b")])
    assert said(answer, "set-cookie") is None


def test_a_public_image_is_handed_to_another_origin_only_as_its_app_did(site):
    site.get("/public/a.jpg")
    site.get("/public/a.jpg", origin="https://other.example")
    assert site.asked == 2
    site.get("/public/b.jpg", head=[*HEAD, ("access-control-allow-origin", "*")])
    answer = site.get("/public/b.jpg", origin="https://other.example")
    assert site.asked == 3
    assert said(answer, "access-control-allow-origin") == "*"


def test_head_without_a_variant_starts_no_work_and_promises_no_length(site):
    answer = site.get(method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert said(answer, "content-length") is None
    assert site.processor.calls == 0
    site.get()
    assert said(site.get(method="HEAD"), "content-length") == "100"


def test_bodies_past_the_shared_budget_stream_through():
    site = Site(max_input_bytes=len(PHOTO) + 100)
    site.service.hold(4 * len(PHOTO))
    answer = site.get()
    assert answer.body is INNER
    assert said(answer, "cache-control") == "public, max-age=60"


def test_what_was_held_is_given_back_however_it_ends(site):
    site.get()
    site.processor.error = ProcessorError("no")
    site.get("/media/a.jpg?w=20")
    site.get(body=b"junk", head=[("content-type", "image/jpeg")])
    assert site.service.held == 0


def test_wrong_options_are_no_error_and_logged_once(site, caplog):
    for _ in range(3):
        answer = site.get("/media/a.jpg?w=wide")
        assert answer.status == 200
        assert 'detail="w takes a positive integer up to 4096' in said(answer, "cache-status")
    assert caplog.text.count("w takes") == 1


def test_an_alias_does_not_count_on_an_intercepted_address(site):
    site.get("/media/a.jpg?width=20")
    site.get("/media/a.jpg")
    assert site.processor.calls == 1


def test_errors_surface_where_the_site_asks_for_it():
    site = Site(on_error="raise")
    site.processor.error = ProcessorError("no")
    with pytest.raises(ProcessorError):
        site.get()


def test_equal_settings_share_one_service():
    settings = {"cache_dir": None, "max_width": 777}
    assert service_for(Settings(**settings)) is service_for(Settings(**settings))
    assert service_for(Settings(**settings)) is not service_for(Settings(cache_dir=None))


def picture() -> bytes:
    out = BytesIO()
    Image.effect_noise((400, 300), 40).convert("RGB").save(out, "JPEG", quality=95)
    return out.getvalue()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(("warm", "expected"), [(False, b"avif"), (True, b"original")])
def test_a_child_that_was_forked_too_late_serves_originals(tmp_path: Path, warm, expected):
    """The whole story in a process of its own: libvips must not start in this one."""
    import subprocess
    import sys

    (tmp_path / "a.jpg").write_bytes(picture())
    script = FORKED.format(warm=warm, folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)
    assert done.stdout.strip() == expected, done.stderr.decode()


FORKED = """
import os, warnings
from pathlib import Path
from optidash_integrations.endpoint import Endpoint
from optidash_integrations.exchange import Request
from optidash_integrations.service import Service
from optidash_integrations.settings import Settings
from optidash_integrations.sources import Directory

warnings.simplefilter("ignore")
folder = Path({folder!r})
service = Service(Settings(cache_dir=None, deadline=10))
endpoint = Endpoint(service, Directory(folder).find)

def kind():
    request = Request("GET", "/img/a.jpg", "", {{"accept": "image/avif"}})
    answer = service.run(endpoint.answer(request, "a.jpg"))
    types = dict(answer.headers)["content-type"]
    return "avif" if types == "image/avif" else "original"

if {warm}:
    kind()
    service.store.tiers.clear()
child = os.fork()
if not child:
    print(kind(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def test_the_format_of_a_negotiated_key_is_part_of_its_tag(site):
    avif = site.get()
    jpeg = site.get(accept="image/jpeg")
    assert said(avif, "content-type") == AVIF.media_type
    assert said(avif, "etag") != said(jpeg, "etag")


@pytest.mark.parametrize(
    ("status", "head"),
    [
        (302, [("location", "/login")]),
        (200, [*HEAD, ("cache-control", "private")]),
        (200, [("content-type", "text/html")]),
    ],
)
def test_what_the_app_takes_back_nobody_gets_any_more(site, status, head):
    site.get("/public/a.jpg")
    site.clock.now += 61
    assert site.get("/public/a.jpg", head=head, status=status) is Verdict.PASS
    assert site.get("/public/a.jpg", head=head, status=status) is Verdict.PASS
    assert site.asked == 3


def test_an_app_in_trouble_takes_nothing_back(site):
    site.get("/public/a.jpg")
    site.clock.now += 61
    assert site.get("/public/a.jpg", status=503) is Verdict.PASS
    assert site.get("/public/a.jpg").body == bytes(100)


def test_another_length_under_the_same_validator_is_another_picture(site):
    site.get()
    longer = PHOTO + b"more"
    head = [h for h in HEAD if h[0] != "content-length"]
    site.get(head=head, body=longer)
    assert (site.read, site.processor.calls) == (2, 2)


def test_a_question_mark_in_a_path_is_not_the_one_before_the_query(site):
    first = Request("GET", "/public/i?x.jpg", "", {"accept": CHROME})
    second = Request("GET", "/public/i", "x.jpg?", {"accept": CHROME})
    names = {site.service.intercept(request).name for request in (first, second)}
    assert len(names) == 2


def test_options_that_do_not_fit_the_image_are_left_out(site):
    site.processor.error = OptionError("rect", "a place in the picture", "900,0,1,1")
    plain = Site()
    process = site.processor.process

    def picky(source, operations, output, limits):
        if operations.crop is None:
            return plain.processor.process(source, operations, output, limits)
        return process(source, operations, output, limits)

    site.processor.process = picky
    answer = site.get("/media/a.jpg?rect=900,0,1,1")
    assert answer.body == bytes(100)
    assert 'detail="rect takes a place' in said(answer, "cache-status")


def test_a_cookie_is_taken_off_what_our_own_endpoint_lets_everybody_store(site):
    ours = [("content-type", "image/avif"), ("etag", '"od-abc"'), ("set-cookie", "session=1")]
    answer = site.get("/img/a.jpg", head=ours)
    assert (answer.status, answer.body) == (200, INNER)
    assert answer.headers == ours[:2]


def test_a_file_that_changes_while_it_waits_is_not_taken_for_what_it_was(tmp_path):
    """What was hashed is what is worked on, or nothing is stored."""
    path = tmp_path / "a.jpg"
    path.write_bytes(PHOTO)
    site = Site()
    site.processor.gate.clear()
    with ThreadPoolExecutor(1) as threads:
        blockers = [site.service.workshop.pool.submit(site.processor.gate.wait) for _ in range(2)]
        interception = site.service.intercept(Request("GET", "/m/a.jpg", "", {"accept": CHROME}))
        flow = interception.from_body(Head(200, HEAD), path)
        answer = threads.submit(site.service.run, flow)
        while not site.service.workshop.jobs and not answer.done():
            pass
        path.write_bytes(PHOTO[:-1] + b"!")
        site.processor.gate.set()
        assert answer.result(20) is Verdict.PASS
    assert (site.processor.calls, len(blockers)) == (0, 2)
    assert site.service.store.memory.stats().entries == 1  # the record, and no variant


def test_an_alias_is_no_part_of_a_signature_on_an_intercepted_address():
    site = Site(signing_keys=["key"], transforms="none")
    signature = site.service.access.signer.signature("/media/a.jpg", [("h", "30"), ("w", "20")])
    answer = site.get(f"/media/a.jpg?w=20&h=30&s={signature}")
    assert site.processor.calls == 1
    renamed = site.get(f"/media/a.jpg?w=20&height=30&s={signature}")
    assert said(renamed, "etag") != said(answer, "etag")


@pytest.mark.parametrize("transforms", ["none", "allowlist"])
def test_what_a_signature_made_is_not_for_addresses_without_one(transforms):
    site = Site(signing_keys=["key"], transforms=transforms)
    signer = site.service.access.signer
    signed = signer.signed("/media/a.jpg", [("w", "21")]).partition("?")[2]
    exact = site.get(f"/media/a.jpg?{signed}")
    plain = site.get("/media/a.jpg?w=21")
    assert said(plain, "etag") != said(exact, "etag")


def test_past_the_bound_what_is_stored_is_still_served_exactly_and_the_rest_is_snapped():
    site = Site(variants_per_source=1)
    first = site.get("/media/a.jpg?w=21")
    snapped = site.get("/media/a.jpg?w=22")
    assert "transforms setting" in said(snapped, "cache-status")
    assert said(site.get("/media/a.jpg?w=21"), "etag") == said(first, "etag")


@pytest.mark.parametrize("body", [b"", PHOTO * 1000])
def test_a_public_image_that_became_none_to_work_on_is_forgotten(body):
    site = Site(max_input_bytes=len(PHOTO))
    site.get("/public/a.jpg")
    site.clock.now += 61
    head = [("content-type", "image/jpeg"), ("etag", '"app-2"')]
    assert site.get("/public/a.jpg", head=head, body=body) is Verdict.PASS
    site.get("/public/a.jpg", head=head, body=body)
    assert site.asked == 3


@pytest.mark.parametrize("status", [200, 206, 304, 416])
def test_no_answer_of_the_endpoint_keeps_a_cookie(site, status):
    ours = [("cache-status", "optidash; hit"), ("set-cookie", "session=1")]
    answer = site.get("/img/a.jpg", head=ours, body=b"", status=status)
    assert (answer.status, answer.headers) == (status, ours[:1])


def test_no_log_line_holds_a_control_character(site, caplog):
    site.processor.error = ProcessorError("no")
    site.get("/media/a.jpg?w=20")
    site.get("/media/b.jpg", body=b"junk", head=[("content-type", "image/jpeg")])
    assert caplog.messages
    assert all(message.isprintable() for message in caplog.messages)


@pytest.mark.parametrize("query", ["", "?w=20"])
def test_a_processor_that_refuses_every_option_is_asked_no_more_than_twice(site, query):
    site.processor.error = OptionError("output.format", "one of jpg, png", "avif")
    answer = site.get(f"/media/a.jpg{query}")
    assert answer.body == PHOTO
    assert site.processor.calls <= 2
