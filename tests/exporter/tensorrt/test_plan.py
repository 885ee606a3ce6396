"""A build beside the main thread: Ctrl-C ends it, and is not heard of before it has ended."""

import threading

import pytest
from keyboard import keyboard

from tubelet.exporter.tensorrt.plan import _run_cancellable


class Monitor:
    """What a build looks at between its steps."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()


@pytest.mark.parametrize("times", [1, 2, 5])
def test_ctrl_c_as_the_build_starts(times: int) -> None:
    monitor, ended = Monitor(), threading.Event()
    with keyboard() as press_ctrl_c:

        def build() -> None:
            for _ in range(times):
                press_ctrl_c()
            if monitor.cancelled.wait(10):
                ended.set()

        with pytest.raises(KeyboardInterrupt):
            _run_cancellable(monitor, build)
    assert ended.is_set()


def test_what_a_build_returns_and_raises() -> None:
    assert _run_cancellable(Monitor(), lambda: "plan") == "plan"
    with pytest.raises(ZeroDivisionError):
        _run_cancellable(Monitor(), lambda: 1 // 0)
