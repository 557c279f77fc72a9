"""From an `Accept` header to the format to send (RFC 9110, 12.5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from optidash_integrations.formats import (
    ALIASES,
    BY_MEDIA_TYPE,
    JPEG,
    PNG,
    WEBP,
    Format,
)

LONGEST_ACCEPT = 2_000
"""An `Accept` header past this many characters says nothing to us."""

# image/apng is promised by browsers beside image/png, and says nothing of still pictures.
NOT_A_PROMISE = frozenset(ALIASES)


@dataclass(frozen=True, slots=True)
class Accepted:
    """What an `Accept` header promises of the formats known here.

    `named` holds the quality (0 to 1) of each format that is named, `others` that of the rest, from
    `image/*` or else `*/*`. Wildcards do not promise AVIF or WebP: old browsers send them too.
    """

    named: tuple[tuple[Format, float], ...] = ()
    others: float = 0.0

    def quality(self, wanted: Format) -> float:
        """Return how welcome a format is, from 0 (not at all) to 1."""
        for known, quality in self.named:
            if known is wanted:
                return quality
        return self.others if wanted.web else 0.0


@lru_cache(maxsize=1024)
def accepted(accept: str | None) -> Accepted | None:
    """Read an `Accept` header; None where it is missing, unreadable or names no image."""
    if not accept or len(accept) > LONGEST_ACCEPT:
        return None
    qualities: dict[str, float] = {}
    for item in accept.split(","):
        media_type, quality = media_range(item)
        if media_type:
            qualities[media_type] = max(quality, qualities.get(media_type, 0.0))
    others = qualities.get("image/*", qualities.get("*/*"))
    named = tuple((BY_MEDIA_TYPE[m], q) for m, q in sorted(qualities.items()) if is_named(m))
    if others is None and not named:
        return None
    return Accepted(named, others or 0.0)


def is_named(media_type: str) -> bool:
    return media_type in BY_MEDIA_TYPE and media_type not in NOT_A_PROMISE


def media_range(item: str) -> tuple[str, float]:
    """Split `image/webp;q=0.8` into its type and quality; the type is empty where it is garbage."""
    media_type, *parameters = (part.strip().lower() for part in item.split(";"))
    kind, slash, subtype = media_type.partition("/")
    if not (kind and slash and subtype):
        return "", 0.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return media_type, qvalue(value.strip())
    return media_type, 1.0


def qvalue(text: str) -> float:
    """Read a weight; one that is not a number from 0 to 1 counts as 0."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0.0 <= value <= 1.0 else 0.0


def base_format(own: Format, *, alpha: bool) -> Format:
    """Return the format that every browser shows in place of `own`."""
    if own.web:
        return own
    return PNG if alpha else JPEG


@lru_cache(maxsize=4096)
def chosen_format(
    accept: Accepted | None, offered: tuple[Format, ...], own: Format, *, alpha: bool = False
) -> Format:
    """Return the format to send of a source whose own format is `own`.

    `offered` are the formats that the site offers, best first; of those that are equally welcome
    the first wins, and the source's own comes last. Without a usable `accept` it is `own`.
    """
    if accept is None:
        return own
    base = base_format(own, alpha=alpha)
    candidates = dict.fromkeys((*offered, own, base))
    best = max(candidates, key=accept.quality)  # the first of equals
    return best if accept.quality(best) > 0 else base


def may_keep(own: Format, output: Format) -> bool:
    """Say whether whoever was to get `output` by negotiation can be sent the source as it is."""
    return own is output or own.web or (own is WEBP and output.name == "avif")
