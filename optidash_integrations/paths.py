"""Which request paths a setting names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate

GLOB = re.compile(r"[*?\[]")

# Dot segments, empty segments, backslashes, encoded slashes and control characters: an application
# may read such a path as another one than it seems.
ODD = re.compile(r"(?:^|/)\.{1,2}(?:/|$)|//|\\|%2f|%5c|[\x00-\x1f\x7f]", re.IGNORECASE)


class Paths:
    """A set of paths: prefixes such as `/static/`, and globs such as `*.png`."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self.prefixes = tuple(p for p in patterns if not GLOB.search(p))
        globs = "|".join(translate(p) for p in patterns if GLOB.search(p))
        self.globs = re.compile(globs) if globs else None

    def __bool__(self) -> bool:
        return bool(self.prefixes or self.globs)

    def may_have(self, path: str) -> bool:
        """Say whether a path looks like one of the set; `has` knows, and costs more."""
        if self.prefixes and path.startswith(self.prefixes):
            return True
        return self.globs is not None and self.globs.match(path) is not None

    def has(self, path: str, raw_path: str = "") -> bool:
        """Say whether a whole path, decoded once, is in the set; an ambiguous one never is.

        `raw_path` is the same as the browser sent it, where the server tells.
        """
        if ODD.search(path) or (raw_path and ODD.search(raw_path)):
            return False
        return self.may_have(path)
