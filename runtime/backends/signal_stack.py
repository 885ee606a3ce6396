"""The stack that a thread handles signals on, kept from a library that puts another in its place."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _SignalStack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def signal_stack_kept() -> Iterator[None]:
    """A block after which this thread has the signal stack again that it had before, none as a rule.

    OpenVINO's plugin for CPUs installs one of its own in the thread that loads it. It frees that with its last model.
    Models may end in another order than they began, or in another thread. The thread is left with freed memory then.
    The next signal that Python handles there, such as Ctrl-C, ends the process by a segmentation fault.
    """
    if sys.platform != "linux":
        yield
        return
    libc, before = ctypes.CDLL(None), _SignalStack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)
