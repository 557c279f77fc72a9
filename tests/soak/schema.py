"""Requests made from the server's own OpenAPI document, right and wrong ones, for as long as asked.

    python -m tests.soak.schema --seconds 300

schemathesis makes them, this program starts the server and a host of pictures. It ends with 1
where an answer was 5xx or was not as the document says, where the server logged an error, left
files of its work, or is not ready in the end. What failed is printed with a line of curl; the log
of the server is kept in build/schema.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies

from tests.origin import Origin
from tests.sites.photos import photo
from tests.soak.serving import ROOT, serving

FOLDER = ROOT / "build" / "schema"
ADDRESS = "OPTIDASH_TESTS_ORIGIN"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)

# Refused in any case: other schemes, other machines' insides, ports that nobody listens on.
ELSEWHERE = (
    "http://127.0.0.1:1/photo.jpg",
    "http://169.254.169.254/latest/meta-data",
    "http://[::1]/photo.jpg",
    "http://[::ffff:10.0.0.1]/photo.jpg",
    "file:///etc/passwd",
    "ftp://127.0.0.1/photo.jpg",
    "http://user:word@10.0.0.1:80/photo.jpg",
)


def register() -> None:
    """Tell schemathesis what pictures and addresses are; it imports this module for that."""
    whole = photo()
    pictures = strategies.sampled_from([whole, whole[:700], photo(1, 1), b"", b"GIF89a", b"<svg/>"])
    schemathesis.openapi.format("binary", pictures | strategies.binary(max_size=300))
    own = os.environ[ADDRESS]
    schemathesis.openapi.format("uri", strategies.sampled_from((own, own, *ELSEWHERE)))
    schemathesis.hook("after_call")(unfolded)


def unfolded(context: Any, case: Any, response: Any) -> None:
    """Put the document of a failed binary answer where the checks look: its body is empty."""
    told = response.headers.get("x-optidash-metadata")
    if told and response.status_code >= 400 and not response.content:
        response.content = told[0].encode()
        response.headers["content-type"] = ["application/json"]


def run(seconds: float) -> int:
    """Let schemathesis work; return its exit code, or 1 where the server did not stay the same."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    arguments = ["--allow-host", "127.0.0.1", "--rate-limit", "10000000/minute"]
    with Origin() as origin, serving(FOLDER, *arguments) as server:
        origin.routes["/photo.jpg"] = lambda headers: (200, {}, photo())
        address = f"http://127.0.0.1:{origin.port}/photo.jpg"
        code = subprocess.run(
            command(server.url, server.secret, seconds),
            cwd=ROOT,
            env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.soak.schema", ADDRESS: address},
            check=False,
        ).returncode
        left = server.left_behind()
        healthy = server.is_ready()
        errors = [line for line in server.log.read_text().splitlines() if " ERROR " in line]
    print(f"Nothing left behind: {not left}. Ready: {healthy}. Errors in the log: {len(errors)}")
    for line in errors[:5]:
        print(line[:300])
    return code or bool(left or errors or not healthy)


def command(url: str, secret: str, seconds: float) -> list[str]:
    program = Path(sys.executable).with_name("schemathesis")
    return [
        str(program),
        "run",
        f"{url}/openapi.json",
        f"--header=Authorization: Bearer {secret}",
        f"--max-time={max(1, round(seconds))}",
        f"--checks={','.join(CHECKS)}",
        "--phases=examples,coverage,fuzzing",
        "--workers=2",
        "--request-timeout=30",
        "--continue-on-failure",
        "--suppress-health-check=all",
        "--warnings=off",
        "--no-color",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.schema")
    parser.add_argument("--seconds", type=float, default=300)
    return int(run(parser.parse_args().seconds))


if __name__ == "__main__":
    sys.exit(main())
elif ADDRESS in os.environ:
    register()
