"""`tubelet info`."""

from pathlib import Path

import click

from ..bundle import Bundle
from .options import bundle_argument, json_option, print_json


@click.command()
@bundle_argument
@json_option
def info(bundle: Path, as_json: bool) -> None:
    """Show what BUNDLE is: its model, its input, its graphs, and how it was proven.

    \b
    Example:
      tubelet info artifacts/vivit-b-16x2-kinetics400
    """
    opened = Bundle.open(bundle)
    if as_json:
        print_json(opened.to_json())
    else:
        click.echo(opened.summary())
