"""Stand-ins for other packages, for those who come from them."""

from __future__ import annotations
