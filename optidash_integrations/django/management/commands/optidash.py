"""`manage.py optidash …`: the commands `account`, `cache` and `doctor` with the site's settings."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from optidash_integrations.cli import MISSING, NEEDED
from optidash_integrations.django import conf
from optidash_integrations.settings import DJANGO


class Command(BaseCommand):
    """Hands its arguments to the `optidash` command."""

    help = "Optimised images: account, cache, doctor."
    requires_system_checks: list[str] = []  # noqa: RUF012  `doctor` is for sites that are not well

    def run_from_argv(self, argv: list[str]) -> None:
        """Run from a command line; `--help` is that of the `optidash` command."""
        self.run(argv[2:])

    def add_arguments(self, parser: CommandParser) -> None:
        """Take all arguments as they are, for `call_command`."""
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def handle(self, *_: Any, arguments: list[str], **__: Any) -> None:
        """Run from code."""
        self.run(arguments)

    def run(self, arguments: list[str]) -> None:
        """Run a command; ends the process as that does where something failed."""
        try:
            from optidash_integrations.cli.commands import for_site
            from optidash_integrations.cli.places import Place
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in NEEDED:
                raise
            raise CommandError(MISSING) from error
        place = Place("Django's settings", conf.values(), DJANGO)
        try:
            for_site(arguments, prog_name="manage.py optidash", obj=place)
        except SystemExit as ending:
            if ending.code:
                raise
