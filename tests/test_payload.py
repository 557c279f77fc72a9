from __future__ import annotations

import codecs
import errno
import hashlib
import io
import os
import signal
import stat
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from optidash_integrations import formats
from optidash_integrations.errors import DownloadError, OptionError, ProtocolError
from optidash_integrations.payload import Arrival, FileSink, MemorySink, Sink, Upload
from optidash_integrations.variants import ImageInfo
from tests.engine.pictures import encoded, quarters

CONTENT = bytes(range(256)) * 40


class Stream(io.RawIOBase):
    """A file that can't be rewound, such as a socket."""

    def __init__(self, content: bytes) -> None:
        self.inner = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self.inner.readinto(buffer)


def form_of(upload: Upload) -> tuple[httpx.Headers, bytes]:
    """Return the headers and the body of a form as the HTTP library makes it."""
    with upload.opened() as source:
        files = {"file": (upload.name, source, "application/octet-stream")}
        request = httpx.Request("POST", "https://h.example/", data={"data": "{}"}, files=files)
        return request.headers, request.read()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "photo.jpg"
    found.write_bytes(CONTENT)
    return found


# What goes up


def sources(path: Path) -> Iterator[tuple[Any, str]]:
    yield CONTENT, "image"
    yield path, "photo.jpg"
    yield str(path), "photo.jpg"
    yield io.BytesIO(CONTENT), "image"


def test_bytes_paths_and_files_are_sent_whole_with_their_length(path: Path) -> None:
    for source, name in sources(path):
        upload = Upload(source)
        assert (upload.name, upload.length, upload.can_be_repeated) == (name, len(CONTENT), True)
        for _ in range(2):
            headers, body = form_of(upload)
            assert int(headers["content-length"]) == len(body)
            assert body.count(CONTENT) == 1
            assert f'filename="{name}"'.encode() in body


def test_an_open_file_is_sent_from_its_beginning_and_keeps_its_name(path: Path) -> None:
    with path.open("rb") as file:
        file.seek(100)
        upload = Upload(file)
        assert (upload.name, upload.length) == ("photo.jpg", len(CONTENT))
        assert CONTENT in form_of(upload)[1]
        assert CONTENT in form_of(upload)[1]
        assert not file.closed


def test_a_wrapper_is_believed_and_not_the_descriptor_below_it(path: Path) -> None:
    """What a spooled file or an upload's wrapper gives can be another length than its file's."""
    with tempfile.SpooledTemporaryFile() as file:
        file.write(b"short")
        assert Upload(file).length == 5
    with path.open("rb") as below:

        class Part(io.BytesIO):
            def fileno(self) -> int:
                return below.fileno()

        headers, body = form_of(Upload(Part(b"a part")))
        assert int(headers["content-length"]) == len(body)


def test_a_file_that_is_not_rewound_is_sent_once_from_where_it_is() -> None:
    stream = Stream(CONTENT)
    assert stream.read(56) == CONTENT[:56]
    upload = Upload(stream)
    assert (upload.length, upload.can_be_repeated) == (None, False)
    headers, body = form_of(upload)
    assert "content-length" not in headers
    assert CONTENT[56:] in body
    assert CONTENT not in body


def test_a_pipe_is_a_file_that_is_not_rewound() -> None:
    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb") as source, os.fdopen(theirs, "wb") as end:
        end.write(b"through a pipe")
        end.close()
        upload = Upload(source)
        assert (upload.name, upload.can_be_repeated) == ("image", False)
        assert b"through a pipe" in form_of(upload)[1]


@pytest.mark.parametrize(
    "source", [None, 5, object(), bytearray(b"x"), ["photo.jpg"], io.StringIO("text")]
)
def test_what_is_no_source_is_refused(source: Any) -> None:
    with pytest.raises(OptionError, match="source takes a path, bytes or a file"):
        Upload(source)


def test_a_file_open_for_text_or_closed_is_refused(path: Path) -> None:
    with path.open(encoding="latin-1") as file, pytest.raises(OptionError, match="reading bytes"):
        Upload(file)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="source takes"):
        Upload(file)  # type: ignore[arg-type]
    closed = path.open("rb")
    closed.close()
    with pytest.raises(OptionError, match="a file that is open"):
        Upload(closed)


def test_a_wrapper_of_a_file_open_for_text_is_refused(path: Path) -> None:
    path.write_text("text")
    with (
        tempfile.NamedTemporaryFile("w+", encoding="utf-8") as named,
        tempfile.SpooledTemporaryFile(mode="w+", encoding="utf-8") as spooled,
        codecs.open(str(path), encoding="utf-8") as decoded,
    ):
        for file in (named, spooled, decoded):
            with pytest.raises(OptionError, match="file open for reading bytes"):
                Upload(file)  # type: ignore[arg-type]
        named.close()
        with pytest.raises(OptionError, match="source takes"):
            Upload(named)  # type: ignore[arg-type]


def test_a_wrapper_of_a_file_open_for_bytes_is_a_source() -> None:
    class Labelled(io.BytesIO):
        """An answer's body, whose encoding is not that of a text."""

        encoding = "br"

    with tempfile.NamedTemporaryFile() as named, tempfile.SpooledTemporaryFile() as spooled:
        for file in (named, spooled, Labelled()):
            file.write(CONTENT)
            assert CONTENT in form_of(Upload(file))[1]  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["a\0b.jpg", Path("a\0b.jpg"), "\0"])
def test_a_path_that_no_system_takes_is_refused(source: Any) -> None:
    with pytest.raises(OptionError, match="source takes a path, bytes or a file"):
        Upload(source)
    with pytest.raises(OptionError, match="path takes the path of a file"):
        FileSink(source)


def test_a_source_without_bytes_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jpg"
    empty.touch()
    with empty.open("rb") as file:
        for source in (b"", empty, str(empty), file, io.BytesIO()):
            with pytest.raises(OptionError, match="source takes an image, not what has no bytes"):
                Upload(source)
    assert Upload(Stream(b"")).length is None  # it can't be known


def test_a_path_that_leads_nowhere_is_an_os_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jpg", tmp_path):
        with pytest.raises(OSError, match=str(path)):
            Upload(path)


@pytest.mark.parametrize(
    ("file_name", "told"),
    [
        ("photo.jpg", "photo.jpg"),
        ("/secret/folder/photo.jpg", "photo.jpg"),
        ("folder/", "image"),
        ("", "image"),
        (5, "image"),
        (None, "image"),
        (b"photo.jpg", "image"),
        ('a"\r\nX: 1.jpg', 'a"X: 1.jpg'),
        ("caf\udce9.jpg", "caf.jpg"),
        ("café.jpg", "café.jpg"),
        ("a" * 500 + ".jpg", "a" * 196 + ".jpg"),
    ],
)
def test_the_name_told_is_printable_short_and_without_folders(file_name: Any, told: str) -> None:
    file = io.BytesIO(CONTENT)
    file.name = file_name  # type: ignore[attr-defined]
    upload = Upload(file)
    assert upload.name == told
    assert form_of(upload)[1].count(b"\r\nX:") == 0


# What comes down


@pytest.fixture(params=["memory", "file"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sink]:
    """Give a sink of each kind."""
    found = MemorySink() if request.param == "memory" else FileSink(tmp_path / "out" / "a.png")
    (tmp_path / "out").mkdir()
    yield found
    found.discard()
    leftovers = [p.name for p in (tmp_path / "out").iterdir() if p.name != "a.png"]
    assert leftovers == []


def content_of(sink: Sink) -> bytes:
    return sink.content if isinstance(sink, MemorySink) else sink.path.read_bytes()  # type: ignore[attr-defined]


def test_a_sink_keeps_what_is_finished(sink: Sink) -> None:
    sink.begin()
    sink.write(b"ab")
    sink.write(b"cd")
    sink.finish()
    sink.discard()
    assert content_of(sink) == b"abcd"


def test_a_sink_that_begins_anew_forgets_what_it_had(sink: Sink) -> None:
    for content in (b"first", b"second", b"third"):
        sink.begin()
        sink.write(content)
    sink.finish()
    assert content_of(sink) == b"third"


def test_a_discarded_file_leaves_nothing_behind(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "a.png")
    sink.discard()
    sink.begin()
    sink.write(b"half")
    sink.discard()
    sink.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_its_old_self_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    sink = FileSink(path)
    sink.begin()
    sink.write(b"half")
    assert path.read_bytes() == b"old"
    sink.finish()
    assert path.read_bytes() == b"half"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_can_not_be_closed_is_removed_all_the_same(tmp_path: Path) -> None:
    """On a full disk closing writes once more, and fails."""
    sink = FileSink(tmp_path / "a.png")
    sink.begin()
    sink.write(b"buffered")
    assert sink.file is not None
    os.close(sink.file.fileno())
    sink.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_can_not_be_renamed_is_removed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    sink = FileSink(tmp_path / "folder")
    sink.begin()
    sink.write(b"x")
    with pytest.raises(OSError, match="folder"):
        sink.finish()
    sink.discard()
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_a_path_that_names_no_file_is_an_os_error(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sink = FileSink(path)
    sink.temporary = tmp_path / sink.temporary.name  # "/" may not be written to
    sink.begin()
    with pytest.raises(OSError, match=r"directory|busy"):
        sink.finish()
    sink.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_told_by_the_name_that_the_caller_gave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("nowhere/a.png", tmp_path / "nowhere" / "a.png"):
        with pytest.raises(FileNotFoundError) as caught:
            FileSink(path).check()
        assert caught.value.filename == str(path)
        assert ".part" not in "".join(traceback.format_exception(caught.value))


@pytest.fixture(params=["nameless", "named"])
def naming(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let files have no name until they are whole, as far as the system can, or have one."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    elif not hasattr(os, "O_TMPFILE"):
        pytest.skip("only Linux has files without a name")
    return str(request.param)


def begun(path: Path, naming: str) -> FileSink:
    """Return a sink that has had some bytes."""
    sink = FileSink(path)
    sink.check()
    sink.begin()
    sink.write(b"new")
    assert sink.is_nameless is (naming == "nameless")
    return sink


def test_a_file_has_a_name_before_it_is_whole_only_where_it_must(
    naming: str, tmp_path: Path
) -> None:
    sink = begun(tmp_path / "a.png", naming)
    names = [p.suffix for p in tmp_path.iterdir()]
    assert names == ([] if naming == "nameless" else [".part"])
    sink.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_nameless_files_gets_named_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refusing(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & getattr(os, "O_TMPFILE", 0) == getattr(os, "O_TMPFILE", -1):
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return opened(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refusing)
    sink = begun(tmp_path / "a.png", "named")
    sink.finish()
    assert (tmp_path / "a.png").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_the_mode_of_a_file_obeys_the_umask(umask: int, naming: str, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        begun(tmp_path / "a.png", naming).finish()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o666 & ~umask


def test_a_whole_file_replaces_an_older_one_and_leaves_a_link(naming: str, tmp_path: Path) -> None:
    real, link = tmp_path / "real.png", tmp_path / "link.png"
    real.write_bytes(b"old and longer")
    link.symlink_to(real)
    reader = real.open("rb")
    begun(link, naming).finish()
    with reader:
        assert reader.read() == b"old and longer"  # who reads it reads on
    assert (link.is_symlink(), real.read_bytes()) == (True, b"new")
    begun(real, naming).finish()
    dangling = tmp_path / "dangling.png"
    dangling.symlink_to(tmp_path / "later.png")
    begun(dangling, naming).finish()
    assert (tmp_path / "later.png").read_bytes() == b"new"
    names = {"real.png", "link.png", "dangling.png", "later.png"}
    assert {p.name for p in tmp_path.iterdir()} == names


KILLED = """
import sys
from optidash_integrations.payload import FileSink
sink = FileSink(sys.argv[1])
sink.begin()
sink.write(bytes(100_000))
print("halfway", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="only Linux has files without a name")
def test_a_process_that_is_killed_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a.png")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=Path(__file__).parents[1]) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"halfway\n"
        child.send_signal(signal.SIGKILL)
        assert child.wait(30) == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_two_files_at_once_do_not_meet(tmp_path: Path) -> None:
    sinks = [FileSink(tmp_path / "a.png") for _ in range(2)]
    for number, sink in enumerate(sinks):
        sink.begin()
        sink.write(b"%d" % number)
    for sink in sinks:
        sink.finish()
    assert (tmp_path / "a.png").read_bytes() == b"1"
    assert len(list(tmp_path.iterdir())) == 1


# Arrivals


def arrived(content: bytes, *, piece: int = 7, max_bytes: int = 10**6) -> Arrival:
    """Return an image that came in pieces."""
    found = Arrival(MemorySink(), max_bytes)
    found.sink.begin()
    for at in range(0, len(content), piece):
        found.take(content[at : at + piece])
    return found


def info(content: bytes, **other: Any) -> ImageInfo:
    told = {"bytes": len(content), "sha1": hashlib.sha1(content).hexdigest()}
    return ImageInfo(**(told | other))


PNG = encoded(quarters())


@pytest.mark.parametrize("piece", [1, 7, 512, 10**6])
def test_an_arrival_counts_and_knows_its_format_however_it_came(piece: int) -> None:
    found = arrived(PNG, piece=piece)
    assert (found.length, found.format) == (len(PNG), formats.PNG)
    assert found.head == PNG[: formats.HEAD_BYTES]
    found.check(info(PNG), formats.PNG, any_type=False)


def test_upper_case_digests_are_digests_and_nothing_told_is_nothing_wrong() -> None:
    upper = hashlib.sha1(PNG).hexdigest().upper()
    arrived(PNG).check(ImageInfo(sha1=upper), None, any_type=False)
    arrived(PNG).check(ImageInfo(), None, any_type=False)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (info(PNG, bytes=len(PNG) + 1), "its metadata say"),
        (info(PNG, bytes=0), "its metadata say 0"),
        (info(PNG, sha1="0" * 40), "SHA-1"),
    ],
)
def test_an_image_that_is_not_the_one_told_of_is_refused(told: ImageInfo, says: str) -> None:
    for any_type in (False, True):
        with pytest.raises(DownloadError, match=says):
            arrived(PNG).check(told, None, any_type=any_type)


def test_an_image_without_bytes_is_none() -> None:
    with pytest.raises(DownloadError, match="no bytes"):
        arrived(b"").check(ImageInfo(), None, any_type=True)


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><title>Error</title>", b'{"success": false}', b"\0" * 600]
)
def test_what_is_no_image_is_refused_unless_anything_goes(content: bytes) -> None:
    with pytest.raises(ProtocolError, match="is none"):
        arrived(content).check(ImageInfo(), formats.PNG, any_type=False)
    arrived(content).check(ImageInfo(), formats.PNG, any_type=True)


@pytest.mark.parametrize(
    "page",
    [
        b"<!DOCTYPE html><html><body><svg width='9'></svg>Sorry</body></html>",
        b"\n <HTML><svg></svg>",
        b"\xef\xbb\xbf<html><svg></svg>",
    ],
)
def test_a_page_with_a_drawing_in_it_is_no_image(page: bytes) -> None:
    """An error page of a proxy, sent without a useful type."""
    with pytest.raises(ProtocolError, match="is none"):
        arrived(page).check(ImageInfo(), None, any_type=False)


def test_a_drawing_is_an_image() -> None:
    drawing = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'
    arrived(drawing).check(ImageInfo(), formats.SVG, any_type=False)


def test_an_image_of_another_type_than_its_answer_gives_is_refused() -> None:
    with pytest.raises(ProtocolError, match="what came as JPEG is PNG"):
        arrived(PNG).check(ImageInfo(), formats.JPEG, any_type=False)


def test_an_image_past_max_bytes_is_refused_before_the_piece_is_kept() -> None:
    found = Arrival(MemorySink(), 10)
    found.take(b"12345")
    found.take(b"67890")
    with pytest.raises(ProtocolError, match="larger than max_bytes, 10"):
        found.take(b"x")
    found.sink.finish()
    assert content_of(found.sink) == b"1234567890"
