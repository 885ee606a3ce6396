"""`python -m tubelet`: the same as the `tubelet` command."""

from .cli.tree import main

main(prog_name="tubelet")
