"""The `tubelet` command: the tree, and where errors become messages. The commands themselves are beside it."""

import errno
import io
import platform
import sys
from typing import Any

import click

from ..preprocess.errors import OutOfBounds, ParityError, TubeletError
from ..preprocess.redaction import redacted
from ..preprocess.shortage import shortages_named
from .bench import bench
from .build import build
from .check import check
from .classify import classify
from .doctor import doctor
from .evaluate import evaluate
from .explain import explain
from .export import export
from .features import features
from .info import info
from .options import EXIT_PARITY
from .pull import pull
from .push import push
from .quantize import quantize
from .reconstruct import reconstruct
from .serve import serve
from .signals import ended_by_signals, exit_interrupted
from .timeline import timeline
from .triton import triton
from .tune import tune
from .watch import watch


class ParityFailure(click.ClickException):
    """A graph outside tolerance, told from every other failure by the exit code."""

    exit_code = EXIT_PARITY


class Misuse(click.ClickException):
    """An argument that only the command could find out to be wrong; the same exit code as click's own."""

    exit_code = click.UsageError.exit_code


EXITS: dict[type[TubeletError], type[click.ClickException]] = {ParityError: ParityFailure, OutOfBounds: Misuse}


class TubeletGroup(click.Group):
    """Turns tubelet's errors, and what the system refuses, into messages and exit codes, in this one place."""

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

    A bundle is a folder made from a ViViT, VideoMAE, TimeSformer or V-JEPA 2. It classifies videos without torch, and
    carries what torch answered, so that any machine can prove that it computes the same.
    """


COMMANDS = (
    bench,
    build,
    check,
    classify,
    doctor,
    evaluate,
    explain,
    export,
    features,
    info,
    pull,
    push,
    quantize,
    reconstruct,
    serve,
    timeline,
    triton,
    tune,
    watch,
)
for command in COMMANDS:
    main.add_command(command)
