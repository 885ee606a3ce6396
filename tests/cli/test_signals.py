"""Ctrl-C, at whatever moment, ends a command as a shell expects."""

import subprocess
import sys

import pytest

INTERRUPTED = """
import os, signal, sys

class AtTheImportOf:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
            {after}
        return None

sys.meta_path.insert(0, AtTheImportOf())
from tubelet.__main__ import run
run()
"""


@pytest.mark.parametrize("module", ["click", "numpy", "av", "tubelet.cli.classify"])
@pytest.mark.parametrize("after", ["pass", "raise AttributeError('half imported')"])
def test_an_interrupt_while_modules_are_imported(module: str, after: str) -> None:
    code = INTERRUPTED.format(module=module, after=after)
    ended = subprocess.run(
        [sys.executable, "-c", code, "classify", "--help"], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr.strip()) == (130, "", "Aborted!")
