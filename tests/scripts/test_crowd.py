"""A small crowd for a short time, and whether what goes wrong would be seen (see scripts/crowd.py)."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is looked up in /proc"),
]

# Believes that every good video is another one.
MISTAKEN = """
import dataclasses, sys
sys.path.insert(0, sys.argv.pop(1))
import crowd

write_videos = crowd.write_videos

def mistaken(*arguments):
    good, bad = write_videos(*arguments)
    scores = [{label: 1 - score for label, score in video.scores.items()} for video in good]
    return [dataclasses.replace(video, scores=other) for video, other in zip(good, scores)], bad

crowd.write_videos = mistaken
crowd.main()
"""


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )


def test_every_client_of_a_crowd_is_answered(videomae_bundle: Path) -> None:
    child = run(SCRIPTS / "crowd.py", videomae_bundle, "--clients", 30, "--minutes", 0.1)
    assert child.returncode == 0, child.stdout + child.stderr
    assert child.stdout.endswith("\n0 faults\n")
    assert "whole: 200" in child.stdout


def test_a_wrong_answer_is_seen(videomae_bundle: Path) -> None:
    child = run("-c", MISTAKEN, SCRIPTS, videomae_bundle, "--clients", 3, "--minutes", 0.02)
    assert child.returncode == 1, child.stdout + child.stderr
    assert "an answer of another video" in child.stdout
