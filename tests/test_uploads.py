from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from optidash_integrations.errors import (
    BrokenImageError,
    ImageError,
    ProcessorError,
    SourceNotFoundError,
)
from optidash_integrations.flows import run
from optidash_integrations.operations import Operations
from optidash_integrations.processors import EngineProcessor
from optidash_integrations.service import Service
from optidash_integrations.settings import Settings
from optidash_integrations.uploads import optimised, save, stem_of, write_new

GPS = 0x8825


class Failing(EngineProcessor):
    """The engine, whose encoder has a bad day."""

    def process(self, *_):
        raise ProcessorError("no memory")


@pytest.fixture
def service():
    made = Service(Settings(cache_dir=None))
    yield made
    made.close()


def photo(
    form: str = "JPEG",
    size: tuple[int, int] = (400, 300),
    *,
    orientation: int = 1,
    position: bool = False,
    **options: object,
) -> bytes:
    image = Image.effect_noise(size, 30).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    if position:
        exif.get_ifd(GPS)[2] = (52.0, 30.0, 0.0)
    out = BytesIO()
    image.save(out, form, exif=exif, **options)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data))


def test_an_upload_becomes_smaller_and_keeps_its_size(service):
    data = photo(quality=97)
    upload = run(optimised(service, data))
    assert len(upload.content) < len(data) == upload.original_bytes
    assert (upload.width, upload.height, upload.format.name) == (400, 300, "jpg")


def test_a_turned_photo_is_stored_upright(service):
    upload = run(optimised(service, photo(orientation=6, quality=95)))
    assert (upload.width, upload.height) == opened(upload.content).size == (300, 400)
    assert opened(upload.content).getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("quality", [5, 97])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_the_position_is_lost_whether_the_upload_shrinks_or_not(service, form, quality):
    options = {} if form == "PNG" else {"quality": quality}
    data = photo(form, position=True, **options)
    assert opened(data).getexif().get_ifd(GPS)
    upload = run(optimised(service, data))
    assert len(upload.content) <= len(data)
    assert not opened(upload.content).getexif().get_ifd(GPS)
    assert b"GPS" not in upload.content


def test_one_that_would_grow_is_kept_as_it_is(service):
    data = photo("WEBP", quality=1)
    assert opened(run(optimised(service, data)).content).tobytes() == opened(data).tobytes()


def test_operations_of_the_storage_are_done(service):
    operations = Operations.from_dict({"resize": {"width": 100}, "output": {"format": "webp"}})
    upload = run(optimised(service, photo(), operations))
    assert (upload.width, upload.format.name) == (100, "webp")


def test_a_larger_upload_than_a_variant_may_be_keeps_its_size():
    service = Service(Settings(cache_dir=None, max_width=100, max_height=100))
    assert run(optimised(service, photo(quality=97))).width == 400


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff\xe0junk", photo()[:2000]])
def test_what_is_not_a_whole_image_is_refused(service, tmp_path, data):
    with pytest.raises(ImageError):
        run(save(service, tmp_path, data, "a.jpg"))
    assert list(tmp_path.iterdir()) == []


def test_too_many_pixels_are_refused(tmp_path):
    service = Service(Settings(cache_dir=None, max_pixels=1000))
    with pytest.raises(ImageError, match="max_pixels"):
        run(save(service, tmp_path, photo(), "a.jpg"))


def test_when_the_processor_fails_the_upload_is_stored_whole(tmp_path):
    service = Service(Settings(cache_dir=None), processor=Failing())
    data = photo(position=True)
    saved = run(save(service, tmp_path, data, "a.jpg"))
    stored = (tmp_path / saved.name).read_bytes()
    assert opened(stored).tobytes() == opened(data).tobytes()
    assert not opened(stored).getexif().get_ifd(GPS)


def test_save_tells_what_it_stored(service, tmp_path):
    data = photo(quality=97)
    saved = run(save(service, tmp_path, data, "my cat.jpg", "uploads/"))
    stored = (tmp_path / saved.name).read_bytes()
    assert saved.name == "uploads/my-cat.jpg"
    assert saved.content_type == "image/jpeg"
    assert (saved.bytes, saved.original_bytes) == (len(stored), len(data))
    assert saved.saved_bytes == len(data) - len(stored)
    assert [p.name for p in (tmp_path / "uploads").iterdir()] == ["my-cat.jpg"]


def test_the_extension_fits_the_bytes(service, tmp_path):
    assert run(save(service, tmp_path, photo("PNG"), "photo.jpg")).name == "photo.png"
    assert run(save(service, tmp_path, photo("TIFF"), "scan.tif")).name == "scan.jpg"


def test_the_pages_of_a_scan_are_not_lost(service):
    pages = [Image.new("L", (40, 30), shade) for shade in (0, 100, 200)]
    out = BytesIO()
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:])
    assert run(optimised(service, out.getvalue())).content == out.getvalue()


def test_nothing_is_overwritten(service, tmp_path):
    names = {run(save(service, tmp_path, photo(), "a.jpg")).name for _ in range(3)}
    assert len(names) == 3
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("folder", ["..", "../other", "a/../../b", ".hidden"])
def test_a_folder_outside_is_refused(service, tmp_path, folder):
    root = tmp_path / "media"
    with pytest.raises(SourceNotFoundError):
        run(save(service, root, photo(), "a.jpg", folder))
    assert not list(tmp_path.rglob("*.jpg"))


@pytest.mark.parametrize(
    ("filename", "stem"),
    [
        ("photo.jpg", "photo"),
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\größe.jpg", "größe"),
        ("a b  c.tar.jpg", "a-b-c.tar"),
        (".jpg", "jpg"),
        ("", "image"),
        (None, "image"),
        ("<script>.png", "script"),
        ("x" * 300 + ".jpg", "x" * 180),
        ("写真" * 100 + ".jpg", "写真" * 30),
    ],
)
def test_a_file_name_becomes_a_safe_stem(filename, stem):
    assert stem_of(filename) == stem


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("optidash_integrations.uploads.os.fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        write_new(b"x", tmp_path, lambda suffix: f"a{suffix}.jpg")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_links_is_written_all_the_same(tmp_path: Path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("optidash_integrations.uploads.os.link", refuse)
    names = [write_new(b"x", tmp_path, lambda suffix: f"a{suffix}.jpg") for _ in range(2)]
    assert len(set(names)) == 2
    assert {p.name for p in tmp_path.iterdir()} == set(names)


def test_broken_position_data_is_no_reason_to_lose_an_upload(service):
    with pytest.raises(BrokenImageError):
        run(optimised(service, photo()[:-400]))
