"""Certificates for a server on this machine, of an authority that no machine trusts."""

from __future__ import annotations

import atexit
import shutil
import ssl
import tempfile
from functools import cache
from pathlib import Path

import trustme


@cache
def authority() -> tuple[trustme.CA, Path]:
    """Return an authority that lives as long as this process, and the file of its certificate."""
    folder = Path(tempfile.mkdtemp(prefix="authority-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made, path = trustme.CA(), folder / "authority.pem"
    made.cert_pem.write_to_path(path)
    return made, path


def certificate(name: str) -> tuple[ssl.SSLContext, Path]:
    """Return a server's context with a certificate for `name`, and the path of the authority's.

    `name` is a host name or an address; for `ApiServer` the right one is `localhost`.
    """
    made, path = authority()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.issue_cert(name).configure_cert(context)
    return context, path
