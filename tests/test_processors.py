from __future__ import annotations

import subprocess
import sys

import pytest

from optidash_integrations import processors
from optidash_integrations.errors import ProcessorMissingError, SettingsError
from optidash_integrations.processors import ApiProcessor, EngineProcessor, Processor, choose
from optidash_integrations.settings import Settings


class Own:
    """A processor of somebody else's."""

    revision = "own-1"
    formats = frozenset({"jpg"})
    reads = frozenset({"jpg", "png"})

    def probe(self, source: object, limits: object) -> None: ...

    def process(
        self, source: object, operations: object, output: object, limits: object
    ) -> None: ...


def make() -> Own:
    return Own()


ready = Own()


def test_importing_and_making_the_engine_does_not_import_libvips() -> None:
    code = (
        "import sys; from optidash_integrations.processors import EngineProcessor;"
        "EngineProcessor(); assert 'pyvips' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_engine_tells_its_revision_and_formats() -> None:
    engine = EngineProcessor()
    assert isinstance(engine, Processor)
    assert engine.revision.startswith("engine-6-8.")
    assert engine.formats == {"jpg", "png", "webp", "avif", "gif", "jp2"}
    assert engine.reads >= engine.formats | {"tiff", "bmp", "ico", "psd"}
    assert "svg" not in engine.reads


def test_without_pyvips_the_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ProcessorMissingError, match=r"pip install .*\[engine\]"):
        EngineProcessor()


@pytest.mark.parametrize("name", ["auto", "engine"])
def test_the_engine_is_the_choice_without_another(name: str) -> None:
    assert isinstance(choose(Settings(processor=name)), EngineProcessor)


@pytest.mark.parametrize("name", ["Own", "make", "ready"])
def test_a_dotted_path_names_a_class_a_function_or_an_object(name: str) -> None:
    assert type(choose(Settings(processor=f"{__name__}.{name}"))).__name__ == "Own"


@pytest.mark.parametrize(
    "name", ["libjpeg", "no.such.module", f"{__name__}.nothing", f"{__name__}.sys"]
)
def test_a_name_that_leads_to_no_processor_is_a_settings_error(name: str) -> None:
    with pytest.raises(SettingsError, match="processor"):
        choose(Settings(processor=name))


@pytest.mark.parametrize("given", [{"api_key": "a-key"}, {"api_url": "http://127.0.0.1:1/1.0"}])
@pytest.mark.parametrize("name", ["auto", "api"])
def test_a_key_or_an_address_makes_the_api_the_choice(name: str, given: dict[str, str]) -> None:
    processor = choose(Settings(processor=name, **given))
    assert isinstance(processor, ApiProcessor)
    assert isinstance(processor, Processor)


def test_the_engine_can_be_chosen_although_there_is_a_key() -> None:
    assert isinstance(choose(Settings(processor="engine", api_key="a-key")), EngineProcessor)


def test_the_api_without_a_key_and_an_address_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="api_key"):
        choose(Settings(processor="api"))
