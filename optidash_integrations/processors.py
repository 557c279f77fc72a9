"""What does the work on an image: the protocol, and the choice between those that speak it."""

from __future__ import annotations

import importlib
import importlib.util
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from optidash_integrations.errors import ProcessorMissingError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from optidash_integrations.engine.probe import Probe
    from optidash_integrations.formats import Format
    from optidash_integrations.limits import Limits
    from optidash_integrations.operations import Operations
    from optidash_integrations.variants import ImageData, Variant

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

    Raises ProcessorMissingError where pyvips is not installed.
    """

    def __init__(self) -> None:
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
        from optidash_integrations.engine.probe import READABLE

        return frozenset(known.name for known in READABLE)

    def probe(self, source: ImageData, limits: Limits) -> Probe:
        """Read a source's header; see `Processor.probe`."""
        from optidash_integrations.engine.probe import probe

        return probe(source, limits)

    def process(
        self, source: ImageData, operations: Operations, output: Format | None, limits: Limits
    ) -> Variant:
        """Do the operations on a source; see `Processor.process`."""
        from optidash_integrations.engine.process import process

        return process(source, operations, output, limits)


def choose(name: str = "auto") -> Processor:
    """Return the processor that the setting `processor` names.

    `auto` and `engine` are the embedded engine; a dotted path is a class or a function without
    arguments, or an object. Raises SettingsError for a name that leads to no processor,
    ProcessorMissingError where the engine is not installed.
    """
    if name in ("auto", "engine"):
        return EngineProcessor()
    found = imported(name)
    if isinstance(found, type) or not isinstance(found, Processor):
        found = called(name, found) if callable(found) else found
    if not isinstance(found, Processor):
        raise SettingsError(
            [f'processor "{name}" lacks revision, formats, reads, probe or process']
        )
    return found


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
        takes = "auto, engine or the dotted path of a processor"
        raise SettingsError([f'processor takes {takes}, not "{path}": {error}']) from error
