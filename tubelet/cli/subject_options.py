"""What commands share that look at several engines: which these are, and the page that is written of them."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource

from ..runtime.backends import BACKENDS, DEFAULT_BACKEND
from ..runtime.precisions import BackendName
from ..runtime.storage.written import written_file
from ..runtime.tuning.auto import AUTO, take_tuned
from .options import Command, note

# What --backend takes.
Asked = BackendName | Literal["auto"]


def settled_subjects(
    bundle: Path, backends: Sequence[Asked], precisions: Sequence[str], threads: int | None
) -> tuple[list[tuple[BackendName, str]], int | None]:
    """Each backend with each precision; auto with its own, and its number of threads for all.

    Raises OutOfBounds for threads beside auto, and for a precision where there is nothing but auto.
    """
    named = [(backend, precision) for backend in backends if backend != AUTO for precision in precisions]
    if AUTO not in backends:
        return named, threads
    asked = click.get_current_context().get_parameter_source("precisions") is not ParameterSource.DEFAULT
    found = take_tuned(bundle, precisions[0] if asked and not named else None, threads, say=note)
    auto = (found.choice.backend, found.choice.precision)
    ordered = [auto, *named] if backends[0] == AUTO else [*named, auto]
    return list(dict.fromkeys(ordered)), found.choice.threads


def subject_options(doing: str) -> Callable[[Command], Command]:
    """The options that name backends and precisions, passed on as `subjects`: see `settled_subjects`.

    doing: what the command does with a precision, for the help.
    """

    def with_options(command: Command) -> Command:
        @click.option(
            "--backend",
            "backends",
            multiple=True,
            type=click.Choice([*BACKENDS, AUTO]),
            default=(DEFAULT_BACKEND,),
            show_default=True,
            help="What executes the graphs; may be repeated. auto is what `tubelet tune` chose for this machine.",
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
        def with_subjects(
            *,
            bundle: Path,
            backends: tuple[Asked, ...],
            precisions: tuple[str, ...],
            threads: int | None,
            **others: Any,
        ) -> None:
            subjects, threads = settled_subjects(bundle, backends, precisions, threads)
            command(bundle=bundle, subjects=subjects, threads=threads, **others)

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


_PAGE = b"<!doctype html>"


def require_place(report: Path) -> None:
    """Raise BadParameter where the page cannot go to `report`: before the work, not after it. A page is replaced by the
    next one, and nothing else is."""
    if not report.parent.is_dir():
        raise click.BadParameter(f"the folder {report.parent} does not exist", param_hint="--report")
    if report.exists() and not (report.is_file() and _is_page(report)):
        raise click.BadParameter(f"{report} is there, and is no page: choose another name", param_hint="--report")


def _is_page(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(100).lstrip().lower().startswith(_PAGE)


def write_page(report: Path, page: str) -> None:
    """Write the page, whole or not at all."""
    with written_file(report, follow_link=True) as beside:
        beside.write_text(page, encoding="utf-8")
