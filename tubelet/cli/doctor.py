"""`tubelet doctor`."""

import click

from .options import json_option, print_json


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Show what is installed, which engines really start here, and what to install for the rest.

    \b
    Example:
      tubelet doctor
    """
    from ..runtime.doctor import examine

    examination = examine()
    if as_json:
        print_json(examination.to_json())
    else:
        click.echo(examination.table())
