"""Where a command reads settings: from the environment alone, or a site's own configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import click

from optidash_integrations import settings
from optidash_integrations.settings import KEYWORDS, Settings, Spelling


@dataclass(frozen=True, slots=True)
class Place:
    """A site's own settings, as it spells them; `name` is what people call the place.

    What they lack comes from the environment.
    """

    name: str = "the environment"
    values: Mapping[str, object] = field(default_factory=dict)
    spelling: Spelling = KEYWORDS

    def settings(self, environ: Mapping[str, str] = os.environ) -> Settings:
        """Return the settings; raises SettingsError with all problems."""
        return settings.read(self.values, spelling=self.spelling, environ=environ)

    def problems(self, environ: Mapping[str, str] = os.environ) -> list[str]:
        """Return a sentence for each setting that is wrong or unknown."""
        return settings.problems(self.values, spelling=self.spelling, environ=environ)


def here() -> Place:
    """Return where the present command reads settings: what the site gave it, or nothing else."""
    return click.get_current_context().find_object(Place) or Place()
