"""The `tubelet` command, and `python -m tubelet`."""

import os

from .cli.signals import ended_by_signals, exit_interrupted

# numpy's BLAS starts a thread for each further core when it is imported, which turns idly for a while. Nothing here
# gains by them: resizing takes threads of its own, with small products in each.
BLAS_THREADS = "OPENBLAS_NUM_THREADS"


def run() -> None:
    """Run the command. An interrupt while its modules are imported ends it as a later one does."""
    os.environ.setdefault(BLAS_THREADS, "1")
    try:
        with ended_by_signals():
            from .cli.tree import main
    except KeyboardInterrupt:
        exit_interrupted()
    main(prog_name="tubelet")


if __name__ == "__main__":
    run()
