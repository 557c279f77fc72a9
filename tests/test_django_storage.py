"""The storage keeps whatever it is given."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pytest
from django.core.files.base import ContentFile, File
from django.test import override_settings
from PIL import Image

from optidash_integrations.django.storage import OptidashStorage

GPS = 0x8825


@pytest.fixture
def storage(tmp_path: Path):
    with override_settings(OPTIDASH={"CACHE_DIR": None, "MAX_PIXELS": 100_000}):
        yield OptidashStorage(location=tmp_path / "media")


def photo(size: tuple[int, int]) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(GPS)[2] = (52.0, 30.0, 0.0)
    out = BytesIO()
    Image.effect_noise(size, 30).convert("RGB").save(out, "JPEG", exif=exif, quality=95)
    return out.getvalue()


def test_text_is_stored_as_text(storage):
    name = storage.save("a.txt", ContentFile("hello"))
    assert Path(storage.path(name)).read_text() == "hello"


def test_a_pipe_is_stored_whole(storage):
    reading, writing = os.pipe()
    os.write(writing, b"\xff\xd8\xff through a pipe")
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        pipe.seekable()
        name = storage.save("a.jpg", File(pipe, name="a.jpg"))
    assert Path(storage.path(name)).read_bytes() == b"\xff\xd8\xff through a pipe"


def test_a_photo_past_the_limits_is_stored_without_its_position(storage):
    data = photo((400, 300))
    name = storage.save("a.jpg", ContentFile(data))
    stored = Image.open(storage.path(name))
    assert stored.tobytes() == Image.open(BytesIO(data)).tobytes()
    assert not stored.getexif().get_ifd(GPS)


def test_a_broken_photo_is_stored_as_it_came(storage):
    data = photo((300, 200))[:-500]
    assert Path(storage.path(storage.save("a.jpg", ContentFile(data)))).read_bytes() == data


def test_a_photo_is_stored_smaller_and_never_over_another(storage):
    data = photo((300, 200))
    names = {storage.save("photos/a.jpg", ContentFile(data)) for _ in range(2)}
    assert len(names) == 2
    assert all(storage.size(name) < len(data) for name in names)


def test_a_failure_after_the_upload_is_stored_does_not_lose_it(tmp_path):
    broken = {"BACKEND": "no.such.Storage"}
    fine = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
    with override_settings(STORAGES={"default": fine, "broken": broken, "staticfiles": fine}):
        storage = OptidashStorage(location=tmp_path)
        name = storage.save("a.jpg", ContentFile(photo((300, 200))))
    assert (tmp_path / name).stat().st_size > 0
