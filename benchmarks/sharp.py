"""sharp, the image library of Node, in a process of its own that does one job after the other."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).resolve().parent.parent / "build" / "sharp"
"""Where sharp is installed, at first use."""

# A job is a line: the picture, how wide it becomes, format and options; the answer is its time in
# milliseconds and the result's bytes. Once with the file read, as the other side has it in memory.
WORKER = """
const sharp = require('sharp'), fs = require('fs');
const lines = require('readline').createInterface({input: process.stdin});
(async () => {
  for await (const line of lines) {
    const job = JSON.parse(line), data = fs.readFileSync(job.path);
    const begin = process.hrtime.bigint();
    let work = sharp(data);
    if (job.width) work = work.resize(job.width);
    const made = await work.toFormat(job.format, job.options).toBuffer();
    const time = Number(process.hrtime.bigint() - begin) / 1e6;
    if (job.result) fs.writeFileSync(job.result, made);
    console.log(JSON.stringify({time, bytes: made.length}));
  }
})();
"""


class SharpMissing(Exception):
    """sharp can't be had on this machine; the message says why."""


class Sharp:
    """A running sharp."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def make(self, path: Path, image_format: str, **job: Any) -> dict[str, float]:
        """Do a job (`width`, `options`, `result`: a path); return its `time` in ms and `bytes`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        line = json.dumps({"path": str(path), "format": image_format, "options": {}, **job})
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SharpMissing(f"sharp ended at {path.name}")
        found: dict[str, float] = json.loads(answer)
        return found


@contextmanager
def running(folder: Path = FOLDER) -> Iterator[Sharp]:
    """Run sharp, installed by npm where it is not in the folder. Raises `SharpMissing`."""
    install(folder)
    with subprocess.Popen(
        ["node", "-e", WORKER],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Sharp(process)
        finally:
            process.kill()


def install(folder: Path) -> None:
    if not shutil.which("npm"):
        raise SharpMissing("there is no npm here")
    if (folder / "node_modules" / "sharp").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}')
    done = subprocess.run(
        ["npm", "install", "--silent", "sharp"], cwd=folder, capture_output=True, check=False
    )
    if done.returncode:
        raise SharpMissing("npm can't install sharp")
