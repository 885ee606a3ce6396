"""The options of commands that make a picture."""

from pathlib import Path

import click

from .options import Command


def picture_options(command: Command) -> Command:
    """--output, --frames and --force."""
    command = click.option("--force", is_flag=True, help="Replace a file that is there already.")(command)
    command = click.option(
        "--frames", "shown", type=click.IntRange(min=1), default=8, show_default=True, help="How many a .png shows."
    )(command)
    return click.option(
        "-o",
        "--output",
        required=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="A .png for a sheet of frames; an .mp4 or .gif to watch.",
    )(command)
