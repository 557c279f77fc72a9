"""`flask optidash …`: the commands `account`, `cache` and `doctor` with the app's settings."""

from __future__ import annotations

from collections.abc import Mapping

import click

from optidash_integrations.settings import FLASK


def command_for(values: Mapping[str, object]) -> click.Command:
    """Return the command for an app with this `OPTIDASH_…` configuration.

    It hands its arguments to the `optidash` command, which is imported only then.
    """

    @click.command("optidash", add_help_option=False, context_settings=PASSED_ON)
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def optidash(arguments: tuple[str, ...]) -> None:
        """Optimised images: account, cache, doctor."""
        from optidash_integrations.cli import MISSING, NEEDED

        try:
            from optidash_integrations.cli.commands import for_site
            from optidash_integrations.cli.places import Place
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in NEEDED:
                raise
            raise click.ClickException(MISSING) from error
        place = Place("Flask's configuration", values, FLASK)
        for_site(list(arguments), prog_name="flask optidash", obj=place)

    return optidash


PASSED_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}
