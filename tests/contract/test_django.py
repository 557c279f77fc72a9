"""What only Django has: checks, settings, storages, fields, template tags, other middleware."""

from __future__ import annotations

import io
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import django
import pytest
from django.core.checks import run_checks
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage, storages
from django.core.files.uploadedfile import SimpleUploadedFile, TemporaryUploadedFile
from django.db import models
from django.template import engines
from django.test import override_settings
from PIL import Image

from optidash_integrations.django import conf
from optidash_integrations.django.storage import OptidashStorage
from optidash_integrations.errors import SettingsError
from optidash_integrations.settings import DEFAULT_WIDTHS
from tests.conftest import MakeSite
from tests.sites.base import Site
from tests.sites.django_site import OURS, SESSIONS
from tests.sites.inner import Route
from tests.sites.photos import CHROME, WEBP_ONLY, photo, with_exif

GZIP = "django.middleware.gzip.GZipMiddleware"
CONDITIONAL = "django.middleware.http.ConditionalGetMiddleware"


@pytest.fixture(params=["django", "django_async"])
def django_site(request: pytest.FixtureRequest, site_maker: MakeSite) -> MakeSite:
    """Give a function that makes a site of either mode."""

    def make(routes: Any = None, **more: Any) -> Site:
        return site_maker(request.param, routes, **more)

    return make


@pytest.fixture
def media(site_maker: MakeSite) -> Path:
    """Give the folder of uploads."""
    return site_maker("django").folder


def ids() -> list[str]:
    return [message.id or "" for message in run_checks() if "optidash" in (message.id or "")]


# Checks


def test_a_right_project_has_nothing_to_complain_of() -> None:
    assert ids() == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"OPTIDASH": ["MAX_WIDTH"]}, ["optidash.E001"]),
        ({"OPTIDASH": {"MAX_WIDHT": 9, "DEADLINE": "soon"}}, ["optidash.E002"] * 2),
        ({"OPTIDASH": {"max_width": 9}}, ["optidash.E002"]),
        ({"MIDDLEWARE": [SESSIONS, OURS]}, ["optidash.E003"]),
        ({"MIDDLEWARE": [GZIP, OURS]}, ["optidash.E003"]),
        ({"MIDDLEWARE": [CONDITIONAL, OURS]}, ["optidash.E003"]),
        ({"MIDDLEWARE": [OURS, GZIP, CONDITIONAL, SESSIONS]}, []),
        ({"MIDDLEWARE": [SESSIONS]}, []),
        ({"OPTIDASH": {"MAX_WIDTH": 9}}, []),
    ],
)
def test_each_mistake_has_an_id(changed: dict[str, Any], expected: list[str]) -> None:
    with override_settings(**changed):
        assert ids() == expected


def test_a_wrong_setting_is_named_as_it_is_written() -> None:
    with override_settings(OPTIDASH={"MAX_WIDTH": "wide", "WIDTS": []}):
        messages = [message.msg for message in run_checks() if message.id == "optidash.E002"]
    assert any(text.startswith('OPTIDASH["MAX_WIDTH"] takes') for text in messages)
    assert any("WIDTHS" in text for text in messages)


@pytest.mark.skipif(django.VERSION < (5, 1), reason="Django 4.2 reads DEFAULT_FILE_STORAGE")
def test_an_old_storage_setting_is_pointed_out() -> None:
    with override_settings(DEFAULT_FILE_STORAGE="a.b"):
        assert ids() == ["optidash.W004"]


def test_wrong_settings_are_raised_together() -> None:
    wrong = {"MAX_WIDTH": "wide", "DEADLINE": "soon"}
    with override_settings(OPTIDASH=wrong), pytest.raises(SettingsError) as raised:
        conf.current()
    assert len(raised.value.problems) == 2


def test_settings_follow_a_change() -> None:
    with override_settings(OPTIDASH={"QUEUE": 7}):
        assert conf.current().queue == 7
        assert conf.service().settings.queue == 7
    assert conf.current().queue != 7


def test_addresses_are_signed_with_keys_made_of_the_secret_key() -> None:
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"], OPTIDASH={}):
        keys = conf.current().signing_keys
        assert len(keys) == 2
        assert not {b"new", b"old"} & set(keys)


# Other middleware


@pytest.mark.parametrize("browser", [CHROME, CHROME | {"accept-encoding": "gzip"}])
def test_compressing_and_conditional_middleware_below_do_no_harm(
    django_site: MakeSite, browser: dict[str, str]
) -> None:
    site = django_site(
        {"/photo.jpg": Route(photo()), "/page.jpg": Route(b"<p>" * 500, "text/html")},
        framework={"middleware": (GZIP, CONDITIONAL)},
    )
    first, second = site.get("/photo.jpg", browser), site.get("/photo.jpg", browser)
    assert first.type == second.type == "image/avif"
    assert second.is_hit
    assert "content-encoding" not in first.headers
    tag = {"if-none-match": first.headers["etag"]}
    assert site.get("/photo.jpg", browser | tag).status == 304
    assert site.get("/photo.jpg", browser | tag).body == b""
    assert site.get("/page.jpg", browser).status == 200


@pytest.mark.filterwarnings("error")
def test_under_asgi_no_file_is_read_in_one_go(django_site: MakeSite) -> None:
    site = django_site(access="public", memory_bytes=1)
    site.keep("photo.jpg", photo(800, 600, quality=100))
    site.inner.routes["/photo.jpg"] = Route(site.folder / "photo.jpg")
    for target in ("/photo.jpg", f"{site.mount}photo.jpg"):
        for query in ("", "?fm=png"):
            replies = [site.get(target + query, CHROME) for _ in range(2)]
            assert replies[0].body == replies[1].body


def test_the_media_view_of_a_project_is_optimised(django_site: MakeSite) -> None:
    from django.views.static import serve

    site = django_site()
    path = site.keep("photo.jpg", photo())
    modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    assert serve is not None
    headers = (("Last-Modified", modified.strftime("%a, %d %b %Y %H:%M:%S GMT")),)
    site.inner.routes["/media/photo.jpg"] = Route(path, headers=headers)
    assert site.get("/media/photo.jpg", CHROME).type == "image/avif"


# Storages


def test_the_storage_is_the_default_one(media: Path) -> None:
    assert isinstance(storages["default"], OptidashStorage)
    name = default_storage.save("photo.jpg", ContentFile(photo()))
    assert (media / name).stat().st_size < len(photo())
    assert default_storage.exists(name)
    assert default_storage.size(name) < len(photo())
    with default_storage.open(name) as file:
        assert Image.open(file).size == (120, 80)
    default_storage.delete(name)
    assert not (media / name).exists()


@pytest.mark.skipif(django.VERSION >= (5, 1), reason="gone since Django 5.1")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_old_setting_names_the_storage_too(tmp_path: Path) -> None:
    script = f"""
import warnings; warnings.simplefilter("ignore")
import django
from django.conf import settings
settings.configure(
    SECRET_KEY="test", USE_TZ=True, INSTALLED_APPS=["optidash_integrations.django"],
    DEFAULT_FILE_STORAGE="optidash_integrations.django.storage.OptidashStorage",
    MEDIA_ROOT={str(tmp_path)!r}, OPTIDASH={{"CACHE_DIR": None}},
)
django.setup()
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.checks import run_checks
data = open({str(tmp_path / "in.jpg")!r}, "rb").read()
name = default_storage.save("out.jpg", ContentFile(data))
assert default_storage.size(name) < len(data), name
assert not run_checks()
"""
    (tmp_path / "in.jpg").write_bytes(photo())
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_storage_may_shrink_what_it_stores(media: Path) -> None:
    storage = OptidashStorage(max_width=60, operations={"output": {"format": "webp"}})
    name = storage.save("photo.jpg", ContentFile(photo()))
    with Image.open(media / name) as image:
        assert (name, image.format, image.size) == ("photo.webp", "WEBP", (60, 40))


def test_a_storage_of_its_own_saves_where_staticfiles_are_not_set_up(media: Path) -> None:
    with override_settings(STATIC_URL=None):
        storage = OptidashStorage(location=media / "own")
        assert storage.save("photo.jpg", ContentFile(photo())) == "photo.jpg"


@pytest.mark.parametrize(
    "content",
    [
        lambda: ContentFile(photo()),
        lambda: SimpleUploadedFile("x.jpg", photo(), "image/jpeg"),
        lambda: io.BytesIO(photo()),
        lambda: temporary(photo()),
    ],
    ids=["content", "simple", "bytes", "temporary"],
)
def test_every_kind_of_file_is_saved(media: Path, content: Any) -> None:
    name = default_storage.save("photo.jpg", content())
    assert (media / name).stat().st_size < len(photo())


def temporary(data: bytes) -> TemporaryUploadedFile:
    file = TemporaryUploadedFile("x.jpg", "image/jpeg", len(data), None)
    file.write(data)
    return file


def test_a_file_that_was_read_already_is_saved_whole(media: Path) -> None:
    file = ContentFile(b"notes, not an image")
    file.read()
    name = default_storage.save("notes.txt", file)
    assert (media / name).read_bytes() == b"notes, not an image"


def test_a_name_that_leads_out_of_the_folder_is_refused(media: Path) -> None:
    from django.core.exceptions import SuspiciousFileOperation

    with pytest.raises(SuspiciousFileOperation):
        default_storage.save("../photo.jpg", ContentFile(photo()))
    assert not (media.parent / "photo.jpg").exists()


def test_migrations_write_the_storage_as_it_was_made() -> None:
    storage = OptidashStorage(max_width=60)
    path, args, kwargs = storage.deconstruct()  # type: ignore[attr-defined]
    assert path == "optidash_integrations.django.storage.OptidashStorage"
    assert (args, kwargs) == ((), {"max_width": 60})


# Fields


@pytest.mark.django_db
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_columns_of_an_image_field_tell_the_size_that_is_stored(
    media: Path, orientation: int
) -> None:
    from tests.sites.gallery.models import Photo

    upload = SimpleUploadedFile("photo.png", with_exif(orientation=orientation), "image/png")
    saved = Photo.objects.create(image=upload)
    saved.refresh_from_db()
    upright = (80, 120) if orientation == 6 else (120, 80)
    assert (saved.width, saved.height) == upright
    assert (saved.image.width, saved.image.height) == upright
    assert saved.image.name == "photos/photo.jpg"
    with Image.open(media / saved.image.name) as stored:
        assert stored.size == upright


@pytest.mark.django_db
def test_a_field_in_a_template_leads_to_its_picture(django_site: MakeSite) -> None:
    from tests.sites.gallery.models import Photo

    site = django_site()
    upload = SimpleUploadedFile("photo.jpg", photo(700, 500), "image/jpeg")
    saved = Photo(image=upload)
    saved.image.save("photo.jpg", upload, save=False)
    address = site.helper("url", saved.image, w=320)
    assert address.startswith("/img/default/photos/photo.jpg?")
    assert "v=" in address
    assert site.get(address, WEBP_ONLY).size == (320, 229)
    markup = site.helper("img", saved.image, alt="A cat")
    assert 'width="700"' in markup
    assert 'height="500"' in markup


def test_an_empty_field_is_nothing_in_a_template() -> None:
    from tests.sites.gallery.models import Photo

    source = '{% load optidash %}[{% optidash_url image w=9 %}{% optidash_img image alt="" %}]'
    assert engines["django"].from_string(source).render({"image": Photo().image}) == "[]"


def test_a_tag_gives_its_result_to_a_variable(media: Path) -> None:
    source = '{% load optidash %}{% optidash_url "/a.jpg" w=320 as there %}<{{ there|length }}>'
    assert engines["django"].from_string(source).render({}) != "<0>"


def test_markup_is_not_escaped_twice(media: Path) -> None:
    source = '{% load optidash %}{% optidash_img "/a.jpg" alt=text %}'
    shown = engines["django"].from_string(source).render({"text": "a & b"})
    assert shown.startswith("<img ")
    assert 'alt="a &amp; b"' in shown


def test_a_field_in_another_storage_keeps_its_own_address(media: Path) -> None:
    class Remote(models.Model):
        image = models.ImageField(
            storage=OptidashStorage(location=media / "own", base_url="https://cdn.example/")
        )

        class Meta:
            app_label = "gallery"

        def __str__(self) -> str:
            return str(self.pk)

    remote = Remote(image="a.jpg")
    source = "{% load optidash %}{% optidash_url image w=320 %}"
    shown = engines["django"].from_string(source).render({"image": remote.image})
    assert shown.startswith("https://cdn.example/a.jpg?w=320")


# The endpoint


def test_the_endpoint_wants_a_signature_unless_it_is_open(django_site: MakeSite) -> None:
    site = django_site()
    site.keep("photo.jpg", photo(700, 500))
    assert site.get("/img/default/photo.jpg?w=320", CHROME).status == 403
    assert site.get(site.helper("url", "photo.jpg", w=320), CHROME).status == 200
    assert DEFAULT_WIDTHS[0] == 320


@pytest.mark.parametrize("alias", ["nothing", "staticfiles", "__class__"])
def test_a_storage_that_is_not_there_is_not_found(django_site: MakeSite, alias: str) -> None:
    site = django_site(access="public")
    assert site.get(f"/img/{alias}/photo.jpg", CHROME).status in (403, 404)


def test_a_storage_without_a_folder_is_read_through_its_own_methods(
    django_site: MakeSite,
) -> None:
    backends = {
        "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    site = django_site(access="public")
    with override_settings(STORAGES=backends):
        storages["default"].save("photo.jpg", ContentFile(photo()))
        for _ in range(2):
            reply = site.get("/img/default/photo.jpg?w=60", WEBP_ONLY)
            assert (reply.status, reply.size) == (200, (60, 40))
        assert site.get("/img/default/nothing.jpg", CHROME).status == 404
