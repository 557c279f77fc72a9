"""Everything that can be wrong with an answer. Each function returns one fault.

A fault comes whatever the key and the endpoint. Where part of an answer is right, it is that of
the real result: its metadata is true, and its `output.url` works.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tests.api.breaks import (
    chunked_cut,
    close_after_answer,
    close_after_head,
    close_at_once,
    close_before_head,
    cut,
    drip,
    early_heads,
    garbage,
    long_length,
    no_length,
    no_length_cut,
    short_length,
    silence,
    slow_body,
    slow_chunk,
    slow_head,
    stall_before_head,
    stall_mid_body,
)
from tests.api.errors import redirect, retry_after, status, success_false_200
from tests.api.fault import Fault
from tests.api.lies import (
    HTML,
    bad_metadata,
    gigantic_body,
    gigantic_json,
    gzip_bomb,
    gzipped,
    html,
    html_as_image,
    huge_headers,
    invalid_json,
    json_without_success,
    meta_only_old,
    no_metadata,
    wrong_bytes,
    wrong_sha1,
    wrong_type,
)

__all__ = [
    "HTML",
    "Fault",
    "bad_metadata",
    "chunked_cut",
    "close_after_answer",
    "close_after_head",
    "close_at_once",
    "close_before_head",
    "cut",
    "drip",
    "early_heads",
    "flaky",
    "garbage",
    "gigantic_body",
    "gigantic_json",
    "gzip_bomb",
    "gzipped",
    "html",
    "html_as_image",
    "huge_headers",
    "invalid_json",
    "json_without_success",
    "long_length",
    "meta_only_old",
    "no_length",
    "no_length_cut",
    "no_metadata",
    "redirect",
    "retry_after",
    "short_length",
    "slow_body",
    "slow_chunk",
    "slow_head",
    "stall_before_head",
    "stall_mid_body",
    "status",
    "success_false_200",
    "wrong_bytes",
    "wrong_sha1",
    "wrong_type",
]


@dataclass(frozen=True)
class Flaky(Fault):
    """One of several faults, or none, as a generator of random numbers has it."""

    rate: float = 0.2
    generator: random.Random = field(default_factory=random.Random, repr=False)
    among: tuple[Fault, ...] = ()

    def pick(self) -> Fault | None:
        if self.generator.random() >= self.rate:
            return None
        return self.generator.choice(self.among)


def flaky(rate: float = 0.2, seed: int = 1) -> Flaky:
    """Fail a part `rate` of the requests in one of the ways of an overloaded service."""
    among = (
        status(500),
        status(502),
        status(503),
        close_before_head(),
        cut(),
        retry_after(0),
    )
    generator = random.Random(seed)
    return Flaky(f"flaky({rate}, {seed})", silence, True, rate, generator, among)
