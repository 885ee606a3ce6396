"""The `tubelet` command: the tree, and where errors become messages. The commands themselves are beside it, and
imported when they are asked for."""

import errno
import importlib
import io
import platform
import sys
from typing import Any

import click
from click.exceptions import NoSuchCommand

from ..preprocess.errors import OutOfBounds, ParityError, TubeletError
from ..preprocess.redaction import redacted
from ..preprocess.shortage import shortages_named
from .exits import EXIT_PARITY
from .signals import ended_by_signals, exit_interrupted

# Each command, which is the function of that name in the file of that name, and how its help begins.
COMMANDS = {
    "bench": "Measure how fast BUNDLE is here.",
    "build": "Build a TensorRT engine from BUNDLE.",
    "check": "Prove that BUNDLE computes here what torch computed.",
    "classify": "Say what happens in each VIDEO, or in the videos of an archive.",
    "doctor": "Show what is installed, and which engines really start here.",
    "evaluate": "Say how often BUNDLE is right on a labelled set.",
    "explain": "Show where in VIDEO the model looked.",
    "export": "Turn a checkpoint into a bundle.",
    "features": "Turn each VIDEO into features.",
    "info": "Show what a bundle is, or what a video holds.",
    "pull": "Fetch a bundle from the Hugging Face Hub.",
    "push": "Put BUNDLE on the Hugging Face Hub.",
    "quantize": "Add graphs of lower precision to BUNDLE.",
    "reconstruct": "Hide most of VIDEO, and show what a VideoMAE makes of the rest.",
    "serve": "Serve each BUNDLE over HTTP, with a page to try it on.",
    "timeline": "Show what happens when in a long VIDEO.",
    "triton": "Write a model repository of Triton that serves each BUNDLE.",
    "tune": "Find out what runs BUNDLE best on this machine.",
    "watch": "Say when what happens in streams, cameras and long files.",
}


class ParityFailure(click.ClickException):
    """A graph outside tolerance, told from every other failure by the exit code."""

    exit_code = EXIT_PARITY


class Misuse(click.ClickException):
    """An argument that only the command could find out to be wrong; the same exit code as click's own."""

    exit_code = click.UsageError.exit_code


EXITS: dict[type[TubeletError], type[click.ClickException]] = {ParityError: ParityFailure, OutOfBounds: Misuse}


class TubeletGroup(click.Group):
    """Finds the commands. Turns tubelet's errors, and what the system refuses, into messages and exit codes, in this
    one place.

    A command is imported when it is asked for. The help of the whole tree needs neither numpy nor PyAV.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(importlib.import_module(f".{cmd_name}", __package__), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except NoSuchCommand as error:  # click looks for similar names among commands that are there already
            raise NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return self._invoke(ctx)
        except click.ClickException as error:
            vars(error)["message"] = redacted(error.message)  # click quotes arguments, which may be URLs
            raise

    def _invoke(self, ctx: click.Context) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
            sys.stdout.reconfigure(errors="backslashreplace")  # the name of a file need not be text
        try:
            with ended_by_signals(), shortages_named():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            exit_interrupted()
        except TubeletError as error:
            raise EXITS.get(type(error), click.ClickException)(str(error)) from error
        except OSError as error:
            if error.errno in (None, errno.EPIPE):  # whoever read stdout has gone: click ends without a word
                raise
            where = "" if error.filename is None else f"{error.filename}: "
            raise click.ClickException(f"{where}{error.strerror}") from error


@click.group(cls=TubeletGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tubelet", message=f"tubelet %(version)s, Python {platform.python_version()}")
def main() -> None:
    """Put video transformers into production.

    A bundle is a folder made from a ViViT, VideoMAE, TimeSformer or V-JEPA 2. It classifies videos without torch. It
    carries what torch answered, so any machine can prove that it computes the same.
    """
