"""The `optidash` command, in this process and in its own."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from optidash_integrations import __version__
from optidash_integrations.cli.commands import optidash
from optidash_integrations.cli.targets import StoppedError, Writer
from optidash_integrations.processors import EngineProcessor
from tests.engine.pictures import encoded, noise, quarters

ROOT = Path(__file__).parents[1]
PHOTO = encoded(noise(64, 48), "jpeg", quality=98)
COMMAND = (sys.executable, "-c", "from optidash_integrations.cli import main; main()")
INTERRUPTIBLE = (
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from optidash_integrations.cli import main; main()",
)


class Stuck(EngineProcessor):
    """Never ends with what is called `stuck`."""

    def process(self, source, operations, output, limits):
        if "stuck" in source.name:
            threading.Event().wait()
        return super().process(source, operations, output, limits)


class Interrupted(EngineProcessor):
    """Ends as if Ctrl-C came while the second file is worked on."""

    def process(self, source, operations, output, limits):
        if source.name == "b.jpg":
            raise KeyboardInterrupt
        return super().process(source, operations, output, limits)


class WithoutAvif(EngineProcessor):
    formats = frozenset({"jpg", "png"})


class Faulty(EngineProcessor):
    def process(self, source, operations, output, limits):
        if source.name == "b.jpg":
            raise ZeroDivisionError("a mistake of ours")
        return super().process(source, operations, output, limits)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("OPTIDASH_")]:
        monkeypatch.delenv(name)
    return tmp_path


def run(*arguments, stdin=None):
    return CliRunner().invoke(optidash, ["optimize", *map(str, arguments)], input=stdin)


def put(path: str, content: bytes = PHOTO) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def tree(root: str) -> list[str]:
    """Return all files below a folder, hidden ones too."""
    return sorted(str(p.relative_to(root)) for p in Path(root).rglob("*") if p.is_file())


def format_of(path: str) -> str | None:
    with Image.open(path) as image:
        image.load()
        return image.format


def size_of(path: str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def animation(side: int = 8, kind: str = "gif") -> bytes:
    """Return three frames: a red one, and two with noise in a corner."""
    frames = [Image.new("RGB", (side, side), colour) for colour in ("red", "blue", "green")]
    for frame in frames[1:]:
        frame.paste(noise(side // 2, side // 2))
    more = {"lossless": True} if kind == "webp" else {}
    return encoded(
        frames[0], kind, save_all=True, append_images=frames[1:], duration=200, loop=0, **more
    )


def test_a_folder_is_mirrored_and_extensions_fit_the_bytes(folder):
    for name in ("a.jpg", "sub/b.PNG", "sub/deep/c.jpeg"):
        put(f"in/{name}", encoded(noise(64, 48), "png" if "PNG" in name else "jpeg"))
    done = run("in", "--output", "out", "--format", "webp", "--width", 32)
    assert done.exit_code == 0
    assert tree("out") == ["a.webp", "sub/b.webp", "sub/deep/c.webp"]
    for name in tree("out"):
        with Image.open(f"out/{name}") as image:
            assert (image.format, image.size) == ("WEBP", (32, 24))


def test_originals_stay_as_they_are(folder):
    file = put("in/a.jpg")
    run("in", "--output", "out")
    assert file.read_bytes() == PHOTO
    assert tree(".") == ["in/a.jpg", "out/a.jpg"]


def test_hidden_files_and_what_is_no_image_are_left_out(folder):
    put("in/a.jpg")
    for name in (".hidden.jpg", ".git/a.jpg", "read.txt", "noextension"):
        put(f"in/{name}")
    put("in/logo.svg", b"<svg/>")
    done = run("in", "--output", "out")
    assert (done.exit_code, tree("out")) == (0, ["a.jpg"])
    assert "left out, not read here: 1 svg" in done.stdout


def test_files_are_told_of_in_the_order_of_their_names(folder):
    for name in ("c.jpg", "a.jpg", "b/b.jpg", "b.jpg"):
        put(f"in/{name}")
    done = run("in", "--output", "out", "--jobs", 3)
    assert re.findall(r"^in/(\S+):", done.stdout, re.M) == ["a.jpg", "b.jpg", "c.jpg", "b/b.jpg"]


def test_each_file_has_a_line_and_a_table_sums_up(folder):
    put("in/a.jpg")
    put("in/b.png", encoded(quarters()))
    done = run("in", "--output", "out", "--format", "webp")
    assert re.search(r"^in/a\.jpg: \d.* → \d.* k?B, saved -?\d+\.\d %$", done.stdout, re.M)
    table = done.stdout.partition("\n\n")[2].splitlines()
    assert table[0].split() == ["Format", "Files", "Before", "After", "Saved"]
    assert [row.split()[0] for row in table[1:4]] == ["JPEG", "PNG", "Total"]
    assert len({len(row) for row in table[:4]}) == 1
    assert re.fullmatch(r"2 optimised in \d+\.\d s", table[4])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say where results go: --output DIR, or --in-place to replace the originals"),
        (["--output", "out", "--in-place"], "--output and --in-place exclude each other"),
        (["--output", "in"], "results in --output would overwrite originals such as in/a.jpg"),
        (["--output", "out", "--width", "0"], "--width takes a positive integer"),
        (
            ["--output", "out", "--quality", "101"],
            "--quality takes an integer from 1 to 100, not 101",
        ),
    ],
)
def test_what_makes_no_sense_is_one_sentence_and_exit_code_2(folder, arguments, said):
    file = put("in/a.jpg")
    done = run("in", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert file.read_bytes() == PHOTO


@pytest.mark.parametrize("arguments", [["--format", "bmp"], ["--jobs", "0"], ["--compression", ""]])
def test_values_that_no_option_takes_are_exit_code_2(folder, arguments):
    put("in/a.jpg")
    assert run("in", "--output", "out", *arguments).exit_code == 2
    assert run("nowhere", "--output", "out").exit_code == 2


def test_wrong_settings_in_the_environment_are_told_of(folder, monkeypatch):
    put("in/a.jpg")
    monkeypatch.setenv("OPTIDASH_MAX_PIXELS", "many")
    done = run("in", "--output", "out")
    assert done.exit_code == 2
    assert "OPTIDASH_MAX_PIXELS in the environment takes a whole number" in done.stderr


def test_a_format_that_is_not_written_here_is_refused_before_any_work(folder, monkeypatch):
    put("in/a.jpg")
    monkeypatch.setenv("OPTIDASH_PROCESSOR", f"{__name__}.WithoutAvif")
    done = run("in", "--output", "out", "--format", "avif")
    assert (done.exit_code, tree("out")) == (2, [])
    assert done.stderr == "Error: --format takes one of auto, jpg, png here, not avif\n"


def test_in_place_replaces_the_original_and_keeps_its_mode(folder):
    file = put("in/a.jpg")
    file.chmod(0o640)
    done = run("in", "--in-place")
    assert (done.exit_code, tree("in")) == (0, ["a.jpg"])
    assert file.stat().st_size < len(PHOTO)
    assert file.stat().st_mode & 0o777 == 0o640


def test_in_place_keeps_a_link_and_a_name_that_does_not_fit(folder):
    real = put("real/photo.png", PHOTO)  # a JPEG all the same
    Path("in").mkdir()
    Path("in/link.jpg").symlink_to(real.resolve())
    done = run("in", real, "--in-place")
    assert "1 optimised" in done.stdout
    assert Path("in/link.jpg").is_symlink()
    assert (tree("real"), format_of("real/photo.png")) == (["photo.png"], "JPEG")
    assert real.stat().st_size < len(PHOTO)


def test_in_place_a_result_of_another_format_lies_beside_its_original(folder):
    file = put("in/a.jpg")
    assert run("in", "--in-place", "--format", "webp").exit_code == 0
    assert (tree("in"), file.read_bytes()) == (["a.jpg", "a.webp"], PHOTO)


def test_results_of_an_earlier_run_are_overwritten_only_if_asked(folder):
    put("in/a.jpg")
    earlier = put("out/a.webp", b"earlier")
    done = run("in", "--output", "out", "--format", "webp")
    assert (done.exit_code, earlier.read_bytes()) == (0, b"earlier")
    assert "in/a.jpg: skipped, out/a.webp is already there" in done.stdout
    assert run("in", "--output", "out", "--format", "webp", "--overwrite").exit_code == 0
    assert format_of("out/a.webp") == "WEBP"


@pytest.mark.parametrize(
    ("names", "results"),
    [
        (["a.jpg", "a.png"], ["a.jpg.webp", "a.png.webp"]),
        (["a.jpg", "a.webp"], ["a.jpg.webp", "a.webp"]),
        (["a.jpg", "a.jpg.webp", "a.webp"], ["a-2.webp", "a.jpg.webp", "a.webp"]),
        (["a.v1.jpg", "a.v2.jpg"], ["a.v1.webp", "a.v2.webp"]),
        (["a.jpg", "sub/a.png"], ["a.webp", "sub/a.webp"]),
    ],
)
def test_sources_that_would_have_one_result_are_told_apart(folder, names, results):
    for name in names:
        extension = name.rpartition(".")[2].replace("jpg", "jpeg")
        put(f"in/{name}", encoded(noise(16, 16), extension))
    done = run("in", "--output", "out", "--format", "webp")
    assert (done.exit_code, tree("out")) == (0, results)


def test_files_of_one_name_from_two_folders_are_told_apart(folder):
    put("one/a.jpg")
    put("two/a.jpg", encoded(noise(20, 20), "jpeg", quality=98))
    assert run("one", "two", "one/a.jpg", "--output", "out").exit_code == 0
    assert tree("out") == ["a-2.jpg", "a.jpg"]


def test_what_would_not_be_smaller_is_a_copy_of_its_source(folder):
    small = encoded(noise(64, 48), "jpeg", quality=5, optimize=True)
    put("in/a.jpg", small)
    done = run("in", "--output", "out", "--quality", 95)
    assert Path("out/a.jpg").read_bytes() == small
    assert "kept: it would not be smaller" in done.stdout
    assert "1 kept in" in done.stdout


@pytest.mark.parametrize("kind", ["gif", "png", "webp"])
@pytest.mark.parametrize("target", ["webp", "gif"])
def test_animations_stay_animated_in_formats_that_can(folder, kind, target):
    put(f"in/a.{kind}", animation(64, kind))
    done = run("in", "--output", "out", "--format", target, "--width", 32)
    assert (done.exit_code, tree("out")) == (0, [f"a.{target}"]), done.output
    with Image.open(f"out/a.{target}") as image:
        assert (image.format, image.size, image.n_frames) == (target.upper(), (32, 32), 3)


@pytest.mark.parametrize("target", ["jpg", "png", "avif"])
def test_a_still_format_asked_for_by_name_gets_the_first_frame(folder, target):
    put("in/a.gif", animation(64))
    put("look.json", json.dumps({"output": {"format": target}}).encode())
    assert run("in", "--output", "flag", "--format", target).exit_code == 0
    assert run("in", "--output", "file", "--operations", "look.json").exit_code == 0
    for where in ("flag", "file"):
        with Image.open(f"{where}/a.{target}") as image:
            assert getattr(image, "n_frames", 1) == 1
            assert image.convert("RGB").getpixel((60, 60))[0] > 240  # the first one is red


def test_the_first_frame_of_an_apng_is_no_copy_of_it(folder):
    put("in/a.png", animation(64, "png"))
    assert run("in", "--output", "out", "--format", "png").exit_code == 0
    with Image.open("out/a.png") as image:
        assert not getattr(image, "is_animated", False)


@pytest.mark.parametrize("where", [["--output", "out"], ["--in-place"]])
def test_an_animation_that_can_not_stay_one_is_copied(folder, where):
    put("in/a.png", animation(64, "png"))
    done = run("in", *where, "--width", 4)
    assert (done.exit_code, tree(where[-1] if where[0] == "--output" else "in")) == (0, ["a.png"])
    assert Path("in/a.png").read_bytes() == animation(64, "png")
    assert "kept: it is animated" in done.stdout


def test_a_dry_run_foretells_what_becomes_of_animations(folder):
    for kind in ("gif", "png", "webp", "avif"):
        put(f"in/{kind}.{kind}", animation(64, kind))
    for target in ("auto", "webp", "jpg"):
        said = [
            {
                each["in"]: (each["outcome"], each["out"])
                for each in json.loads(done.stdout)["files"]
            }
            for done in (
                run("in", "--output", f"to-{target}", "--format", target, "--json", *more)
                for more in (["--dry-run"], [])
            )
        ]
        assert said[0] == said[1]
        assert said[0]["in/avif.avif"] == (
            ("optimised", "to-jpg/avif.jpg")
            if target == "jpg"
            else ("kept", f"to-{target}/avif.avif")
        )


def test_a_dry_run_sees_what_lies_where_an_animation_would_be_copied(folder):
    put("in/a.avif", animation(64, "avif"))
    put("out/a.avif", b"earlier")
    done = run("in", "--output", "out", "--format", "webp", "--dry-run")
    assert "in/a.avif: would be skipped, out/a.avif is already there" in done.stdout


def test_an_animation_is_kept_where_its_result_would_be_larger(folder):
    put("in/a.gif", animation(2))
    done = run("in", "--output", "out", "--format", "webp")
    assert (done.exit_code, tree("out")) == (0, ["a.gif"])
    assert "kept: it would not be smaller" in done.stdout


def test_a_misnamed_source_gets_a_result_with_the_right_extension(folder):
    put("in/a.png", PHOTO)
    run("in", "--output", "out")
    assert (tree("out"), format_of("out/a.jpg")) == (["a.jpg"], "JPEG")


@pytest.mark.parametrize(("mode", "result"), [("RGB", "a.jpg"), ("RGBA", "a.png")])
def test_auto_gives_a_format_for_the_web(folder, mode, result):
    put("in/a.tiff", encoded(noise(16, 16).convert(mode), "tiff"))
    assert run("in", "--output", "out").exit_code == 0
    assert tree("out") == [result]


def test_images_keep_their_size_unless_the_environment_limits_it(folder, monkeypatch):
    put("in/a.png", encoded(Image.new("RGB", (5000, 2))))
    run("in", "--output", "out", "--format", "webp")
    monkeypatch.setenv("OPTIDASH_MAX_WIDTH", "1000")
    run("in", "--output", "limited", "--format", "webp")
    assert [size_of(f"{root}/a.webp")[0] for root in ("out", "limited")] == [5000, 1000]


def test_an_output_folder_inside_the_input_is_not_walked(folder):
    put("in/a.jpg")
    for _ in range(2):
        run("in", "--output", "in/out", "--format", "webp")
    assert tree("in") == ["a.jpg", "out/a.webp"]


def test_after_a_failure_no_other_file_is_begun(folder):
    for name in "acde":
        put(f"in/{name}.jpg")
    put("in/b.jpg", b"no image")
    done = run("in", "--output", "out", "--jobs", 1)
    assert (done.exit_code, tree("out")) == (1, ["a.jpg"])
    assert "1 optimised, 1 failed, 3 not begun in" in done.stdout
    assert re.fullmatch(
        r"in/b\.jpg: .+\nStopped after the first failure; --keep-going .+\n", done.stderr
    )


def test_failed_files_are_told_of_and_the_others_go_on(folder):
    put("in/a.jpg", b"no image")
    put("in/b.jpg")
    put("in/c.jpg", PHOTO[:300])
    Path("in/d.jpg").symlink_to("nowhere")
    done = run("in", "--output", "out", "--keep-going")
    assert (done.exit_code, tree("out")) == (1, ["b.jpg"])
    assert "1 optimised, 3 failed in" in done.stdout
    assert re.findall(r"^in/(.)\.jpg: .+", done.stderr, re.M) == ["a", "c", "d"]
    assert "in/d.jpg: No such file or directory" in done.stderr


def test_an_output_that_can_not_be_written_is_a_failed_file(folder):
    put("in/sub/a.jpg")
    put("out/sub", b"a file where a folder should be")
    done = run("in", "--output", "out", "--keep-going")
    assert (done.exit_code, tree("out")) == (1, ["sub"])
    assert re.match(r"in/sub/a\.jpg: .*: out/sub/a\.jpg\n$", done.stderr)


def test_a_mistake_in_a_processor_fails_one_file(folder, monkeypatch):
    for name in "abc":
        put(f"in/{name}.jpg")
    monkeypatch.setenv("OPTIDASH_PROCESSOR", f"{__name__}.Faulty")
    done = run("in", "--output", "out", "-k")
    assert (done.exit_code, tree("out")) == (1, ["a.jpg", "c.jpg"])
    assert done.stderr == "in/b.jpg: ZeroDivisionError: a mistake of ours\n"


def test_nothing_to_do_is_said(folder):
    Path("in").mkdir()
    done = run("in", "--output", "out")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "No images that are read here in in.\n"


def test_names_do_not_steer_the_terminal(folder):
    put("in/[red]\x1b[2Ja.jpg")
    done = run("in", "--output", "out")
    assert "in/[red]?[2Ja.jpg: " in done.stdout


def test_an_interrupt_in_the_middle_is_exit_code_130(folder, monkeypatch):
    for name in "abc":
        put(f"in/{name}.jpg")
    monkeypatch.setenv("OPTIDASH_PROCESSOR", f"{__name__}.Interrupted")
    done = run("in", "--output", "out", "--jobs", 1)
    assert (done.exit_code, done.stderr) == (130, "Stopped.\n")
    assert "in/a.jpg: " in done.stdout
    assert set(tree("out")) <= {"a.jpg", "c.jpg"}


def test_a_closed_writer_writes_nothing(folder):
    writer = Writer(durable=False)
    writer.close()
    with pytest.raises(StoppedError):
        writer.write(folder / "a.jpg", PHOTO)
    assert tree(".") == []


def test_the_version(folder):
    done = CliRunner().invoke(optidash, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"optidash {__version__}\n")


# --operations and --preset

SQUARE = {"resize": {"mode": "fit", "width": 20, "height": 20}, "output": {"format": "webp"}}


@pytest.mark.parametrize("source", ["look.json", "-"])
def test_operations_come_from_a_file_or_from_stdin(folder, source):
    put("in/a.jpg")
    put("look.json", json.dumps(SQUARE).encode())
    done = run("in", "--output", "out", "--operations", source, stdin=json.dumps(SQUARE))
    assert (done.exit_code, tree("out")) == (0, ["a.webp"]), done.output
    assert size_of("out/a.webp") == (20, 20)


def test_options_win_over_operations_and_these_over_a_preset(folder):
    put("in/a.png", encoded(noise(64, 48)))
    put(
        "optidash.toml",
        b"""
        [presets.small]
        resize = { mode = "fit", width = 10, height = 10 }
        filter = { grayscale = true }
        output = { format = "jpg" }
    """,
    )
    put("look.json", b'{"resize": {"height": 20}, "output": {"format": "webp"}}')
    options = ("--preset", "small", "--operations", "look.json", "--width", 30)
    assert run("in", "--output", "out", *options).exit_code == 0
    assert run("in", "--output", "png", *options, "--format", "auto").exit_code == 0
    with Image.open("out/a.webp") as image:
        red, green, blue = image.convert("RGB").getpixel((15, 10))
        assert (image.size, max(red, green, blue) - min(red, green, blue) < 4) == ((30, 20), True)
    assert format_of("png/a.png") == "PNG"


def test_the_compression_of_a_document_wins_over_the_settings(folder, monkeypatch):
    put("in/a.jpg", encoded(noise(64, 48), "jpeg", quality=98))
    put("look.json", b'{"optimize": {"compression": "high"}}')
    monkeypatch.setenv("OPTIDASH_COMPRESSION", "low")
    sizes = []
    for name, options in (("low", ()), ("high", ("--operations", "look.json"))):
        assert run("in", "--output", name, "--format", "webp", *options).exit_code == 0
        sizes.append(Path(name, "a.webp").stat().st_size)
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("looks.json", json.dumps({"presets": {"square": SQUARE}})),
        ("looks.toml", '[presets.square.resize]\nmode = "fit"\nwidth = 20\nheight = 20\n'),
    ],
)
def test_presets_are_kept_in_toml_or_json(folder, name, content):
    put("in/a.jpg")
    put(name, content.encode())
    assert run("in", "--output", "out", "--presets", name, "--preset", "square").exit_code == 0
    assert size_of(f"out/{tree('out')[0]}") == (20, 20)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"resize": {"width": "abc"}}', "resize.width takes a positive integer up to 50000000"),
        (b'{"resise": {}}', "operations takes only "),
        (b"{", " is not JSON: "),
        (b"[]", " holds no object of operations"),
        (b"\xff", " is not written in UTF-8"),
        (b"[" * 100_000, " is not JSON: "),
        (None, ": No such file or directory"),
    ],
)
def test_what_is_wrong_in_a_document_is_told_with_its_file(folder, content, said):
    put("in/a.jpg")
    if content is not None:
        put("look.json", content)
    done = run("in", "--output", "out", "--operations", "look.json")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("Error: look.json")
    assert said in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--preset", "a"], "--preset needs optidash.toml in this folder, or --presets FILE"),
        (["--presets", "my.toml"], "--presets needs --preset NAME, which says which one"),
        (["--presets", "my.toml", "--preset", "c"], 'my.toml has no preset "c"; it has a, b'),
        (["--presets", "no.toml", "--preset", "c"], "no.toml: No such file or directory"),
        (["--presets", "in/a.jpg", "--preset", "c"], "in/a.jpg is not "),
        (
            ["--presets", "my.toml", "--preset", "b"],
            'my.toml, preset "b": crop.ratio takes a ratio such as "16:9" in mode ratio, not None',
        ),
    ],
)
def test_what_is_wrong_with_a_preset_is_one_sentence(folder, arguments, said):
    put("in/a.jpg")
    put("my.toml", b'[presets]\na = {}\nb = { crop = { mode = "ratio" } }\n')
    done = run("in", "--output", "out", *arguments)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr


def test_a_result_that_shows_something_else_is_no_copy_though_it_is_larger(folder):
    put("in/a.png", encoded(Image.new("RGB", (64, 48))))
    put("look.json", b'{"text": {"text": "aGVsbG8=", "color": "white"}}')
    run("in", "--output", "out", "--operations", "look.json")
    assert Path("out/a.png").stat().st_size > Path("in/a.png").stat().st_size
    with Image.open("out/a.png") as image:
        assert image.convert("L").getextrema()[1] > 200


def test_the_first_frame_in_a_format_that_could_move_is_had_where_a_document_asks_for_it(folder):
    frames = [noise(64, 64), Image.new("RGB", (64, 64))]
    put("in/a.webp", encoded(frames[0], "webp", save_all=True, append_images=frames[1:], quality=1))
    put("look.json", b'{"output": {"animated": false, "quality": 100}}')
    assert run("in", "--output", "out", "--operations", "look.json").exit_code == 0
    assert Path("out/a.webp").stat().st_size > Path("in/a.webp").stat().st_size
    with Image.open("out/a.webp") as image:
        assert image.n_frames == 1


# --json


def test_json_tells_of_every_file(folder):
    put("in/a.jpg")
    put("in/b.jpg", encoded(noise(64, 48), "jpeg", quality=5, optimize=True))
    put("in/c.jpg", b"no image")
    put("in/d.jpg")
    put("out/d.jpg", b"earlier")
    done = run("in", "--output", "out", "--json", "--quality", 90, "--keep-going")
    found = json.loads(done.stdout)
    a, b, c, d = found["files"]
    assert (done.exit_code, done.stderr) == (1, "")
    assert found["counts"] == {
        "optimised": 1, "kept": 1, "skipped": 1, "failed": 1, "not begun": 0
    }  # fmt: skip
    assert (a["in"], a["out"], a["outcome"], a["format"]) == (
        "in/a.jpg", "out/a.jpg", "optimised", "jpg"
    )  # fmt: skip
    assert (a["bytes_before"], a["bytes"]) == (len(PHOTO), Path("out/a.jpg").stat().st_size)
    assert (a["saved"], a["error"]) == (a["bytes_before"] - a["bytes"], None)
    assert (a["width"], a["height"]) == (64, 48)
    assert (b["outcome"], b["saved"], b["why"]) == ("kept", 0, "it would not be smaller")
    assert (c["outcome"], c["out"], c["bytes"], c["saved"]) == ("failed", None, None, None)
    assert c["error"].startswith("these bytes are no image")
    assert (d["outcome"], d["out"], d["why"]) == (
        "skipped",
        "out/d.jpg",
        "out/d.jpg is already there",
    )
    assert found["saved"] == a["saved"]
    assert found["bytes"] == a["bytes"] + b["bytes"]


def test_json_tells_what_was_detected(folder):
    put("in/a.png", encoded(quarters()))
    put("look.json", b'{"detect": {"palette": 4, "placeholder": "color"}}')
    done = run("in", "--output", "out", "--operations", "look.json", "--json")
    (told,) = json.loads(done.stdout)["files"]
    colours = {each["color"] for each in told["palette"]}
    assert colours == {"#ff0000", "#00ff00", "#0000ff", "#ffffff"}
    assert re.fullmatch(r"#[0-9a-f]{6}", told["placeholder"])
    assert "faces" not in told


def test_json_of_a_dry_run_says_where_results_would_go_and_nothing_is_written(folder):
    put("in/a.jpg")
    put("in/b.gif", animation(64))
    put("in/c.png", animation(64, "png"))
    put("in/d.jpg", b"no image")
    put("in/e.jpg")
    done = run("in", "--output", "out", "--dry-run", "--json")
    found = json.loads(done.stdout)
    assert (done.exit_code, found["dry_run"], tree(".")) == (
        1, True, [f"in/{name}" for name in ("a.jpg", "b.gif", "c.png", "d.jpg", "e.jpg")]
    )  # fmt: skip
    outcomes = [each["outcome"] for each in found["files"]]
    assert outcomes == ["optimised", "optimised", "kept", "failed", "optimised"]
    assert [each["out"] for each in found["files"]] == [
        "out/a.jpg", "out/b.gif", "out/c.png", None, "out/e.jpg"
    ]  # fmt: skip
    assert all(each["saved"] is None for each in found["files"])


def test_json_of_nothing_is_a_document_too(folder):
    Path("in").mkdir()
    done = run("in", "--output", "out", "--json")
    assert (done.exit_code, json.loads(done.stdout)["files"]) == (0, [])


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPTIDASH_")}
    return kept | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"} | more


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_libraries_the_command_says_what_to_install(missing):
    block = f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['optidash', '--version']\n"
    command = [sys.executable, "-c", block + COMMAND[-1]]
    done = subprocess.run(command, capture_output=True, env=environment(), text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert 'pip install "optidash-integrations[engine]"' in done.stderr


def test_the_command_as_a_process_of_its_own(folder):
    put("in/a.jpg")
    put("in/b.jpg", b"no image")
    done = subprocess.run(
        [*COMMAND, "optimize", "in", "--output", "out", "--format", "avif", "-k"],
        capture_output=True,
        env=environment(PYTHONIOENCODING="ascii"),
        text=True,
    )
    assert (done.returncode, tree("out")) == (1, ["a.avif"])
    assert "in/a.jpg: " in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stderr.startswith("in/b.jpg: ")
    assert format_of("out/a.avif") == "AVIF"


def on_a_terminal(*arguments: str) -> tuple[int, str]:
    """Run the command on a terminal; return its exit code and all that is shown."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    command = [*COMMAND, "optimize", *arguments]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment()
    ) as process:
        os.close(theirs)
        shown = b"".join(iter(lambda: read(ours), b""))
    os.close(ours)
    return process.returncode, shown.decode()


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # Linux says so when the other end is closed
        return b""


def test_a_terminal_gets_a_bar_and_a_table_of_files(folder):
    put("in/a.jpg")
    put("in/b.jpg", b"no image")
    put("in/[red]c.jpg")
    code, shown = on_a_terminal("in", "--output", "out", "--format", "webp", "-k")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert code == 1
    assert re.search(r"Optimising ━+ 3/3", plain)
    assert re.search(r"[\r\n]in/b\.jpg: these bytes are no image", plain)
    assert re.search(r"File +Format +Before +After +Saved", plain)
    assert re.search(r"in/\[red\]c\.jpg +JPEG → WEBP .* %", plain)
    assert re.search(r"Total +2 files .* %", plain)
    assert "2 optimised, 1 failed in" in plain
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor is back


def test_ctrl_c_ends_a_stuck_run_and_leaves_no_half_file(folder):
    for name in ("a", "stuck", "z"):
        put(f"in/{name}.jpg")
    with subprocess.Popen(
        [*INTERRUPTIBLE, "optimize", "in", "--output", "out", "--jobs", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(OPTIDASH_PROCESSOR=f"{__name__}.Stuck"),
        text=True,
    ) as process:
        assert process.stdout.readline().startswith("in/a.jpg: ")
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
    assert (process.returncode, said) == (130, "Stopped.\n")
    assert (tree("out"), format_of("out/a.jpg")) == (["a.jpg"], "JPEG")
