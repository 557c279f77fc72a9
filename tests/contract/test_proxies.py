"""nginx and Varnish in front of a site: each browser gets its format, and the cache hits."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.cache.servers import absent, free_port
from tests.conftest import MakeSite, sites_of
from tests.contract.test_servers import served
from tests.sites.base import Site
from tests.sites.inner import Route
from tests.sites.photos import CHROME, OLD, WEBP_ONLY, photo
from tests.sites.processor import HandProcessor

BROWSERS = {"image/avif": CHROME, "image/webp": WEBP_ONLY, "image/jpeg": OLD}
PROGRAMS = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"

NGINX = """\
daemon off;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_cache_path {folder}/cache keys_zone=images:1m;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {origin};
            proxy_set_header Host $http_host;
            proxy_cache images;
            add_header X-Cache $upstream_cache_status;
        }}
    }}
}}
"""

VARNISH = """\
vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{origin_port}"; }}
sub vcl_deliver {{
    set resp.http.X-Cache = "MISS";
    if (obj.hits > 0) {{ set resp.http.X-Cache = "HIT"; }}
}}
"""


def program(name: str) -> str:
    """Return where a server program lies, or skip."""
    found = shutil.which(name, path=PROGRAMS)
    if found is None:
        absent(name)
    return str(found)


@contextmanager
def running(command: list[str], port: int) -> Iterator[str]:
    """Run a server until the block is left, from when its port answers."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        for _ in range(400):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
                pytest.fail(f"{command[0]} did not start: {process.stdout.read().decode()}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=20)


@contextmanager
def nginx(origin: str, folder: Path) -> Iterator[str]:
    found, port = program("nginx"), free_port()
    folder.mkdir()
    folder.chmod(0o755)
    config = folder / "nginx.conf"
    user = "user root;\n" if os.getuid() == 0 else ""  # its workers must reach this folder
    config.write_text(user + NGINX.format(folder=folder, port=port, origin=origin))
    with running([found, "-e", "stderr", "-p", str(folder), "-c", str(config)], port) as base:
        yield base


@contextmanager
def varnish(origin: str, folder: Path) -> Iterator[str]:
    found, port = program("varnishd"), free_port()
    folder.mkdir()
    config = folder / "site.vcl"
    config.write_text(VARNISH.format(origin_port=origin.rpartition(":")[2]))
    options = ["-F", "-j", "none", "-a", f"127.0.0.1:{port}", "-s", "malloc,32m"]
    command = [found, *options, "-n", str(folder / "state"), "-f", str(config)]
    with running(command, port) as base:
        yield base


FRONTS = {"nginx": nginx, "varnish": varnish}


@pytest.fixture(params=FRONTS)
def open_front(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[Site], httpx.Client]]:
    """Give a function that puts a shared cache in front of a site."""
    with ExitStack() as stack:

        def open_one(site: Site) -> httpx.Client:
            origin = stack.enter_context(served(site))
            base = stack.enter_context(FRONTS[request.param](origin, tmp_path / "front"))
            client = httpx.Client(base_url=base, timeout=60, trust_env=False)
            return stack.enter_context(client)

        yield open_one


@pytest.fixture
def front(make_site: MakeSite, open_front: Callable[[Site], httpx.Client]) -> httpx.Client:
    """Give a client of a site with photos, through a shared cache."""
    return open_front(site_with_photos(make_site))


def site_with_photos(make_site: MakeSite) -> Site:
    tag = (("ETag", '"1"'),)
    routes = {f"/{n}.jpg": Route(photo(seed=n), headers=tag) for n in range(3)}
    site = make_site(routes, access="public")
    site.keep("photo.jpg", photo(seed=4))
    return site


def outcome(answer: httpx.Response) -> str:
    return answer.headers["x-cache"].partition(" ")[0]


EACH_KIND = sites_of("asgi", "flask", "django")[:3]


@pytest.mark.srv("SRV-45")
@pytest.mark.srv("SRV-52")
@pytest.mark.parametrize("make_site", EACH_KIND, indirect=True)
def test_each_browser_gets_its_format_and_the_cache_hits(
    make_site: MakeSite, open_front: Callable[[Site], httpx.Client]
) -> None:
    site = site_with_photos(make_site)
    client = open_front(site)
    targets = ("/0.jpg", f"{site.mount}photo.jpg", f"{site.mount}photo.jpg?w=60")
    bodies: dict[tuple[str, str], set[bytes]] = {}
    for turn in range(3):
        for kind, browser in BROWSERS.items():
            for target in targets:
                answer = client.get(target, headers=browser)
                assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
                assert outcome(answer) == ("HIT" if turn else "MISS"), (turn, kind, target)
                bodies.setdefault((kind, target), set()).add(answer.content)
    assert {len(each) for each in bodies.values()} == {1}
    asked_of_the_app = [seen.path for seen in site.inner.seen].count("/0.jpg")
    assert asked_of_the_app == len(BROWSERS)


@pytest.mark.parametrize("make_site", EACH_KIND[:1], indirect=True)
def test_the_cache_answers_conditions_and_parts(front: httpx.Client) -> None:
    whole = {kind: front.get("/1.jpg", headers=browser) for kind, browser in BROWSERS.items()}
    assert len({answer.headers["etag"] for answer in whole.values()}) == len(BROWSERS)
    for kind, browser in BROWSERS.items():
        tag = whole[kind].headers["etag"]
        same = front.get("/1.jpg", headers=browser | {"if-none-match": tag})
        assert (same.status_code, same.content) == (304, b"")
        part = front.get("/1.jpg", headers=browser | {"range": "bytes=3-9"})
        assert (part.status_code, part.content) == (206, whole[kind].content[3:10])
        other = next(a.headers["etag"] for k, a in whole.items() if k != kind)
        changed = front.get("/1.jpg", headers=browser | {"if-none-match": other})
        assert (changed.status_code, changed.headers["content-type"]) == (200, kind)


@pytest.mark.parametrize("make_site", EACH_KIND[:1], indirect=True)
def test_a_first_head_or_part_leaves_nothing_wrong_behind(front: httpx.Client) -> None:
    assert front.head("/2.jpg", headers=CHROME).status_code == 200
    part = front.get("/2.jpg", headers=CHROME | {"range": "bytes=0-3"})
    whole = front.get("/2.jpg", headers=CHROME)
    if part.status_code == 206:
        assert part.content == whole.content[:4]
    assert (whole.status_code, len(whole.content)) == (200, int(whole.headers["content-length"]))
    assert len(whole.content) > 200


@pytest.mark.parametrize("make_site", EACH_KIND[:1], indirect=True)
def test_what_is_private_is_not_kept(
    make_site: MakeSite, open_front: Callable[[Site], httpx.Client]
) -> None:
    site = site_with_photos(make_site)
    site.inner.routes["/mine.jpg"] = Route(photo(), headers=(("Cache-Control", "private"),))
    site.inner.routes["/set.jpg"] = Route(photo(), headers=(("Set-Cookie", "who=me"),))
    client = open_front(site)
    for _ in range(2):
        for target in ("/mine.jpg", "/set.jpg"):
            answer = client.get(target, headers=CHROME)
            assert (answer.content, outcome(answer)) == (photo(), "MISS")
        cookie = CHROME | {"cookie": "who=me"}
        assert client.get("/0.jpg", headers=cookie).headers["cache-control"].startswith("private")


def test_without_a_program_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-server is not installed"):
        program("no-such-server")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-server is not installed"):
        program("no-such-server")


INTERNAL = """\
        location /internal/ {{
            internal;
            alias {cache}/;
            etag off;
            add_header ETag $upstream_http_etag;
            add_header Vary $upstream_http_vary;
            add_header Cache-Status $upstream_http_cache_status;
            add_header X-Content-Type-Options nosniff;
        }}
    }}
}}
"""


@pytest.mark.parametrize("make_site", sites_of("django", "flask", "asgi")[:3], indirect=True)
def test_nginx_sends_large_variants_itself(
    make_site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = HandProcessor()
    processor.bytes = 300_000  # above what comes back from disk as bytes
    routes = {"/big.jpg": Route(photo(1200, 1600, quality=100), headers=(("ETag", '"1"'),))}
    site = make_site(routes, processor=processor, send_file="x-accel-redirect:/internal/")
    cache = site.service.settings.cache_dir
    whole = NGINX.rpartition("    }}\n}}\n")[0] + INTERNAL.replace("{cache}", str(cache))
    monkeypatch.setitem(globals(), "NGINX", whole)
    with served(site) as origin, nginx(origin, tmp_path / "front") as base:
        client = httpx.Client(base_url=base, timeout=60, trust_env=False, headers=CHROME)
        with client:
            made = client.get("/big.jpg")
            site.service.store.memory.clear()
            sent = client.get("/big.jpg", headers={"cookie": "a=1"})
            part = client.get("/big.jpg", headers={"range": "bytes=10-19", "cookie": "a=2"})
    assert made.status_code == sent.status_code == 200
    assert sent.content == made.content
    assert "x-accel-redirect" not in sent.headers
    for name in ("content-type", "etag", "vary", "x-content-type-options"):
        assert sent.headers[name] == made.headers[name], name
    assert (part.status_code, part.content) == (206, made.content[10:20])
