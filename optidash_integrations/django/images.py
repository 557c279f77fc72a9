"""What Django's template tags refer to: fields, names in storages, addresses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import quote

from django.core.files.storage import Storage, storages
from django.db.models.fields.files import FieldFile
from django.urls import NoReverseMatch, reverse

from optidash_integrations.access import SIGNED
from optidash_integrations.django import conf
from optidash_integrations.django.storages import DEFAULT, alias_of, find, source_name
from optidash_integrations.errors import ImageError, OptidashError
from optidash_integrations.images import (
    Images,
    Reference,
    fallback_of,
    file_record,
    is_address,
    recorded,
)
from optidash_integrations.records import SourceRecord, record_key
from optidash_integrations.service import Service
from optidash_integrations.settings import Settings
from optidash_integrations.sources import FileSource
from optidash_integrations.store import record_of


class DjangoImages(Images):
    """Addresses and markup for images in a project's storages."""

    rule = SIGNED

    @property
    def settings(self) -> Settings:  # type: ignore[override]
        """The project's settings."""
        return conf.current()

    @property
    def service(self) -> Service:
        """The project's service."""
        return conf.service()

    def refer(self, image: Any) -> Reference:
        """Return the reference for an image field's file, a name in the default storage, or an
        address.
        """
        if isinstance(image, FieldFile):
            return self.field(image)
        name = str(image)
        if is_address(name):
            return Reference(name, fallback=fallback_of(name), intercepted=True)
        return self.stored(DEFAULT, name, None)

    def field(self, file: FieldFile) -> Reference:
        alias = alias_of(file.storage)
        name = file.name or ""
        if alias is None:
            size = columns(file)
            return Reference(file.url, *size, fallback=fallback_of(name), intercepted=True)
        reference = self.stored(alias, name, file.storage)
        width, height = columns(file)
        if width is None or height is None:
            return reference
        return replace(reference, width=width, height=height)

    def stored(self, alias: str, name: str, storage: Storage | None) -> Reference:
        address = self.endpoint(alias, name)
        own = storage or storages[alias]
        try:
            record = self.record(alias, name)
        except ImageError as error:  # the endpoint would refuse it too
            self.service.note(name, error)
            return Reference(own.url(name), fallback=fallback_of(name), variants=False)
        shown, intercepted = address or own.url(name), address is None
        if record is None:
            return Reference(shown, fallback=fallback_of(name), intercepted=intercepted)
        return recorded(shown, record, intercepted=intercepted)

    def endpoint(self, alias: str, name: str) -> str | None:
        """Return an image's address at the endpoint, or None where the project has none."""
        if self.settings.base_url:
            return f"{self.settings.base_url.rstrip('/')}/{quote(alias)}/{quote(name)}"
        try:
            return reverse("optidash:image", args=(alias, name))
        except NoReverseMatch:
            return None

    def record(self, alias: str, name: str) -> SourceRecord | None:
        """Return what is known of a stored image, without asking a remote storage.

        Raises `ImageError` for a local file that is not an image to work on.
        """
        try:
            source = find(alias, name)
            if isinstance(source, FileSource):
                return file_record(self.service, source)
        except ImageError:
            raise
        except OptidashError as error:
            self.service.note(name, error)
            return None
        key = record_key(source_name(alias, name), None)
        return record_of(self.service.store.quick(key) or self.service.store.get(key))


def columns(file: FieldFile) -> tuple[int | None, int | None]:
    """Return an image's size from its model's own columns, where it has them."""
    field = file.field
    names = (getattr(field, "width_field", None), getattr(field, "height_field", None))
    width, height = (getattr(file.instance, name, None) if name else None for name in names)
    return width, height


IMAGES = DjangoImages()
