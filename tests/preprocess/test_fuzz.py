"""Damaged files of every kind of container: each is read or refused, and nothing else happens (see fuzz.py)."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import fuzz
import pytest
from videos import make_video

pytestmark = pytest.mark.slow

COPIES = 350  # of each file, so 2,100 in all
SOURCES: dict[str, dict[str, Any]] = {
    "h264.mp4": {},
    "hevc.mov": {"codec": "libx265", "codec_options": {"x265-params": "log-level=none"}, "rotation": 180},
    "h264.mkv": {},
    "vp8.webm": {"codec": "libvpx", "codec_options": {"deadline": "realtime"}},
    "h264.ts": {},
    "mpeg4.avi": {"codec": "mpeg4"},
}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory and open files are looked up in /proc")
@pytest.mark.parametrize("name", SOURCES)
def test_damage_is_read_or_refused_and_nothing_else(tmp_path, name):
    source = make_video(tmp_path / name, frames=12, size=(64, 48), keyframe_every=5, **SOURCES[name])
    child = subprocess.run(
        [sys.executable, fuzz.__file__, source, "0", str(COPIES)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=600,
        check=False,
    )
    assert child.returncode == 0, f"exit {child.returncode}: {child.stderr[-3000:]}"
    assert child.stdout.startswith(f"{COPIES} copies of {name}, ")
    refused = int(child.stdout.split()[4])
    assert 0 < refused < 4 * COPIES, child.stdout
