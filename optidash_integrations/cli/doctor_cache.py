"""Checks of the cache folder. A folder that is not there yet is not made: it might be made by a
user who is not the site's.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from optidash_integrations.cache.disk import LAYOUT, DiskCache
from optidash_integrations.cache.entry import CacheStats, Entry
from optidash_integrations.cache.index import FILE as INDEX
from optidash_integrations.cache.shared import open_shared
from optidash_integrations.cli.findings import Case, Finding, failed, ok, warning
from optidash_integrations.cli.report import size
from optidash_integrations.errors import SettingsError

OTHERS_WRITE, STICKY = 0o002, 0o1000
NOT_THE_OWNER = 0o077
ELSEWHERE = "let the site's user write to it, or set OPTIDASH_CACHE_DIR to another folder"


def of_folder(case: Case) -> Finding:
    """Tell whether the cache folder is there, and can be written."""
    folder = case.settings.cache_dir
    if folder is None or not case.settings.cache_bytes:
        return warning(
            "there is none, so each process makes each image anew after a start",
            "set OPTIDASH_CACHE_DIR to a folder and OPTIDASH_CACHE_BYTES above 0",
        )
    if not folder.exists():
        return of_parent(folder)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        return failed(f"{folder} can't be written: {error.strerror or error}", ELSEWHERE)
    owner = other_owner(folder)
    if owner:
        advice = f"run this as that user, which the site should be: sudo -u {owner} optidash doctor"
        return warning(f"{folder} can be written, but belongs to {owner}", advice)
    return ok(f"{folder} can be written")


def of_parent(folder: Path) -> Finding:
    above = next(each for each in folder.absolute().parents if each.exists())
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        return failed(f"{folder} is not there, and can't be made in {above}", ELSEWHERE)
    return ok(f"{folder} will be made at the first use")


def other_owner(folder: Path) -> str:
    """Return the name of a folder's owner, or nothing where that is who runs this."""
    if not hasattr(os, "geteuid") or folder.stat().st_uid == os.geteuid():
        return ""
    try:
        return folder.owner()
    except KeyError:
        return f"#{folder.stat().st_uid}"


def of_permissions(case: Case) -> Finding | None:
    """Tell whether other users of this machine can change or read what is cached."""
    folder = used_folder(case)
    if folder is None or os.name != "posix":
        return None
    mode, own = folder.stat().st_mode, folder / LAYOUT
    if mode & OTHERS_WRITE and not mode & STICKY:
        return warning(f"anybody can write to {folder}", f"chmod o-w {folder}")
    if own.is_dir() and own.stat().st_mode & NOT_THE_OWNER:
        return warning(f"{own} is not for its owner alone", f"chmod 700 {own}")
    return ok(f"{folder} has {mode & 0o777:o}")


def of_space(case: Case) -> Finding | None:
    """Tell how much of its budget the cache uses, and whether the disk has room for the rest."""
    folder = used_folder(case)
    if folder is None:
        return None
    free, budget = shutil.disk_usage(folder).free, case.settings.cache_bytes
    found = stats(case, folder)
    used = found.bytes if found else 0
    entries = found.entries if found else 0
    count = "1 entry" if entries == 1 else f"{entries} entries"
    what = f"{count}, {size(used)} of {size(budget)} used; the disk has {size(free)} free"
    if free < budget - used:
        return warning(what, "make room, or set OPTIDASH_CACHE_BYTES to less")
    return ok(what)


def used_folder(case: Case) -> Path | None:
    """Return the cache folder, where it is there to be looked at."""
    folder = case.settings.cache_dir
    if folder is None or not case.settings.cache_bytes or not folder.is_dir():
        return None
    return folder


def stats(case: Case, folder: Path) -> CacheStats | None:
    """Return how full a cache is; None for one that has no index yet, or is another user's."""
    if not (folder / LAYOUT / INDEX).exists() or other_owner(folder):
        return None
    with closing(DiskCache(folder, case.settings.cache_bytes)) as disk:
        return disk.stats()


PROBE = "d" * 40
"""The key of an entry that is written, read and removed again."""


def of_shared(case: Case) -> Finding | None:
    """Tell whether the cache that hosts share takes an entry and gives it back."""
    url = case.settings.cache_url
    if url is None or case.is_offline:
        return None
    try:
        with closing(open_shared(url)) as shared:
            shared.put(PROBE, Entry({}, PROBE.encode()))
            found = shared.get(PROBE)
            shared.delete(PROBE)
    except SettingsError as error:
        return failed(str(error), "correct OPTIDASH_CACHE_URL")
    scheme = url.partition("://")[0]
    if found is None or found.body != PROBE.encode():
        return failed(
            f"the {scheme} cache does not take an entry and give it back",
            "see that it runs, and that OPTIDASH_CACHE_URL names it rightly",
        )
    return ok(f"the {scheme} cache takes an entry and gives it back")


CHECKS: Mapping[str, Callable[[Case], Finding | None]] = {
    "cache folder": of_folder,
    "permissions": of_permissions,
    "cache space": of_space,
    "shared cache": of_shared,
}
