"""Locks in Redis: which host works on a key, for how long, and who may still store a result.

    <prefix>locks:<key>     number: that of the newest lease; until: when it ends, in milliseconds

Numbers only grow. A holder whose lease ran out may go on, but once somebody else has a newer one
its result is refused, in the same step that would have stored it. So the number outlives its
lease, by an hour. Redis' own clock counts, which is the same for all hosts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from optidash_integrations.cache.entry import Cache, Entry, family_of
from optidash_integrations.cache.redis import FAMILY_LIFETIMES, RedisCache
from optidash_integrations.cache.shared import packed, tag_of

logger = logging.getLogger(__name__)

LEASE_SECONDS = 10.0
REMEMBERED = 3_600_000
"""How long the number of a lease is known, in milliseconds."""

NOW = """
local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function whole(number)
    return string.format('%.0f', number)
end
"""

# KEYS: the lock, the entry. ARGV: the lease in milliseconds. Gives a number, and whether the entry
# is there: so whoever gets the lease need not ask again. A lease that ends later than one given now
# can't be true: Redis' clock was set back.
TAKE = f"""{NOW}
local held = redis.call('HMGET', KEYS[1], 'number', 'until')
local at, lease = now(), tonumber(ARGV[1])
local left = tonumber(held[2] or '0') - at
if left > 0 and left <= lease then return {{0, 0}} end
local number = math.max(at, tonumber(held[1] or '0') + 1)
redis.call('HSET', KEYS[1], 'number', whole(number), 'until', whole(at + lease))
redis.call('PEXPIRE', KEYS[1], {REMEMBERED})
return {{number, redis.call('EXISTS', KEYS[2])}}
"""

# KEYS: the lock. ARGV: a number, and the lease in milliseconds, 0 to end it: then it stays so.
RENEW = f"""{NOW}
local held = redis.call('HMGET', KEYS[1], 'number', 'until')
if held[1] ~= ARGV[1] or held[2] == '0' then return 0 end
local ends = ARGV[2] == '0' and '0' or whole(now() + tonumber(ARGV[2]))
redis.call('HSET', KEYS[1], 'until', ends)
redis.call('PEXPIRE', KEYS[1], {REMEMBERED})
return 1
"""

# KEYS: the lock, the entry, then sets. ARGV: a number, the value, its lifetime, then for each set
# what is new in it and its lifetime.
PUT = """
local newest = redis.call('HGET', KEYS[1], 'number')
if newest and tonumber(newest) > tonumber(ARGV[1]) then return 0 end
for place = 3, #KEYS do
    redis.call('SADD', KEYS[place], ARGV[place * 2 - 2])
    redis.call('EXPIRE', KEYS[place], ARGV[place * 2 - 1])
end
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
if newest == ARGV[1] then redis.call('HSET', KEYS[1], 'until', '0') end
return 1
"""


class RedisLocks:
    """Leases of `seconds` each, in the Redis of a cache tier; `renew` them while work goes on.

    Where Redis is gone everybody gets a lease without a number, and nothing is refused.
    """

    TAKEN = 0

    def __init__(self, cache: RedisCache, seconds: float = LEASE_SECONDS) -> None:
        self.cache = cache
        self.seconds = seconds
        self.root = cache.root.removesuffix("cache:") + "locks:"
        self.take_script = cache.client.register_script(TAKE)
        self.renew_script = cache.client.register_script(RENEW)
        self.put_script = cache.client.register_script(PUT)

    @classmethod
    def beside(cls, tiers: Iterable[Cache]) -> RedisLocks | None:
        """Return the locks in the Redis that is one of these tiers; None where none is."""
        found = [tier for tier in tiers if isinstance(tier, RedisCache)]
        return cls(found[0]) if found else None

    @property
    def lease(self) -> int:
        """How long a lease is, in milliseconds."""
        return max(1, int(self.seconds * 1000))

    def take(self, key: str) -> int | None:
        """Return the number of a new lease, `TAKEN` where somebody has one, None without Redis."""
        return self.take_and_look(key)[0]

    def take_and_look(self, key: str) -> tuple[int | None, bool]:
        """Return the same, and False where the tier has no entry for certain."""
        unknown: tuple[int | None, bool] = None, True
        return self.cache.medium.ask(lambda: self.asked(key), unknown)

    def asked(self, key: str) -> tuple[int | None, bool]:
        names = [self.root + key, self.cache.name(key)]
        number, present = self.take_script(keys=names, args=[self.lease])
        return int(number), bool(present)

    def renew(self, key: str, number: int) -> bool:
        """Let a lease begin again; False where somebody has a newer one, or nobody can tell."""
        return self.cache.medium.ask(lambda: self.set_lease(key, number, self.lease), False)

    def release(self, key: str, number: int) -> None:
        """End a lease."""
        self.cache.medium.ask(lambda: self.set_lease(key, number, 0), False)

    def set_lease(self, key: str, number: int, lease: int) -> bool:
        return bool(self.renew_script(keys=[self.root + key], args=[number, lease]))

    def put(self, key: str, number: int, entry: Entry) -> bool:
        """Store an entry in the tier and end the lease; False where somebody has a newer one.

        What the tier does not take, it does not take here. Raises as its `put`.
        """
        cache = self.cache
        try:
            value = packed(entry, cache.max_body_bytes)
        except OSError:
            value = None
        if value is None:
            cache.put(key, entry)
            self.release(key, number)
            return True
        names = [self.root + key, cache.name(key)]
        given: list[int | bytes | str] = [number, value, cache.lifetime]
        for name, member, lifetime in self.sets(key, entry.source):
            names.append(name)
            given += [member, lifetime]
        stored = cache.medium.ask(lambda: bool(self.put_script(keys=names, args=given)), None)
        if stored:
            cache.notes.stored(key)
        return stored is not False

    def sets(self, key: str, source: str) -> Iterator[tuple[str, str, int]]:
        """Yield the tier's sets that an entry belongs in: name, member and lifetime."""
        cache = self.cache
        if source:
            yield f"{cache.root}s:{tag_of(source)}", key, cache.lifetime
        if family := family_of(source):
            yield cache.family(family), source, FAMILY_LIFETIMES * cache.lifetime
