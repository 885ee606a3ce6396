"""scripts/measure_archive.py runs, and measures what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_archive.py"

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is looked up in /proc")


def measure(*arguments: object) -> list[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert child.returncode == 0, child.stderr
    return child.stdout.splitlines()


def test_speed(vivit_bundle: Path, video: Path) -> None:
    lines = measure("speed", vivit_bundle, f"{video.parent}/*.mp4", "--copies", 8, "--rounds", 1)
    assert lines[0] == "8 videos, 1 rounds"
    assert [line[:20].strip() for line in lines[2:]] == [
        "model alone",
        "reading alone",
        "1 process, 1 reader",
        "2 shards",
    ]
    numbers = [tuple(map(float, line[20:].split())) for line in lines[2:]]
    assert all(per_second > 0 and core_seconds >= 0 for per_second, _, core_seconds in numbers)
    assert numbers[3][2] > numbers[0][2]  # which counts the processes of the shards
    assert lines[2].split()[-2] == "1.00"


def test_memory(vivit_bundle: Path) -> None:
    (line,) = measure("memory", vivit_bundle, "--rows", 100)
    assert re.fullmatch(r"this process: 100 rows in \d+ s; MB at each tenth: (\d+, ){9}\d+", line)
