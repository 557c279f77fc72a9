"""Systems that are not Linux: without file locks, or with those that belong to a process.

Each is played by a child from which something is taken before our modules are imported.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]

WITHOUT_FCNTL = """
import sys
sys.modules["fcntl"] = None  # importing it fails, as on Windows
"""

WITH_LOCKS_OF_THE_PROCESS = """
import sys
sys.platform = "darwin"  # whose fcntl has the name of Linux' locks, for a struct of its own
"""

SERVED = """
import json, logging, threading
from pathlib import Path
from optidash_integrations.endpoint import Endpoint
from optidash_integrations.exchange import Request
from optidash_integrations.service import Service
from optidash_integrations.settings import Settings
from optidash_integrations.sources import Directory
from tests.sites.photos import photo
from tests.sites.processor import HandProcessor

logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
folder = Path(sys.argv[1])
(folder / "photo.jpg").write_bytes(photo())
settings = Settings(access="public", transforms="any", cache_dir=folder / "cache", workers=4,
                    deadline=None)
processor = HandProcessor(is_open=False)
services = [Service(settings, processor=processor) for _ in range(2)]
service = services[0]
endpoint = Endpoint(service, Directory(folder).find)
statuses = []

def ask(width):
    request = Request("GET", "/img/photo.jpg", f"w={width}&fm=webp", {"accept": "image/webp"})
    statuses.append(service.run(endpoint.answer(request, "photo.jpg")).status)

def ask_together(width, count):
    threads = [threading.Thread(target=ask, args=(width,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads

threads = ask_together(40, 8)
assert processor.started.wait(30)
while service.stats().coalesced < 7:
    pass
processor.gate.set()
for thread in threads:
    thread.join(30)
ask(50)
disk = service.store.lower[0].stats()
has_file = [s.workshop.leases.file is not None for s in services]
for s in services:
    s.close()
print(json.dumps([statuses, processor.calls, disk.entries > 2, has_file]))
"""

HOLDER = """
from pathlib import Path
from optidash_integrations.leases import LockFile
file = LockFile(Path(sys.argv[1]))
print(file.take(7), file.take(2**62), flush=True)
sys.stdin.readline()
"""

ASKER = """
from pathlib import Path
from optidash_integrations.leases import LockFile
file = LockFile(Path(sys.argv[1]))
print(file.take(7), file.take(2**62), file.take(8), file.complained)
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)


def served(program: str, folder: Path) -> tuple[list[Any], list[str]]:
    done = run(program + SERVED, str(folder))
    return json.loads(done.stdout), done.stderr.splitlines()


def test_without_file_locks_a_process_still_makes_a_variant_once_and_says_so_once(
    tmp_path: Path,
) -> None:
    (statuses, calls, is_kept, has_file), lines = served(WITHOUT_FCNTL, tmp_path)
    assert statuses == [200] * 9
    assert calls == 2, "one for each width, however many ask"
    assert is_kept
    assert has_file == [False, False]
    said = "this system can't lock parts of files; each process makes its own variants"
    assert lines == [f"optidash_integrations.leases: {said}"]


def test_with_locks_of_the_process_a_variant_is_made_once_and_nothing_is_said(
    tmp_path: Path,
) -> None:
    pytest.importorskip("fcntl")
    told, lines = served(WITH_LOCKS_OF_THE_PROCESS, tmp_path)
    assert told == [[200] * 9, 2, True, [True, True]]
    assert lines == []


@pytest.mark.parametrize("holder", ["", WITH_LOCKS_OF_THE_PROCESS])
def test_locks_of_the_process_hold_against_other_processes_until_it_dies(
    tmp_path: Path, holder: str
) -> None:
    pytest.importorskip("fcntl")
    path = str(tmp_path / "locks")
    command = [sys.executable, "-c", "import sys\n" + holder + HOLDER, path]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "True True\n"
        asked = run(WITH_LOCKS_OF_THE_PROCESS + ASKER, path).stdout
        assert asked == "False False True False\n"
        child.kill()
    assert run(WITH_LOCKS_OF_THE_PROCESS + ASKER, path).stdout == "True True True False\n"


def test_the_struct_of_linux_is_used_on_linux_only(tmp_path: Path) -> None:
    """Locks of the process are told by this: it may take its own again through another file."""
    pytest.importorskip("fcntl")
    twice = """
from pathlib import Path
from optidash_integrations.leases import LockFile
files = [LockFile(Path(sys.argv[1])) for _ in range(2)]
print([file.take(7) for file in files])
"""
    path = str(tmp_path / "locks")
    assert run(WITH_LOCKS_OF_THE_PROCESS + twice, path).stdout == "[True, True]\n"
    if sys.platform == "linux":
        assert run("import sys\n" + twice, path).stdout == "[True, False]\n"
