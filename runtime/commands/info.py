"""`tubelet info`."""

from pathlib import Path

import click

from ...preprocess.decode import probe
from ..bundle import Bundle
from .options import BundlePath, json_option, print_json


@click.command()
@click.argument("path", metavar="BUNDLE|VIDEO", type=BundlePath())
@json_option
def info(path: Path, as_json: bool) -> None:
    """Show what a bundle is, or what a video file holds.

    \b
    Example:
      tubelet info artifacts/vivit-b-16x2-kinetics400
      tubelet info archery.mp4
    """
    described = probe(path) if path.is_file() else Bundle.open(path)
    if as_json:
        print_json(described.to_json())
    else:
        click.echo(described.summary())
