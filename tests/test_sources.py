from __future__ import annotations

from pathlib import Path

import pytest

from optidash_integrations.errors import SourceNotFoundError
from optidash_integrations.sources import Directory, is_safe_name, path_of_open


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    (root / "a").mkdir(parents=True)
    (root / "a" / "photo.jpg").write_bytes(b"x")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    return root


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../secret.jpg",
        "a/../../secret.jpg",
        "/etc/passwd.jpg",
        "a//photo.jpg",
        "a\\photo.jpg",
        "./a/photo.jpg",
        ".hidden.jpg",
        "a/.hidden/photo.jpg",
        "c:photo.jpg",
        "photo\x00.jpg",
        "photo\n.jpg",
        "a/photo.txt",
        "a",
        "x" * 2000 + ".jpg",
    ],
)
def test_a_name_that_could_lead_elsewhere_is_no_image(folder, name):
    with pytest.raises(SourceNotFoundError):
        Directory(folder).find(name)


@pytest.mark.parametrize("name", ["photo.jpg", "a/b c/größe.JPEG", "2026..final.png"])
def test_ordinary_names_are_safe(name):
    assert is_safe_name(name)


def test_a_link_out_of_the_folder_is_refused_unless_it_is_allowed(folder):
    (folder / "link.jpg").symlink_to(folder.parent / "secret.jpg")
    with pytest.raises(SourceNotFoundError, match="leads out"):
        Directory(folder).find("link.jpg")
    assert Directory(folder, follow_links=True).find("link.jpg").path.read_bytes() == b"secret"


def test_a_link_within_the_folder_is_followed(folder):
    (folder / "link.jpg").symlink_to(folder / "a" / "photo.jpg")
    assert Directory(folder).find("link.jpg").path.read_bytes() == b"x"


def test_the_validator_changes_with_the_bytes(folder):
    source = Directory(folder).find("a/photo.jpg")
    before = source.validator()
    source.path.write_bytes(b"longer")
    assert source.validator() != before


@pytest.mark.parametrize("name", ["a/none.jpg", "a.jpg"])
def test_what_is_missing_or_no_file_is_not_found(folder, name):
    (folder / "a.jpg").mkdir(exist_ok=True)
    with pytest.raises(SourceNotFoundError):
        Directory(folder).find(name).validator()


def test_only_a_file_open_at_its_beginning_has_a_path(folder):
    path = folder / "a" / "photo.jpg"
    with path.open("rb") as file:
        assert path_of_open(file) == path
        file.read(1)
        assert path_of_open(file) is None
    assert path_of_open(file) is None
    assert path_of_open(object()) is None
