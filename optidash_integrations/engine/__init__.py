"""The embedded engine: libvips, inside this process. Nothing outside this folder imports pyvips.

`probe` reads a header, `plan` computes every size before a pixel is touched, `steps` does it,
`encode` writes it, `process` is all of it in order; `strip` needs no libvips at all.
"""

from __future__ import annotations
