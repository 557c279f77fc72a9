"""The helpers that templates call, the same for every framework: addresses and markup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from optidash_integrations.access import PUBLIC
from optidash_integrations.errors import OptidashError, OptionError
from optidash_integrations.formats import JPEG, PNG, of_path
from optidash_integrations.markup import Options, Picture, img, picture_element, srcset
from optidash_integrations.negotiation import base_format
from optidash_integrations.operations import Operations
from optidash_integrations.records import SourceRecord, identify, record_key
from optidash_integrations.service import Service
from optidash_integrations.settings import Settings
from optidash_integrations.sources import Directory, FileSource
from optidash_integrations.store import record_of
from optidash_integrations.urls import Pair

DEFAULT_BASE_URL = "/img/"

# Keywords of the helpers that are options of the image; Python's names have no dash.
OPTION_KEYWORDS = frozenset({"w", "h", "fit", "crop", "q", "fm", "dpr", "bg", "rect"})
DASHED = {"fp_x": "fp-x", "fp_y": "fp-y"}


@dataclass(frozen=True, slots=True)
class Reference:
    """An image that a page refers to: its address without options, and what is known of it.

    Without `variants` it is only shown as it is, whatever the options. `intercepted` says that it
    is not at the endpoint, so that the middleware makes them.
    """

    address: str
    width: int | None = None
    height: int | None = None
    version: str | None = None
    fallback: str = JPEG.name
    variants: bool = True
    intercepted: bool = False


class Images:
    """Makes addresses and markup. A subclass says in `refer` what an image's address is."""

    settings: Settings
    rule: object = PUBLIC

    @property
    def service(self) -> Service:
        """The service whose settings and records count."""
        raise NotImplementedError

    def refer(self, image: Any) -> Reference:
        """Return the reference for what a template names."""
        raise NotImplementedError

    def url(
        self,
        image: Any,
        *,
        expires: float | None = None,
        starts: datetime | float | None = None,
        **options: Any,
    ) -> str:
        """Return an image's address with options: `url("photo.jpg", w=640, fit="crop")`.

        It is signed where it would not work otherwise; `expires` is in seconds from now, `starts`
        a datetime or seconds since the epoch.
        """
        reference = self.reference(image)
        if reference is None:
            return ""
        return self.address(reference, named_options(options), expires, starts)

    def srcset(self, image: Any, **options: Any) -> str:
        """Return the value of a `srcset` attribute for an image."""
        reference = self.reference(image)
        if reference is None:
            return ""
        if not reference.variants:
            return reference.address
        return srcset(self.picture_of(reference), self.settings.widths, named_options(options))

    def img(
        self,
        image: Any,
        *,
        alt: str | None = None,
        sizes: str | None = None,
        priority: bool = False,
        **others: Any,
    ) -> str:
        """Return an `<img>` element; `alt` is required.

        Options of the image (`w`, `h`, `fit` …) may be among the other keywords; the rest are
        attributes. `priority` is for the largest image in view: it is loaded at once and first.
        """
        reference = self.reference(image)
        if reference is None:
            return ""
        options, attributes = parted(others)
        return img(
            self.picture_of(reference),
            self.settings.widths if reference.variants else (),
            alt=alt,
            sizes=sizes,
            options=options,
            priority=priority,
            attributes=attributes,
        )

    def picture(
        self,
        image: Any,
        *,
        alt: str | None = None,
        sizes: str | None = None,
        priority: bool = False,
        **others: Any,
    ) -> str:
        """Return a `<picture>` element with a `<source>` for each format; else as `img`."""
        reference = self.reference(image)
        if reference is None:
            return ""
        options, attributes = parted(others)
        return picture_element(
            self.picture_of(reference),
            self.settings.widths if reference.variants else (),
            self.settings.formats if reference.variants else (),
            alt=alt,
            sizes=sizes,
            options=options,
            priority=priority,
            attributes=attributes,
        )

    def reference(self, image: Any) -> Reference | None:
        """Return the reference for what a template names; None for nothing, as an empty field."""
        if not image:
            return None
        if isinstance(image, str) and image.startswith("data:"):
            return Reference(image, variants=False)
        return self.refer(image)

    def picture_of(self, reference: Reference) -> Picture:
        return Picture(
            address=lambda options: self.address(reference, options),
            width=reference.width,
            height=reference.height,
            fallback=reference.fallback,
            max_width=self.settings.max_width,
            max_height=self.settings.max_height,
        )

    def address(
        self,
        reference: Reference,
        options: Options,
        expires: float | None = None,
        starts: datetime | float | None = None,
    ) -> str:
        if not reference.variants:
            return reference.address
        rule = PUBLIC if reference.intercepted else self.settings.access or self.rule
        version = [("v", reference.version)] if reference.version else []
        make = partial(self.service.access.address, rule=rule, expires=expires, starts=starts)
        try:
            pairs, asked = self.checked(options)
            return make(reference.address, [*pairs, *version], asked)
        except OptionError as error:
            if self.settings.on_error == "raise":
                raise
            self.service.note(reference.address, error)
            return make(reference.address, version, Operations())

    def checked(self, options: Options) -> tuple[list[Pair], Operations]:
        """Return options as pairs, sorted, and what they mean. Raises QueryError."""
        pairs = [(name, str(value)) for name, value in sorted(options.items()) if value is not None]
        return pairs, Operations.from_query(pairs, limits=self.settings.limits)


class DirectoryImages(Images):
    """Images that the endpoint serves from a folder, by name; other addresses pass as they are."""

    @property
    def endpoint(self) -> str:
        """Where the endpoint is in the application, with a slash at the end."""
        return (self.settings.base_url or DEFAULT_BASE_URL).rstrip("/") + "/"

    @property
    def base_url(self) -> str:
        """Where browsers find the endpoint."""
        return self.endpoint

    @property
    def root(self) -> Path | None:
        """The endpoint's folder."""
        return self.settings.directory

    def refer(self, image: Any) -> Reference:
        """Return the reference for a name in the folder, or for an address."""
        name = str(image)
        if is_address(name):
            return Reference(name, fallback=fallback_of(name), intercepted=True)
        address = self.base_url + quote(name)
        if self.root is None:
            return Reference(address, fallback=fallback_of(name))
        try:
            record = file_record(self.service, Directory.of(self.root, self.settings).find(name))
        except OptidashError as error:
            self.service.note(name, error)
            return Reference(address, fallback=fallback_of(name))
        return recorded(address, record)


def is_address(image: str) -> bool:
    """Say whether a text is an address and not a name."""
    return image.startswith(("/", "http://", "https://"))


def file_record(service: Service, source: FileSource) -> SourceRecord:
    """Return what is known of a local file; it is read once per change.

    Raises `SourceNotFoundError` or `ImageError`.
    """
    validator = source.validator()
    key = record_key(source.name, validator)
    record = record_of(service.store.quick(key) or service.store.get(key))
    if record is None:
        record = identify(source.path, service.processor, service.settings.limits, validator)
        service.store.remember(source.name, record, newest=True)
    return record


def recorded(address: str, record: SourceRecord, *, intercepted: bool = False) -> Reference:
    """Return the reference for a source of which there is a record."""
    fallback = base_format(record.format, alpha=record.alpha).name
    return Reference(
        address,
        record.width,
        record.height,
        record.version,
        fallback,
        intercepted=intercepted,
    )


def fallback_of(name: str) -> str:
    """Return the format for browsers that know neither AVIF nor WebP, by a name's extension."""
    found = of_path(name)
    return PNG.name if found is not None and found.alpha and found.name != "webp" else JPEG.name


def named_options(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return options under their names in a query: `fp_x` is `fp-x`."""
    return {DASHED.get(name, name): value for name, value in keywords.items()}


def parted(keywords: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part a helper's keywords into options of the image and attributes of the element."""
    options = {n: v for n, v in keywords.items() if n in OPTION_KEYWORDS or n in DASHED}
    attributes = {n: v for n, v in keywords.items() if n not in options}
    return named_options(options), attributes
