"""Sends or receives a large image, and prints the peak of this process's memory in megabytes.

python -m benchmarks.transfer idle|upload|download sync|async ADDRESS FOLDER
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from optidash_integrations.client import AsyncOptidashClient, OptidashClient

SIZE = 200 * 1000 * 1000
SMALL = b"\xff\xd8\xff" + bytes(1000)


def main() -> None:
    what, kind, url, folder = sys.argv[1:]
    source, target = Path(folder, "large.jpg"), Path(folder, f"{what}-{kind}.jpg")
    if kind == "sync":
        with OptidashClient("key", url) as client:
            client.upload_to_bytes(SMALL)
            if what == "upload":
                client.upload_to_bytes(source)
            elif what == "download":
                client.upload_to_file(SMALL, {"zeros": SIZE}, target)
    else:
        asyncio.run(transfer(what, url, source, target))
    if what == "download" and target.stat().st_size != SIZE:
        sys.exit("the image did not arrive whole")
    target.unlink(missing_ok=True)
    print(peak())


def peak() -> float:
    """Return the most memory that this process has had, in megabytes.

    Linux' own count begins with the program; `getrusage` would give the parent's before that.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    found = next(line for line in lines if line.startswith("VmHWM:"))
    return int(found.split()[1]) * 1024 / 1e6


async def transfer(what: str, url: str, source: Path, target: Path) -> None:
    async with AsyncOptidashClient("key", url) as client:
        await client.upload_to_bytes(SMALL)
        if what == "upload":
            await client.upload_to_bytes(source)
        elif what == "download":
            await client.upload_to_file(SMALL, {"zeros": SIZE}, target)


if __name__ == "__main__":
    main()
