"""A short life of many classifications, and whether a leak would be seen (see scripts/soak.py)."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import soak

SCRIPTS = Path(__file__).parents[2] / "scripts"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is looked up in /proc"),
]

# Opens a file more each time that a model is loaded, and never closes it.
LEAKING = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import soak

load, leaked = soak.load, []

def leaking(*arguments, **options):
    leaked.append(open("/dev/null"))
    return load(*arguments, **options)

soak.load = leaking
soak.main()
"""


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=600, check=False
    )


def test_a_long_life_takes_no_more_than_a_short_one() -> None:
    child = run(SCRIPTS / "soak.py", "--count", 300, "--threads", 3)
    assert child.returncode == 0, child.stdout + child.stderr[-2000:]
    lines = child.stdout.splitlines()
    assert len(lines) == 12
    assert lines[-2].split()[0] == "300"
    assert lines[-1] == "flat, and every answer the first one"


def test_a_leak_is_seen() -> None:
    child = run("-c", LEAKING, SCRIPTS, "--count", 40, "--threads", 2)
    assert child.returncode == 1, child.stderr[-2000:]
    assert "files grew from" in child.stdout.splitlines()[-1]


def noted(before_last: Callable[[], object]) -> list[str]:
    """What a log finds where something happens just before its last part."""
    log = soak.Log("parts", soak.MAX_GROWTH)
    for part in range(soak.PARTS):
        if part == soak.PARTS - 1:
            before_last()
        log.note(part)
    return log.faults()


def test_a_thread_at_work_for_a_moment_is_no_leak() -> None:
    assert noted(threading.Timer(0.3, int).start) == []


def test_a_thread_left_behind_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "SETTLE_SECONDS", 0.3)
    end = threading.Event()
    left = threading.Thread(target=end.wait)
    try:
        (fault,) = noted(left.start)
    finally:
        end.set()
        left.join()
    assert fault.startswith("threads grew from ")


def test_a_long_stream_takes_no_more_than_a_short_one() -> None:
    child = run(SCRIPTS / "soak_streams.py", "--seconds", 40, "--losses", 40)
    assert child.returncode == 0, child.stdout + child.stderr[-2000:]
    lines = child.stdout.splitlines()
    assert len(lines) == 24
    assert lines[-1] == "flat"


def test_a_stream_that_ends_early_is_seen() -> None:
    source = "lavfi:testsrc=size=320x240:rate=30:duration=10"
    child = run(SCRIPTS / "soak_streams.py", "--seconds", 40, "--losses", 10, "--source", source)
    assert child.returncode == 1, child.stderr[-2000:]
    assert "it ended after 2 of 10 parts" in child.stdout
