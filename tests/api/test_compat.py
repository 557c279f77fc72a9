"""The chain of the vendor's package, where only the API's own count shows the difference."""

from __future__ import annotations

from pathlib import Path

import pytest

from optidash_integrations.compat.optidash import optidash
from tests.api.server import ApiServer
from tests.api.speakers import KEY

IMAGE = b"\xff\xd8\xff" + bytes(2_000)


class Echo(optidash):
    """Asks for the image as it is."""

    def __init__(self, server: ApiServer) -> None:
        super().__init__(KEY, server.url)
        self.operations["echo"] = True


def test_a_result_that_can_not_be_written_costs_no_call(server: ApiServer, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere" / "a.jpg"):
        error, meta = Echo(server).upload(IMAGE).toFile(str(path))
        assert (error is None, meta) == (False, None)
    assert server.seen == []


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_written(
    is_there: bool, server: ApiServer, tmp_path: Path
) -> None:
    link, real = tmp_path / "link.jpg", tmp_path / "real.jpg"
    link.symlink_to(real)
    if is_there:
        real.write_bytes(b"old")
    error, _ = Echo(server).upload(IMAGE).toFile(str(link))
    assert error is None
    assert link.is_symlink()
    assert real.read_bytes() == IMAGE
    assert sorted(tmp_path.iterdir()) == [link, real]
