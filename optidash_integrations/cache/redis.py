"""The Redis tier: one value a key, with a lifetime, and a set of keys for each source.

    <prefix>cache:e:<key>       an entry
    <prefix>cache:s:<tag>       the keys of a source, which `tag` stands for
    <prefix>cache:f:<tag>       the sources of a family, which `tag` stands for

What a source's set names may be gone, or belong to another source by now: the entry's own head
decides. How much memory all of it takes is for Redis to bound, with `maxmemory` and an eviction
policy. A Redis Cluster is not supported.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from urllib.parse import urlunsplit

from redis import Redis
from redis.exceptions import ConnectionError as NotConnectedError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as TooSlowError

from optidash_integrations.cache.entry import CacheStats, Entry, checked, family_of, is_key
from optidash_integrations.cache.files import DamagedError
from optidash_integrations.cache.shared import (
    HEAD_BYTES,
    LIFETIME,
    MAGIC,
    MAX_BODY_BYTES,
    TAG,
    Medium,
    Notes,
    options,
    packed,
    split,
    tag_of,
    unpacked,
    wrong,
)

logger = logging.getLogger(__name__)

PREFIX = "optidash:"
PREFIXES = re.compile(r"[!-~]{1,64}")

SOCKET_TIMEOUT = 1.0
CONNECT_TIMEOUT = 0.5
BATCH = 500

# Whoever uses an entry does not know its family: so its sources are kept for about a year more.
FAMILY_LIFETIMES = 12

OF_THE_CONNECTION = frozenset(
    {
        "db",
        "socket_connect_timeout",
        "socket_timeout",
        "ssl_ca_certs",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_keyfile",
    }
)

# Redis counts characters from 1 and includes the last; the head's tag has the same place always.
TAG_OF = f"""
local function tag_of(name)
    local value = redis.pcall('GETRANGE', name, 0, {TAG.stop - 1})
    if type(value) ~= 'string' or string.sub(value, 1, {len(MAGIC)}) ~= '{MAGIC.decode()}' then
        return ''
    end
    return string.sub(value, {TAG.start + 1})
end
"""

# KEYS: the root. ARGV: the lifetime, then keys. Gives both an entry and its source's set new life.
TOUCH = f"""{TAG_OF}
for place = 2, #ARGV do
    local name = KEYS[1] .. 'e:' .. ARGV[place]
    local tag = tag_of(name)
    if tag ~= '' then
        redis.call('EXPIRE', name, ARGV[1])
        redis.call('EXPIRE', KEYS[1] .. 's:' .. tag, ARGV[1])
    end
end
"""

# KEYS: the root. ARGV: a key.
DELETE = f"""{TAG_OF}
local name = KEYS[1] .. 'e:' .. ARGV[1]
local tag = tag_of(name)
if tag ~= '' then
    redis.call('SREM', KEYS[1] .. 's:' .. tag, ARGV[1])
end
return redis.call('DEL', name)
"""

# KEYS: the root. ARGV: a source's tag.
DELETE_SOURCE = f"""{TAG_OF}
local index = KEYS[1] .. 's:' .. ARGV[1]
local count = 0
for _, key in ipairs(redis.call('SMEMBERS', index)) do
    local name = KEYS[1] .. 'e:' .. key
    if tag_of(name) == ARGV[1] then
        count = count + redis.call('DEL', name)
    end
end
redis.call('DEL', index)
return count
"""


def connect(url: str) -> tuple[Redis, str]:
    """Return a client and the prefix for its keys; raises SettingsError for a wrong address.

    No command waits longer than a second, and none is tried twice.
    """
    parts = split(url)
    if parts.scheme not in ("redis", "rediss"):
        raise wrong("takes redis:// or rediss:// where processes share limits")
    given = options(parts, OF_THE_CONNECTION | {"prefix"})
    if not re.fullmatch(r"/?|/[0-9]+", parts.path):
        raise wrong("of Redis ends in the number of a database, or in nothing")
    prefix = given.get("prefix", PREFIX)
    if not PREFIXES.fullmatch(prefix):
        raise wrong("has a prefix that is empty, longer than 64 characters, or not plain ASCII")
    query = "&".join(f for f in parts.query.split("&") if not f.startswith("prefix="))
    client = client_of(urlunsplit(parts._replace(query=query, fragment="")))
    return client, prefix


def client_of(url: str) -> Redis:
    # redis-py tries again by default, and so waits seconds for a server that is down.
    waits = {"socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT}
    try:
        client = Redis.from_url(url, retry=None, **waits)
        client.connection_pool.make_connection()  # it is not connected, but its options are read
    except (TypeError, ValueError, RedisError):
        raise wrong("has an option with a value that Redis' client does not take") from None
    return client


def medium_of(client: Redis, clock: Callable[[], float], log: logging.Logger) -> Medium:
    """Return the medium that a client is asked through."""
    gone = (NotConnectedError, TooSlowError, OSError)
    return Medium("Redis", gone, (RedisError,), log, clock, lambda: drop_idle(client))


def drop_idle(client: Redis) -> None:
    """Close the connections that nobody uses: they go to a server that has failed."""
    client.connection_pool.disconnect(inuse_connections=False)


class RedisCache:
    """Entries in Redis, each for `lifetime` seconds since it was stored or used.

    A body of more than `max_body_bytes` is not stored. `touch` waits for nothing: what was used is
    sent along with the next `get` or `put`. `clock` gives seconds.
    """

    def __init__(
        self,
        client: Redis,
        prefix: str = PREFIX,
        *,
        lifetime: int = LIFETIME,
        max_body_bytes: int = MAX_BODY_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        self.root = f"{prefix}cache:"
        self.lifetime = lifetime
        self.max_body_bytes = max_body_bytes
        self.medium = medium_of(client, clock, logger)
        self.notes = Notes(clock)
        self.touch_script = client.register_script(TOUCH)
        self.delete_script = client.register_script(DELETE)
        self.delete_source_script = client.register_script(DELETE_SOURCE)
        self.hits = self.misses = 0

    @classmethod
    def of(cls, url: str) -> RedisCache:
        """Open the tier that an address names; raises SettingsError."""
        return cls(*connect(url))

    def name(self, key: str) -> str:
        return f"{self.root}e:{key}"

    # Reading

    def get(self, key: str) -> Entry | None:
        """Return an entry or None; a damaged one is dropped."""
        entry = self.read(key) if is_key(key) else None
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self.touch(key)
        return entry

    def read(self, key: str) -> Entry | None:
        value = self.medium.ask(lambda: self.fetch(key), None)
        if value is None:
            return None
        try:
            return unpacked(value)
        except DamagedError as error:
            self.medium.complaints.add("a damaged entry in Redis was dropped", error)
            self.medium.ask(lambda: self.client.delete(self.name(key)), 0)
            return None

    def fetch(self, key: str) -> object:
        self.send_notes()
        return self.client.get(self.name(key))

    def touch(self, key: str) -> None:
        """Note that an entry was used, so that it lives on; sent later, and rarely."""
        if is_key(key):
            self.notes.add(key)

    def send_notes(self) -> None:
        keys = self.notes.take()
        if keys:
            self.touch_script(keys=[self.root], args=[self.lifetime, *keys])

    # Writing

    def put(self, key: str, entry: Entry) -> None:
        """Store an entry; one whose body is too long only takes away what it replaces.

        Raises ValueError for a key that is none, and ValueError or TypeError for facts that are
        not JSON.
        """
        checked(key)
        try:
            value = packed(entry, self.max_body_bytes)
        except OSError as error:
            self.medium.complaints.add("a body's file can't be read for Redis", error)
            return
        if value is None:
            self.delete(key)
        elif self.medium.ask(lambda: self.store(key, entry.source, value), False):
            self.notes.stored(key)

    def store(self, key: str, source: str, value: bytes) -> bool:
        self.send_notes()
        with self.client.pipeline(transaction=True) as pipeline:
            if source:
                index = f"{self.root}s:{tag_of(source)}"
                pipeline.sadd(index, key)
                pipeline.expire(index, self.lifetime)
            if family := family_of(source):
                sources = self.family(family)
                pipeline.sadd(sources, source)
                pipeline.expire(sources, FAMILY_LIFETIMES * self.lifetime)
            pipeline.set(self.name(key), value, ex=self.lifetime)
            pipeline.execute()
        return True

    # Deleting: asked for during a pause, too, since what is left out lives on for weeks

    def delete(self, key: str) -> None:
        """Forget an entry."""
        if is_key(key):
            self.medium.ask(
                lambda: self.delete_script(keys=[self.root], args=[key]), None, always=True
            )

    def delete_source(self, source: str) -> int:
        """Forget all entries made from this source; return how many there were."""
        if not source:
            return 0
        return self.medium.ask(lambda: self.remove_source(source), 0, always=True)

    def remove_source(self, source: str) -> int:
        count = int(self.delete_source_script(keys=[self.root], args=[tag_of(source)]))
        if family := family_of(source):
            self.client.srem(self.family(family), source)
        return count

    def sources(self, start: str, *, complete: bool = True) -> set[str]:
        """Return the sources of a family, or those of all families that start so.

        Some may have no entry any more. For more than one family all keys are walked through.
        """
        return self.medium.ask(lambda: self.members(start), set())

    def members(self, start: str) -> set[str]:
        if family_of(start) == start:
            return decoded(self.client.smembers(self.family(start)))
        found: set[str] = set()
        for names in batches(self.names(f"{self.root}f:"), BATCH):
            with self.client.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.smembers(name)
                found.update(*map(decoded, pipeline.execute()))
        return {source for source in found if source.startswith(start)}

    def family(self, family: str) -> str:
        return f"{self.root}f:{tag_of(family)}"

    def clear(self) -> None:
        """Forget everything that is the cache's own, and nothing else in the database."""
        self.medium.ask(self.remove_all, None, always=True)

    def remove_all(self) -> None:
        for names in batches(self.names(self.root), BATCH):
            self.client.unlink(*names)

    def names(self, start: str) -> Iterator[bytes]:
        """Yield the names of all keys that start so."""
        plain = re.sub(r"([\\*?\[\]^-])", r"\\\1", start)
        return iter(self.client.scan_iter(match=f"{plain}*", count=BATCH))

    # Looking around

    def stats(self) -> CacheStats:
        """Return how the tier is doing; it walks through all keys of the database."""
        entries, size = self.medium.ask(self.totals, (0, 0))
        return CacheStats(entries, size, self.hits, self.misses, 0)

    def totals(self) -> tuple[int, int]:
        sizes: dict[bytes, int] = {}  # SCAN may name a key twice
        for names in batches(self.names(f"{self.root}e:"), BATCH):
            with self.client.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.strlen(name)
                sizes.update(zip(names, pipeline.execute(), strict=True))
        held = [size for size in sizes.values() if size >= HEAD_BYTES]
        return len(held), sum(held)

    def close(self) -> None:
        """Send what was noted, and close the connections; the next use opens them again."""
        self.medium.ask(self.send_notes, None)
        self.client.connection_pool.disconnect()


def decoded(names: Iterable[bytes | str]) -> set[str]:
    return {n if isinstance(n, str) else n.decode("utf-8", "replace") for n in names}


def batches(names: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    """Yield names in lists of at most `size`."""
    rest = iter(names)
    while batch := list(islice(rest, size)):
        yield batch
