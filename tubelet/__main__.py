"""The `tubelet` command, and `python -m tubelet`."""

from .cli.signals import ended_by_signals, exit_interrupted


def run() -> None:
    """Run the command. An interrupt while its modules are imported ends it as a later one does."""
    try:
        with ended_by_signals():
            from .cli.tree import main
    except KeyboardInterrupt:
        exit_interrupted()
    main(prog_name="tubelet")


if __name__ == "__main__":
    run()
