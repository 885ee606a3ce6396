"""What several commands share: options, and ways to speak."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..backends import BACKENDS, DEFAULT_BACKEND
from ..bundle import PRECISIONS, Precision

EXIT_PARITY = 3

Command = Callable[..., None]

bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


def engine_options(command: Command) -> Command:
    """--backend, --precision and --threads, the same for every command that runs one graph."""
    command = click.option(
        "--threads", type=click.IntRange(min=1), help="Of the CPU, for one batch.  [default: the engine's]"
    )(command)
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


class PrecisionList(click.ParamType[tuple[Precision, ...]]):
    """Precisions of graphs, separated by commas; each once."""

    name = "precisions"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Precision, ...]:
        found: list[Precision] = []
        for name in value.split(","):
            known = [precision for precision in PRECISIONS if precision == name.strip()]
            if not known:
                self.fail(f"{name.strip()!r} is none of {', '.join(PRECISIONS)}", param, ctx)
            found += known
        return tuple(dict.fromkeys(found))


calibrate_option = click.option(
    "--calibrate",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="FOLDER|FILE",
    help="Videos to observe activations on, for all but int8; may be repeated.  [default: the reference clips]",
)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))  # in ASCII, which every stdout can carry


def note(message: str) -> None:
    """Says something once that the user should know, beside the result."""
    click.echo(f"note: {message}", err=True)
