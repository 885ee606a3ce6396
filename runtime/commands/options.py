"""What several commands share: options, and ways to speak."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..backends import BACKENDS, DEFAULT_BACKEND

EXIT_PARITY = 3

Command = Callable[..., None]

bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


def engine_options(command: Command) -> Command:
    """--backend and --precision, the same for every command that runs a graph."""
    command = click.option(
        "--precision", default="fp32", show_default=True, help="Which of the bundle's graphs to run."
    )(command)
    return click.option(
        "--backend",
        type=click.Choice(list(BACKENDS)),
        default=DEFAULT_BACKEND,
        show_default=True,
        help="What executes the graph.",
    )(command)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def note(message: str) -> None:
    """Says something once that the user should know, beside the result."""
    click.echo(f"note: {message}", err=True)
