"""Reads damaged copies of a video until one does more than be read or be refused: python fuzz.py FILE SEED COUNT

Every copy has some of its bytes changed, is cut short, or has a block lost or repeated, by chance from SEED. Each
is probed and read, with and without passing over damage. All may be well or raise VideoError; anything else ends
the process with a traceback and the number of the copy, and so do a minute over one of them, files left open,
and memory that is not given back. Runs in a process of its own, because a decoder may take it down.
"""

import ctypes
import faulthandler
import os
import random
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tubelet.preprocess.convert import Scaling
from tubelet.preprocess.decode import probe, read_frames
from tubelet.preprocess.errors import VideoError
from tubelet.preprocess.frames import Timeline
from tubelet.preprocess.sampling import at_rate
from tubelet.preprocess.sources import Source
from tubelet.preprocess.spec import ExactSize

SECONDS_EACH = 60  # each takes milliseconds; a machine may be busy
WARM_UP = 50  # copies after which memory should have settled
MAX_GROWTH = 32 << 20  # bytes


def damaged(content: bytes, chance: random.Random) -> bytes:
    """A copy with a few bytes changed, or, one time in four, with a part lost or repeated."""
    copy = bytearray(content)
    kind = chance.random()
    if kind < 0.75:
        # Headers are a small part of a file and most of what can go wrong.
        reach = min(len(copy), 1024) if chance.random() < 0.4 else len(copy)
        for _ in range(chance.choice((1, 1, 2, 4, 16, 64))):
            copy[chance.randrange(reach)] = chance.choice((0, 255, chance.randrange(256)))
        return bytes(copy)
    start, end = sorted((chance.randrange(len(copy)), chance.randrange(len(copy))))
    if kind < 0.85:
        return bytes(copy[:end])
    return bytes(copy[:start] + copy[end:] if kind < 0.92 else copy[:end] + copy[start:])


def read_all_ways(path: Path) -> int:
    """How many of the ways to read the file ended in VideoError."""

    def ends(timeline: Timeline) -> NDArray[np.int64]:
        return np.array([len(timeline) - 1, 0, len(timeline) // 2])

    def everything(timeline: Timeline) -> NDArray[np.int64]:
        return np.arange(len(timeline))[:16]

    def slowly(timeline: Timeline) -> NDArray[np.int64]:
        return at_rate(timeline, 5)[:16]

    refused = 0
    source = replace(Source.of(path), max_mb=256)  # a header that claims a huge size is refused alike, and sooner
    for read in (
        lambda: probe(source),
        lambda: read_frames(source, ends),
        lambda: read_frames(source, everything, on_error="skip"),
        lambda: read_frames(source, slowly, on_error="skip", scale_to=Scaling(ExactSize(32, 32), "bilinear")),
    ):
        try:
            read()
        except VideoError:
            refused += 1
    return refused


def resident_bytes() -> int:
    """Memory in use, without what was freed and is only kept by the C library (glibc) for later."""
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def main() -> None:
    source, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    content = source.read_bytes()
    refused = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / source.name
        path.write_bytes(content)
        probe(path)
        for number in range(count):
            if number == WARM_UP:
                settled, descriptors = resident_bytes(), sorted(os.listdir("/proc/self/fd"))
            path.write_bytes(damaged(content, random.Random(f"{source.name} {seed} {number}")))
            print(f"copy {number}", file=sys.stderr, flush=True)
            faulthandler.dump_traceback_later(SECONDS_EACH, exit=True)
            refused += read_all_ways(path)
            faulthandler.cancel_dump_traceback_later()
        grown = resident_bytes() - settled
    assert sorted(os.listdir("/proc/self/fd")) == descriptors, "files were left open"
    assert grown < MAX_GROWTH, f"memory grew by {grown / 1e6:.0f} MB over {count - WARM_UP} copies"
    print(f"{count} copies of {source.name}, {refused} of {4 * count} readings refused, {grown / 1e6:+.1f} MB")


if __name__ == "__main__":
    main()
