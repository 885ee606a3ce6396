"""The commands of a tree, imported all."""

import click


def commands(tree: click.Group) -> dict[str, click.Command]:
    """Name -> command, in the order of the help."""
    context = click.Context(tree)
    found = {name: tree.get_command(context, name) for name in tree.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}
