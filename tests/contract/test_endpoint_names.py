"""Names that could lead out of the folder of images. SRV-15, SRV-16, SRV-17."""

from __future__ import annotations

import pytest

from tests.conftest import MakeSite
from tests.sites.base import Site
from tests.sites.photos import WEBP_ONLY, photo

HOSTILE = [
    "../secret.jpg",
    "..",
    "../",
    "./photo.jpg",
    "a/../photo.jpg",
    "a/../../secret.jpg",
    "a/..//../secret.jpg",
    "....//secret.jpg",
    ".../secret.jpg",
    "%2e%2e/secret.jpg",
    "%2e%2e%2fsecret.jpg",
    "..%2fsecret.jpg",
    "..%2Fsecret.jpg",
    "%252e%252e/secret.jpg",
    "%252e%252e%252fsecret.jpg",
    "..%252fsecret.jpg",
    "..%c0%afsecret.jpg",
    "%c0%ae%c0%ae/secret.jpg",
    "..%5csecret.jpg",
    "..\\secret.jpg",
    "a\\..\\..\\secret.jpg",
    "%5c%5chost%5cshare%5csecret.jpg",
    "/secret.jpg",
    "//secret.jpg",
    "%2fsecret.jpg",
    "%2f%2fsecret.jpg",
    "c:/secret.jpg",
    "c:secret.jpg",
    "C%3a%5csecret.jpg",
    "file:///secret.jpg",
    "photo.jpg/../../secret.jpg",
    "photo.jpg%00",
    "photo.jpg%00.png",
    "../secret.jpg%00photo.jpg",
    "photo.jpg%0a",
    "photo%0d%0a.jpg",
    "photo.jpg%20",
    "photo.jpg.",
    "photo.jpg::$DATA",
    "photo.jpg/",
    "~/secret.jpg",
    "~root/secret.jpg",
    ".secret.jpg",
    "a/.secret.jpg",
    ".git/secret.jpg",
    "notes.txt",
    "%e2%80%ae.jpg",
    "%ef%bc%8e%ef%bc%8e/secret.jpg",
    "a" * 5000 + ".jpg",
    "a/" * 1000 + "secret.jpg",
]


@pytest.fixture
def guarded(make_site: MakeSite) -> Site:
    site = make_site(access="public")
    for name in ("photo.jpg", ".secret.jpg", "a/.secret.jpg", ".git/secret.jpg", "notes.txt"):
        site.keep(name, photo())
    (site.folder.parent / "secret.jpg").write_bytes(photo(seed=7))
    return site


@pytest.mark.srv("SRV-15", "SRV-17")
def test_no_name_leads_out_of_the_folder_or_to_what_is_hidden(guarded: Site) -> None:
    assert len(HOSTILE) >= 40
    for name in HOSTILE:
        for raw in (True, False):
            reply = guarded.get(guarded.mount + name, WEBP_ONLY, raw=raw)
            assert not reply.type.startswith("image/"), name
            assert reply.status in (301, 302, 307, 308, 400, 404), name
            assert str(guarded.folder.parent).encode() not in reply.body


@pytest.mark.srv("SRV-16")
def test_links_out_of_the_folder_are_refused_by_default(guarded: Site) -> None:
    (guarded.folder / "link.jpg").symlink_to(guarded.folder.parent / "secret.jpg")
    (guarded.folder / "up").symlink_to(guarded.folder.parent)
    (guarded.folder / "inside.jpg").symlink_to(guarded.folder / "photo.jpg")
    assert guarded.get(guarded.mount + "link.jpg", WEBP_ONLY).status == 404
    assert guarded.get(guarded.mount + "up/secret.jpg", WEBP_ONLY).status == 404
    assert guarded.get(guarded.mount + "inside.jpg", WEBP_ONLY).status == 200
