"""A long life: classifies good and broken files in one process, and sees whether anything grows.

    python scripts/soak.py [--count 100000] [--threads 4]

Threads share models of every engine that runs here. They open them anew now and then, and classify one video at a time
or several together. Every tenth of the way it prints memory, open files and threads. From the second tenth on they
must be flat, and every answer must be the first one for that file. Exit code 1 where they are not. Linux.
"""

import argparse
import ctypes
import gc
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import breaking
from videos import damage, make_video

from tubelet import Reading, VideoClassifier, VideoError, load

ENGINES = ("onnxruntime", "openvino")
ROUND = 2500  # classifications between two times that the models are opened
PARTS = 10
MAX_GROWTH = 32 << 20  # bytes, from the second tenth to the last
SETTLE_SECONDS = 5.0  # that a thread may take to end on loaded cores
READINGS = (Reading(), Reading(clips=2, on_error="skip"))

Answer = tuple[tuple[str, float], ...] | str  # predictions, rounded, or the words of the error
Model = tuple[str, int, VideoClassifier]  # the engine, the number of the reading, the model


@dataclass(frozen=True)
class Use:
    """What the process holds: bytes in memory, open files, threads."""

    resident: int
    files: int
    threads: int

    @classmethod
    def now(cls) -> "Use":
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what was freed and is only kept by the C library is not held
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        tasks = len(os.listdir("/proc/self/task"))
        return cls(pages * os.sysconf("SC_PAGESIZE"), len(os.listdir("/proc/self/fd")), tasks)

    @classmethod
    def settled(cls, than: "Use") -> "Use":
        """Wait for as few files and threads as before, for a while, and say what is held then.

        A thread at work for a moment, or one that has just ended, is not held. One that is left behind stays.
        """
        last = time.monotonic() + SETTLE_SECONDS
        while (use := cls.now()).files > than.files or use.threads > than.threads:
            if time.monotonic() > last:
                break
            time.sleep(0.01)
        return use


class Log:
    """What the process holds at each tenth of the way: printed, and judged from the second on."""

    def __init__(self, unit: str, max_growth: int) -> None:
        self._unit, self._max_growth = unit, max_growth
        self._uses: list[Use] = []
        self._begun = time.monotonic()
        print(f"{unit:>10}  memory MB  files  threads  seconds", flush=True)

    def note(self, done: float) -> None:
        """Note what is held after so much of the way, in the log's unit."""
        use = Use.settled(self._uses[1]) if len(self._uses) > 1 else Use.now()
        self._uses.append(use)
        took = time.monotonic() - self._begun
        print(f"{done:>10.0f}  {use.resident / 1e6:>9.1f}  {use.files:>5}  {use.threads:>7}  {took:>7.0f}", flush=True)

    def faults(self) -> list[str]:
        """What grew from the second tenth to the last, in words."""
        if len(self._uses) < PARTS:
            return [f"it ended after {len(self._uses)} of {PARTS} parts"]
        early, last = self._uses[1], self._uses[-1]
        grown = last.resident - early.resident
        found = [f"memory grew by {grown / 1e6:.1f} MB over the {self._unit}"] if grown > self._max_growth else []
        return found + [
            f"{name} grew from {getattr(early, name)} to {getattr(last, name)}"
            for name in ("files", "threads")
            if getattr(last, name) > getattr(early, name)
        ]


def write_files(folder: Path) -> list[Path]:
    """Good videos, and some that are broken in each of the ways that take another turn through the reader."""
    make = partial(make_video, frames=12, size=(64, 48), keyframe_every=4)
    good = [make(folder / f"good.{suffix}") for suffix in ("mp4", "mkv", "ts")]
    lost = damage(make(folder / "lost.mp4", codec_options={"bf": "0"}), [4, 5, 6])
    short, text, empty = folder / "short.mp4", folder / "text.mp4", folder / "empty.mp4"
    short.write_bytes(good[0].read_bytes()[:900])
    text.write_text("no video")
    empty.touch()
    return [*good, lost, short, text, empty, folder / "missing.mp4"]


class Soak:
    """Answers so far by engine, reading and file, against which all later ones are held."""

    def __init__(self, bundle: Path, files: Sequence[Path]) -> None:
        self.bundle, self.files = bundle, files
        self.done = 0
        self.wrong: list[str] = []
        self._first: dict[tuple[str, int, Path], Answer] = {}
        self._lock = threading.Lock()

    def round(self, seed: int, count: int, threads: int) -> None:
        """Open the models, share `count` classifications out among threads, and close them."""
        with ExitStack() as stack:
            models: list[Model] = [
                (engine, number, stack.enter_context(load(self.bundle, backend=engine, threads=1, reading=reading)))
                for engine in ENGINES
                for number, reading in enumerate(READINGS)
            ]
            with ThreadPoolExecutor(threads) as pool:
                for result in [
                    pool.submit(self._work, models, f"{seed} {i}", count // threads) for i in range(threads)
                ]:
                    result.result()

    def _work(self, models: Sequence[Model], seed: str, count: int) -> None:
        chance = random.Random(seed)
        left = count
        while left > 0:
            engine, number, model = chance.choice(models)
            taken = 1 if chance.random() < 0.7 else min(left, 6)
            files = [chance.choice(self.files) for _ in range(taken)]
            for file, answer in zip(files, self._answers(model, files), strict=True):
                self._hold(engine, number, file, answer)
            left -= taken

    def _answers(self, model: VideoClassifier, files: Sequence[Path]) -> Iterator[Answer]:
        if len(files) == 1:
            try:
                yield tuple((label, round(score, 4)) for label, score in model.classify(files[0]))
            except VideoError as error:
                yield error.message
            return
        for result in model.classify_many(files, batch=3):
            rounded = tuple((label, round(score, 4)) for label, score in result.predictions)
            yield rounded if result.error is None else result.error.message

    def _hold(self, engine: str, number: int, file: Path, answer: Answer) -> None:
        with self._lock:
            self.done += 1
            first = self._first.setdefault((engine, number, file), answer)
            if not same(first, answer):
                self.wrong.append(f"{engine}, {file.name}: {first} at first, then {answer}")


def same(one: Answer, other: Answer) -> bool:
    """Whether two answers are one, but for the last digit of what a batch of another size computes."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    scores = dict(other)
    return len(one) == len(other) and all(abs(score - scores.get(label, 9)) < 3e-4 for label, score in one)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="classifications")
    parser.add_argument("--threads", type=int, default=4, help="that classify at the same time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        breaking.in_child(lambda: breaking.write_bundle(Path(folder)))
        soak = Soak(Path(folder) / "bundle", write_files(Path(folder)))
        log = Log("classified", MAX_GROWTH)
        for part in range(PARTS):
            share = options.count // PARTS
            for number, start in enumerate(range(0, share, ROUND)):
                soak.round(part * 1000 + number, min(ROUND, share - start), options.threads)
            log.note(soak.done)
    faults = soak.wrong[:5] + log.faults()
    print("\n".join(faults) or "flat, and every answer the first one")
    if faults:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
