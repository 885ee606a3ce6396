"""scripts/measure_start.py runs, and its parts add up."""

import subprocess
import sys
from pathlib import Path

import pytest
from measure_start import COMMAND, STEPS, Cost, measure, table

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_start.py"


def test_a_part_is_what_a_step_takes_more_than_the_one_before() -> None:
    wholes = {name: [Cost(10.0 * i, 20.0 * i)] * 3 for i, name in enumerate((*STEPS, COMMAND), start=1)}
    lines = table([wholes, wholes]).splitlines()
    assert [line[:20].strip() for line in lines[1:]] == [*STEPS, "together", COMMAND]
    assert [line[20:].split() for line in lines[1 : 1 + len(STEPS)]] == [["10", "20", "10", "20"]] * len(STEPS)
    assert lines[-2][20:].split() == [str(10 * len(STEPS)), str(20 * len(STEPS))] * 2
    assert lines[-1][20:].split()[:2] == [str(10 * len(STEPS) + 10), str(20 * len(STEPS) + 20)]


def test_a_process_that_fails_is_an_error() -> None:
    with pytest.raises(SystemExit, match=r"(?s)failed.*no such step"):
        measure([sys.executable, "-c", "raise ValueError('no such step')"])


def test_it_runs(vivit_bundle: Path, video: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(vivit_bundle), str(video), "--starts", "1"]
    child = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert child.returncode == 0, child.stderr
    rows = {line[:20].strip(): line[20:].split() for line in child.stdout.splitlines()[4:]}
    assert [*rows] == [*STEPS, "together", COMMAND]
    assert float(rows[COMMAND][0]) > float(rows["interpreter"][0]) > 0
