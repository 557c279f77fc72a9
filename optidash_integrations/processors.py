"""What does the work on an image: the protocol, and the choice between those that speak it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from optidash_integrations import formats as known_formats
from optidash_integrations.breaker import Breaker
from optidash_integrations.engine.plan import Plan
from optidash_integrations.engine.tools import NONE as NO_TOOLS
from optidash_integrations.engine.tools import Tools
from optidash_integrations.errors import (
    AnimatedImageError,
    InvalidOperationsError,
    OptionError,
    ProcessorMissingError,
    ProtocolError,
    SettingsError,
)
from optidash_integrations.heads import MISSING as NO_HEADS
from optidash_integrations.ledger import FILE, Ledger, MonthlyBudget, account_of
from optidash_integrations.limits import Limits
from optidash_integrations.negotiation import base_format
from optidash_integrations.probes import READABLE
from optidash_integrations.variants import Variant

if TYPE_CHECKING:
    from optidash_integrations.formats import Format
    from optidash_integrations.operations import Operations
    from optidash_integrations.probes import Probe
    from optidash_integrations.settings import Settings
    from optidash_integrations.variants import ImageData

logger = logging.getLogger(__name__)

NO_PYVIPS = (
    'the embedded engine needs pyvips with libvips: pip install "optidash-integrations[engine]"'
)


@runtime_checkable
class Processor(Protocol):
    """Turns a source and operations into a variant. Called from several threads at once."""

    @property
    def revision(self) -> str:
        """Which processor, encoders and recipe of ours: part of every variant's key."""
        ...

    @property
    def formats(self) -> frozenset[str]:
        """Names of the formats that it can write here."""
        ...

    @property
    def reads(self) -> frozenset[str]:
        """Names of the formats that it can read here."""
        ...

    def probe(self, source: ImageData, limits: Limits) -> Probe:
        """Read a source's header, decode nothing.

        Raises ImageTooLargeError past a limit, UnsupportedImageError for what is not read here,
        BrokenImageError for damage.
        """
        ...

    def process(
        self, source: ImageData, operations: Operations, output: Format | None, limits: Limits
    ) -> Variant:
        """Do the operations on a source.

        `output` wins over the operations' own format; without either the source's format stays, or
        what stands for it where browsers don't show that. Raises as `probe` does, and
        AnimatedImageError for what has several frames, OptionError for operations that do not fit
        this image, ProcessorError where the source is not to blame.
        """
        ...


class EngineProcessor:
    """libvips inside this process. It is imported at first use, and starts with the first pixels.

    `tools` are the folders, models and downloads that operations may name. Raises
    ProcessorMissingError where pyvips is not installed.
    """

    def __init__(self, tools: Tools = NO_TOOLS) -> None:
        self.tools = tools
        if importlib.util.find_spec("pyvips") is None:
            raise ProcessorMissingError(NO_PYVIPS)

    @cached_property
    def revision(self) -> str:
        """Our recipe's number and libvips' version, such as `engine-1-8.18.7`."""
        from optidash_integrations.engine.process import RECIPE
        from optidash_integrations.engine.vips import VERSION

        return f"engine-{RECIPE}-{VERSION}"

    @cached_property
    def formats(self) -> frozenset[str]:
        """Names of the formats that this libvips writes."""
        from optidash_integrations.engine.encode import writable

        return writable()

    @cached_property
    def reads(self) -> frozenset[str]:
        """Names of the formats that the engine reads."""
        drawings = {known_formats.SVG.name} if self.tools.svg else set()
        return frozenset(known.name for known in READABLE) | drawings

    def probe(self, source: ImageData, limits: Limits) -> Probe:
        """Read a source's header; see `Processor.probe`."""
        from optidash_integrations.engine.probe import probe

        return probe(source, limits)

    def process(
        self, source: ImageData, operations: Operations, output: Format | None, limits: Limits
    ) -> Variant:
        """Do the operations on a source; see `Processor.process`."""
        from optidash_integrations.engine.process import process

        return process(source, operations, output, limits, self.tools)


class ApiProcessor:
    """The Optidash API, hosted or self-hosted, behind a circuit breaker.

    No thread waits for a rate limit: while the API wants to be left alone, `process` raises
    CircuitOpenError or RateLimitError at once. `clock`, `monotonic` and `sleep` are for tests.

    Headers are read here, by libvips or Pillow; `reads` raises ProcessorMissingError without them.
    """

    RECIPE = 1
    """Counts up with every change of what is asked of the API for the same operations."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Any] | None = None,
    ) -> None:
        from optidash_integrations.client import OptidashClient

        self.api_url = settings.api_url or HOSTED
        folder = settings.cache_dir
        self.ledger = Ledger(folder / FILE if folder else None)
        self.breaker = Breaker(self.ledger, account_of(self.api_url, settings.api_key), clock=clock)
        self.client = OptidashClient(
            settings.api_key,
            self.api_url,
            timeout=settings.timeout,
            retries=settings.retries,
            waits_for_limits=False,
            max_bytes=settings.max_input_bytes,
            concurrency=settings.threads,
            monthly_budget=settings.monthly_budget,
            ledger=self.ledger,
            shared_url=redis_url(settings.cache_url),
            gate=self.breaker,
            clock=clock,
            monotonic=monotonic,
            sleep=sleep,
        )
        self.unwritten: frozenset[str] = frozenset()

    @cached_property
    def revision(self) -> str:
        """Which API: our recipe's number and a mark of its address, such as `api-1-9c1185a5`."""
        mark = hashlib.sha256(self.api_url.encode()).hexdigest()[:8]
        return f"api-{self.RECIPE}-{mark}"

    @property
    def formats(self) -> frozenset[str]:
        """Names of the formats that the API is known, or not yet known not, to write."""
        return (DOCUMENTED if self.api_url == HOSTED else DOCUMENTED | {"avif"}) - self.unwritten

    @cached_property
    def reads(self) -> frozenset[str]:
        """Names of the formats whose headers are read here."""
        if not any(map(importlib.util.find_spec, ("pyvips", "PIL"))):
            raise ProcessorMissingError(NO_HEADS)
        return frozenset(known.name for known in READABLE)

    def probe(self, source: ImageData, limits: Limits) -> Probe:
        """Read a source's header; see `Processor.probe`."""
        return self.head_reader(source, limits)

    @cached_property
    def head_reader(self) -> Callable[[ImageData, Limits], Probe]:
        """libvips' reader of headers, or Pillow's where there is no libvips."""
        try:
            from optidash_integrations.engine.probe import probe
        except ProcessorMissingError:
            from optidash_integrations.heads import probe
        return probe

    def process(
        self, source: ImageData, operations: Operations, output: Format | None, limits: Limits
    ) -> Variant:
        """Have the operations done on a source; see `Processor.process`.

        Raises ApiError and CircuitOpenError too.
        """
        probe = self.probe(source, limits)
        if probe.is_animated:
            raise AnimatedImageError(f"{probe.frames} frames would become one")
        target = output or self.chosen_format(operations, probe)
        if target.name not in self.formats:
            names = ", ".join(sorted(self.formats))
            raise OptionError("output.format", f"one of {names}", target.name)
        document = asked_of_api(operations, probe, target, limits)
        try:
            variant = self.client.upload_to_bytes(source, document)
        except InvalidOperationsError as error:
            self.learn(target, error)
            raise
        return self.checked(variant, target, limits)

    def chosen_format(self, operations: Operations, probe: Probe) -> Format:
        named = operations.output.format if operations.output else None
        if named and named != "auto":
            return known_formats.BY_NAME[named]
        own = probe.format
        return own if own.name in self.formats else base_format(own, alpha=probe.alpha)

    def learn(self, target: Format, error: InvalidOperationsError) -> None:
        """Ask no more for AVIF where the API says that it does not write it."""
        said = error.message.lower()
        if target is known_formats.AVIF and ("format" in said or "avif" in said):
            logger.warning("the API does not write AVIF, so it is asked for WebP: %s", error)
            self.unwritten |= {target.name}

    def checked(self, variant: Variant, target: Format, limits: Limits) -> Variant:
        """Return a result with the size that its own header tells."""
        size = max(limits.max_input_bytes, len(variant.content))
        found = self.probe(variant.content, Limits(size, max_pixels=MOST_PIXELS))
        if found.format is not target:
            raise ProtocolError(f"{target.label} was asked for, and {found.format.label} came")
        return Variant(
            variant.content,
            target.media_type,
            found.upright_width,
            found.upright_height,
            variant.metadata,
        )

    def stats(self) -> Mapping[str, object]:
        """Return how the API is doing: calls of this month, the circuit, the rate limit."""
        circuit = self.breaker.state()
        budget = self.client.budget
        return {
            "calls_this_month": used(budget) if budget else None,
            "monthly_budget": budget.budget if budget else None,
            "circuit": circuit_word(circuit.until, self.breaker.clock()),
            "left_alone_seconds": max(0.0, circuit.until - self.breaker.clock()),
            "failures": circuit.failures,
            "reason": circuit.reason,
            "rate_limit": self.client.rate_limit,
        }

    def close(self) -> None:
        """Make no call any more, and end all connections."""
        self.breaker.close()
        self.client.close()


HOSTED = "https://api.optidash.ai/1.0"
DOCUMENTED = frozenset({"gif", "jpg", "png", "webp"})
MOST_PIXELS = 1_000_000_000
UNBOUNDED = Limits(max_width=1_000_000, max_height=1_000_000)


def used(budget: MonthlyBudget) -> int | None:
    """Return how many calls a month has had; None where that can't be read."""
    try:
        return budget.used()
    except (sqlite3.Error, OSError) as error:
        logger.warning("the count of API calls can't be read: %s", error)
        return None


def redis_url(cache_url: str | None) -> str | None:
    """Return the address of a shared cache that can also count requests in flight."""
    is_redis = cache_url is not None and cache_url.startswith(("redis://", "rediss://"))
    return cache_url if is_redis else None


def circuit_word(until: float, now: float) -> str:
    """Return what a circuit is, in a word."""
    if not until:
        return "closed"
    return "open" if now < until else "half-open"


def asked_of_api(
    operations: Operations, probe: Probe, target: Format, limits: Limits
) -> dict[str, Any]:
    """Return the API's document for operations on an image.

    Where the result would be larger than allowed, it is resized to what the engine would give.
    Raises OptionError where the part to crop lies outside.
    """
    document: dict[str, Any] = operations.to_dict()
    size = probe.upright_width, probe.upright_height
    plan, free = (Plan.of(operations, *size, bounds) for bounds in (limits, UNBOUNDED))
    if (plan.final_width, plan.final_height) != (free.final_width, free.final_height):
        document.pop("scale", None)
        document["resize"] = {
            **document.get("resize", {"upscale": False}),
            "width": plan.final_width,
            "height": plan.final_height,
        }
    if operations.resize is not None:
        # Left to itself the API enlarges, in every mode.
        document["resize"]["upscale"] = operations.resize.upscales
    document["output"] = {**document.get("output", {}), "format": target.name}
    document["output"].pop("animated", None)  # what is animated does not come here
    return document


def choose(settings: Settings) -> Processor:
    """Return the processor that the setting `processor` names.

    `auto` is the API where `api_key` or `api_url` is set, else the embedded engine; a dotted path
    is a class or a function without arguments, or an object. Raises SettingsError for a name that
    leads to no processor, ProcessorMissingError where the engine is not installed.
    """
    name = settings.processor
    if name == "api" or (name == "auto" and (settings.api_key or settings.api_url)):
        return api_processor(settings)
    if name in ("auto", "engine"):
        return embedded(settings)
    found = imported(name)
    if isinstance(found, type) or not isinstance(found, Processor):
        found = called(name, found) if callable(found) else found
    if not isinstance(found, Processor):
        raise SettingsError(
            [f'processor "{name}" lacks revision, formats, reads, probe or process']
        )
    return found


def embedded(settings: Settings) -> EngineProcessor:
    """Return the engine with what the settings lend it."""
    from optidash_integrations.lending import tools_of  # it needs processors by way of sources

    return EngineProcessor(tools_of(settings))


def api_processor(settings: Settings) -> ApiProcessor:
    if not (settings.api_key or settings.api_url):
        raise SettingsError(["processor api needs an api_key, or an api_url of your own"])
    try:
        return ApiProcessor(settings)
    except OptionError as error:
        raise SettingsError([str(error)]) from error


def called(name: str, factory: Callable[[], object]) -> object:
    try:
        return factory()
    except TypeError as error:
        raise SettingsError([f'processor "{name}" can\'t be called: {error}']) from error


def imported(path: str) -> object:
    """Return what a dotted path names."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        takes = "auto, api, engine or the dotted path of a processor"
        raise SettingsError([f'processor takes {takes}, not "{path}": {error}']) from error
