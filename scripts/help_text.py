"""The help of a command as docs/ pastes it. `make docs` runs it through cog and fails where a page is stale."""

from click.testing import CliRunner

from tubelet.cli.tree import main

WIDTH = 80


def help_text(*command: str) -> str:
    """Give the help of `tubelet COMMAND` as a fenced block.

    Args:
        command: Words after `tubelet`, none for the whole tree.
    """
    result = CliRunner().invoke(
        main, [*command, "--help"], prog_name="tubelet", terminal_width=WIDTH, max_content_width=WIDTH
    )
    assert result.exit_code == 0, result.output
    return f"```\n$ tubelet {' '.join([*command, '--help'])}\n{result.output}```\n"
