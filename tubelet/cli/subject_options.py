"""What commands share that look at several engines: which these are, and the page that is written of them."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..runtime.backends import BACKENDS, DEFAULT_BACKEND
from ..runtime.precisions import BackendName
from ..runtime.storage.written import written_file
from .options import Command


def subject_options(doing: str) -> Callable[[Command], Command]:
    """The options that name backends and precisions, passed on as `subjects`: each backend with each precision.

    doing: what the command does with a precision, for the help.
    """

    def with_options(command: Command) -> Command:
        @click.option(
            "--backend",
            "backends",
            multiple=True,
            type=click.Choice(list(BACKENDS)),
            default=(DEFAULT_BACKEND,),
            show_default=True,
            help="What executes the graphs; may be repeated.",
        )
        @click.option(
            "--precision",
            "precisions",
            multiple=True,
            default=("fp32",),
            show_default=True,
            help=f"A precision to {doing} with each backend; may be repeated.",
        )
        @functools.wraps(command)
        def with_subjects(*, backends: tuple[BackendName, ...], precisions: tuple[str, ...], **others: Any) -> None:
            command(subjects=[(backend, precision) for backend in backends for precision in precisions], **others)

        return with_subjects

    return with_options


def report_option(shows: str) -> Callable[[Command], Command]:
    """--report, whose page `shows` something."""
    return click.option(
        "--report",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help=f"Also write a page with {shows}, an HTML file that needs nothing else.",
    )


def require_folder(report: Path) -> None:
    """Raise BadParameter where the folder of the page is not there: before the work, not after it."""
    if not report.parent.is_dir():
        raise click.BadParameter(f"the folder {report.parent} does not exist", param_hint="--report")


def write_page(report: Path, page: str) -> None:
    """Write the page, whole or not at all."""
    with written_file(report, follow_link=True) as beside:
        beside.write_text(page, encoding="utf-8")
