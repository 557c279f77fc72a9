"""What the processes that call one API with one key tell each other, through Redis.

How many requests are in flight, what the API last said of its limit, and until when it wants to
be left alone. Where Redis is gone, a process behaves as if it were alone.

    <prefix>limits:<name>:flying    tokens, each with the time when its lease ends
    <prefix>limits:<name>:told      limit, remaining, and when the window ends
    <prefix>limits:<name>:blocked   when the API may be called again
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

from redis import Redis
from redis.commands.core import Script

from optidash_integrations.cache.redis import PREFIX, connect, medium_of

logger = logging.getLogger(__name__)

# ARGV[1] is the time, or nothing: then Redis' own clock counts, which is the same for all hosts.
NOW = """
local function now()
    if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
    local time = redis.call('TIME')
    return tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local function milliseconds(seconds)
    return math.max(1, math.ceil(seconds * 1000))
end
"""

# ARGV: the time, how many places there are, the lease, the token.
ENTER = f"""{NOW}
local at = now()
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.6f', at))
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], string.format('%.6f', at + tonumber(ARGV[3])), ARGV[4])
local left = redis.call('PTTL', KEYS[1])
redis.call('PEXPIRE', KEYS[1], math.max(left, milliseconds(tonumber(ARGV[3]))))
return 1
"""

# ARGV: the time, the lease, the token. Whoever has lost a place still is in flight, and counts.
RENEW = f"""{NOW}
redis.call('ZADD', KEYS[1], string.format('%.6f', now() + tonumber(ARGV[2])), ARGV[3])
local left = redis.call('PTTL', KEYS[1])
redis.call('PEXPIRE', KEYS[1], math.max(left, milliseconds(tonumber(ARGV[2]))))
"""

# ARGV: the time, limit, remaining, and the seconds until the window ends.
TOLD = f"""{NOW}
local ends = string.format('%.6f', now() + tonumber(ARGV[4]))
redis.call('DEL', KEYS[1])
if tonumber(ARGV[4]) > 0 then
    redis.call('RPUSH', KEYS[1], ARGV[2], ARGV[3], ends)
    redis.call('PEXPIRE', KEYS[1], milliseconds(tonumber(ARGV[4])))
end
"""

STATE = f"""{NOW}
local told = redis.call('LRANGE', KEYS[1], 0, 2)
if #told < 3 then return {{}} end
return {{told[1], told[2], string.format('%.6f', tonumber(told[3]) - now())}}
"""

# ARGV: the time, and seconds. The longest pause that anybody was told counts.
BLOCK = f"""{NOW}
local ends = now() + tonumber(ARGV[2])
local before = tonumber(redis.call('GET', KEYS[1]) or '0')
if ends > before then
    redis.call('SET', KEYS[1], string.format('%.6f', ends), 'PX', milliseconds(tonumber(ARGV[2])))
end
"""

BLOCKED = f"""{NOW}
local ends = redis.call('GET', KEYS[1])
if not ends then return '0' end
return string.format('%.6f', tonumber(ends) - now())
"""


class SharedLimits:
    """The state of an API that several processes call, under a `name` they agree on.

    `clock` gives seconds since 1970. Without one, Redis' own clock counts for what is shared, so
    that hosts whose clocks differ agree. Raises SettingsError for a wrong address.
    """

    def __init__(
        self,
        url_or_client: str | Redis,
        name: str,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if isinstance(url_or_client, str):
            self.client, prefix = connect(url_or_client)
        else:
            self.client, prefix = url_or_client, PREFIX
        self.root = f"{prefix}limits:{name}:"
        self.clock = clock
        self.medium = medium_of(self.client, clock or time.monotonic, logger)
        self.enter_script = self.client.register_script(ENTER)
        self.renew_script = self.client.register_script(RENEW)
        self.told_script = self.client.register_script(TOLD)
        self.state_script = self.client.register_script(STATE)
        self.block_script = self.client.register_script(BLOCK)
        self.blocked_script = self.client.register_script(BLOCKED)

    def run(self, script: Script, key: str, *arguments: float | str) -> Any:
        now = "" if self.clock is None else repr(float(self.clock()))
        return script(keys=[self.root + key], args=[now, *arguments])

    # Requests in flight

    def enter(self, limit: int, lease: float) -> str | None:
        """Take one of `limit` places, and return its token; None where all are taken.

        A place whose holder dies, and renews it no more, is free again after `lease` seconds.
        """
        token = secrets.token_hex(8)
        taken = self.medium.ask(
            lambda: self.run(self.enter_script, "flying", limit, lease, token), 1
        )
        return token if taken else None

    def renew(self, token: str, lease: float) -> None:
        """Keep a place for `lease` seconds from now on, and take it anew where it was lost."""
        self.medium.ask(lambda: self.run(self.renew_script, "flying", lease, token), None)

    def leave(self, token: str) -> None:
        """Give a place back."""
        self.medium.ask(lambda: self.client.zrem(f"{self.root}flying", token), 0)

    # What the API said

    def told(self, limit: int, remaining: int, reset: float) -> None:
        """Note what the API said last: its window ends in `reset` seconds."""
        self.medium.ask(lambda: self.run(self.told_script, "told", limit, remaining, reset), None)

    def state(self) -> tuple[int, int, float] | None:
        """Return limit, remaining and the seconds left of the window, as any process was told."""
        answer = self.medium.ask(lambda: self.run(self.state_script, "told"), None)
        if not answer:
            return None
        limit, remaining, left = int(answer[0]), int(answer[1]), float(answer[2])
        return (limit, remaining, left) if left > 0 else None

    # Being left alone

    def block(self, seconds: float) -> None:
        """Note that the API wants to be left alone for so long; the longest wish counts."""
        if seconds > 0:
            self.medium.ask(lambda: self.run(self.block_script, "blocked", seconds), None)

    def blocked(self) -> float:
        """Return for how many seconds the API is to be left alone; 0 where it may be called."""
        answer = self.medium.ask(lambda: self.run(self.blocked_script, "blocked"), 0)
        return max(0.0, float(answer))

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        self.client.connection_pool.disconnect()
