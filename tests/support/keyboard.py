"""Ctrl-C from another thread, in step with the main thread."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def keyboard() -> Iterator[Callable[[], None]]:
    """A function that presses Ctrl-C and waits until the main thread has heard it, so that none is heard later."""
    heard = threading.Semaphore(0)

    def hear(number: int, frame: FrameType | None) -> None:
        heard.release()
        signal.default_int_handler(number, frame)

    def press() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert heard.acquire(timeout=10), "the main thread does not hear Ctrl-C"

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield press
    finally:
        signal.signal(signal.SIGINT, before)
