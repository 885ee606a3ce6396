"""How signals end a command: what it was writing is removed, and the exit code is 128 and the signal."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

# Signals that end a command -> what a process does with them that nobody told otherwise.
ENDING = {
    getattr(signal, name): usual
    for name, usual in (
        ("SIGINT", signal.default_int_handler),
        ("SIGTERM", signal.SIG_DFL),
        ("SIGHUP", signal.SIG_DFL),  # the terminal went away; Windows has none
    )
    if hasattr(signal, name)
}


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the command as Ctrl-C does. What the caller set for any of them stays."""
    received: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_IGN)  # a second one must not break off the cleaning
        sys.exit(128 + number)

    # Only the main thread may say what a signal does.
    ours = threading.current_thread() is threading.main_thread()
    found = [number for number, usual in ENDING.items() if ours and signal.getsignal(number) == usual]
    for number in found:
        signal.signal(number, end)
    try:
        yield
    except Exception:
        if not received:
            raise
        # A library that was broken off made an error of its own of it, as torch does while it is being imported.
        if received[0] == signal.SIGINT:
            raise KeyboardInterrupt from None
        sys.exit(128 + received[0])
    finally:
        for number in found:
            signal.signal(number, ENDING[number])


def exit_interrupted() -> NoReturn:
    """End the process as a shell expects it after Ctrl-C."""
    print("Aborted!", file=sys.stderr)
    sys.exit(128 + signal.SIGINT)


@contextmanager
def stopped_by_signals(stop: threading.Event) -> Iterator[list[int]]:
    """Let the first signal set `stop`, so that what is open can be closed in order. A second one ends the command.

    Yields:
        The signals that came.
    """
    received: list[int] = []
    ours = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in ENDING} if ours else {}
    found = {number: handler for number, handler in before.items() if callable(handler)}

    def ask(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        stop.set()
        for other, handler in found.items():
            signal.signal(other, handler)

    for number in found:
        signal.signal(number, ask)
    try:
        yield received
    finally:
        for number, handler in found.items():
            signal.signal(number, handler)
