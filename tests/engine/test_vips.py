"""How libvips is set up."""

from __future__ import annotations

import logging

import pytest

from optidash_integrations import formats
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.processors import EngineProcessor

from .pictures import encoded, quarters


def test_libvips_never_calls_python_to_log(caplog: pytest.LogCaptureFixture) -> None:
    """A garbage collection in such a call can end the process: GLib forbids logging in logging."""
    with caplog.at_level(logging.DEBUG, "pyvips"):
        data = encoded(quarters(400, 300), "jpeg")
        small = Operations.from_dict({"resize": {"width": 40}})
        EngineProcessor().process(data, small, formats.WEBP, Limits())
    assert not [each for each in caplog.records if each.getMessage().startswith("VIPS: ")]
