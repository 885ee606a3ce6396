"""Code that mounts file systems, run in a mount namespace of its own."""

import os
import shutil
import subprocess
import sys

import pytest


def run_with_mounts(code: str, *arguments: object) -> list[str]:
    """Give the lines that a Python program prints after its first, "mounted". The test is skipped where the program
    did not get that far, since nothing can be mounted here."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare, to mount in a namespace")
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    command = [*namespace, sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if not child.stdout.startswith("mounted\n"):
        pytest.skip(f"nothing can be mounted here: {child.stderr.strip().splitlines()[-1]}")
    assert child.returncode == 0, child.stderr
    return child.stdout.splitlines()[1:]
