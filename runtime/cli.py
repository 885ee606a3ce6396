"""The `tubelet` command: the tree, and where errors become messages. The commands themselves are in commands/."""

import platform
from typing import Any

import click

from ..preprocess.errors import ParityError, TubeletError
from .commands.check import check
from .commands.classify import classify
from .commands.doctor import doctor
from .commands.export import export
from .commands.info import info
from .commands.options import EXIT_PARITY
from .doctor import installed_version


class ParityFailure(click.ClickException):
    """A graph outside tolerance, told from every other failure by the exit code."""

    exit_code = EXIT_PARITY


class TubeletGroup(click.Group):
    """Turns tubelet's errors into messages and exit codes, in this one place."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TubeletError as error:
            raise (ParityFailure if isinstance(error, ParityError) else click.ClickException)(str(error)) from error


@click.group(cls=TubeletGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(installed_version("tubelet"), message=f"tubelet %(version)s, Python {platform.python_version()}")
def main() -> None:
    """Put video transformers into production.

    A bundle is a folder made from a ViViT or VideoMAE checkpoint. It classifies videos without torch, and
    carries what torch answered, so that any machine can prove that it computes the same.
    """


for command in (check, classify, doctor, export, info):
    main.add_command(command)
