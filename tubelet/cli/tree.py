"""The `tubelet` command: the tree, and where errors become messages. The commands themselves are beside it."""

import errno
import io
import platform
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from ..preprocess.errors import OutOfBounds, ParityError, TubeletError
from ..preprocess.shortage import shortages_named
from .bench import bench
from .build import build
from .check import check
from .classify import classify
from .doctor import doctor
from .explain import explain
from .export import export
from .features import features
from .info import info
from .options import EXIT_PARITY
from .quantize import quantize
from .reconstruct import reconstruct


class ParityFailure(click.ClickException):
    """A graph outside tolerance, told from every other failure by the exit code."""

    exit_code = EXIT_PARITY


class Misuse(click.ClickException):
    """An argument that only the command could find out to be wrong; the same exit code as click's own."""

    exit_code = click.UsageError.exit_code


EXITS: dict[type[TubeletError], type[click.ClickException]] = {ParityError: ParityFailure, OutOfBounds: Misuse}


# Signals that end a command -> what a process does with them that nobody told otherwise.
ENDING = {
    getattr(signal, name): usual
    for name, usual in (
        ("SIGINT", signal.default_int_handler),
        ("SIGTERM", signal.SIG_DFL),
        ("SIGHUP", signal.SIG_DFL),  # the terminal went away; Windows has none
    )
    if hasattr(signal, name)
}


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the command as Ctrl-C does: what it was writing is removed. The exit code is 128 and the
    signal. What the caller set for any of them stays."""
    received: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_IGN)  # a second one must not break off the cleaning
        sys.exit(128 + number)

    # Only the main thread may say what a signal does.
    ours = threading.current_thread() is threading.main_thread()
    found = [number for number, usual in ENDING.items() if ours and signal.getsignal(number) == usual]
    for number in found:
        signal.signal(number, end)
    try:
        yield
    except Exception:
        if not received:
            raise
        # A library that was broken off made an error of its own of it, as torch does while it is being imported.
        if received[0] == signal.SIGINT:
            raise KeyboardInterrupt from None
        sys.exit(128 + received[0])
    finally:
        for number in found:
            signal.signal(number, ENDING[number])


class TubeletGroup(click.Group):
    """Turns tubelet's errors, and what the system refuses, into messages and exit codes, in this one place."""

    def invoke(self, ctx: click.Context) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
            sys.stdout.reconfigure(errors="backslashreplace")  # the name of a file need not be text
        try:
            with ended_by_signals(), shortages_named():
                return super().invoke(ctx)
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

    A bundle is a folder made from a ViViT or VideoMAE checkpoint. It classifies videos without torch, and
    carries what torch answered, so that any machine can prove that it computes the same.
    """


for command in (bench, build, check, classify, doctor, explain, export, features, info, quantize, reconstruct):
    main.add_command(command)
