"""A build beside the main thread: Ctrl-C ends it, and is not heard of before it has ended."""

import os
import signal
import threading
from collections.abc import Callable

import pytest

from tubelet.exporter.tensorrt.plan import _run_cancellable


class Monitor:
    """What a build looks at between its steps."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()


def a_build(monitor: Monitor, ended: threading.Event, interrupts: Callable[[], None]) -> Callable[[], None]:
    def build() -> None:
        interrupts()
        if monitor.cancelled.wait(10):
            ended.set()

    return build


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("attempt", range(8))
def test_ctrl_c_as_the_build_starts(attempt: int) -> None:  # noqa: ARG001
    monitor, ended = Monitor(), threading.Event()
    with pytest.raises(KeyboardInterrupt):
        _run_cancellable(monitor, a_build(monitor, ended, interrupt))
    assert ended.is_set()


def test_ctrl_c_again_and_again_waits_for_the_build() -> None:
    monitor, ended = Monitor(), threading.Event()

    def impatient() -> None:
        interrupt()
        assert monitor.cancelled.wait(10)
        for _ in range(5):
            interrupt()
            threading.Event().wait(0.02)

    with pytest.raises(KeyboardInterrupt):
        _run_cancellable(monitor, a_build(monitor, ended, impatient))
    assert ended.is_set()


def test_what_a_build_returns_and_raises() -> None:
    assert _run_cancellable(Monitor(), lambda: "plan") == "plan"
    with pytest.raises(ZeroDivisionError):
        _run_cancellable(Monitor(), lambda: 1 // 0)
