"""What a measured process does, whose subject subject.py names, and gemm.py for the machine's limit.

It loads the subject, runs it once, then does what it is asked, a request a line on standard input:

    run SECONDS    runs, for so long and at least once    {"ms": [of each run]}
    stages         takes a batch through every stage      {"ms": {stage: of it}}
    memory                                                {"mb": the peak of the process}
    NAME           what else the subject answers to       an object

Each answer is a line of JSON on its standard output. Before the first request comes {"loaded": true}, when the model
is loaded. Then comes {"logits": [...]}, when it has answered for the first time. It ends when its standard input does.
"""

import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from ..preprocess.errors import TubeletError
from ..preprocess.frames import Frames
from ..preprocess.prepare import prepare
from ..preprocess.spec import ClipSpec
from ..runtime import predictions
from ..runtime.backends import cpu_threads, open_backend
from ..runtime.backends.timed_steps import RunsInSteps, Timed
from ..runtime.bundle.bundle import Bundle
from ..runtime.bundle.reference import load_reference
from ..runtime.proof.parity import Infer, clips_of_batch
from ..runtime.reading import read_clip
from .machine import peak_memory_mb

TOP_K = 5

InferInSteps = Callable[[NDArray[Any], Timed], NDArray[np.float32]]


@dataclass(frozen=True)
class Settings:
    """What a process measures.

    engine:  a backend, or a baseline
    inputs:  an .npy file of as many clips as the batch has, as the subject takes them
    video:   a file that stages begin with; they begin with decoded reference clips where there is none
    model:   the checkpoint, for a baseline
    made:    where a peer finds what it made of the checkpoint, or is to put it
    """

    engine: str
    precision: str
    batch: int
    threads: int
    bundle: str
    inputs: str
    video: str | None
    model: str | None
    made: str | None = None

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))


@dataclass(frozen=True)
class Loaded:
    """A subject that is ready.

    run: what is timed; stages: the time in ms of each stage, where there are any; answers: what else it is asked for,
    by name
    """

    run: Callable[[], NDArray[np.float32]]
    stages: Callable[[], dict[str, float]]
    answers: Mapping[str, Callable[[], dict[str, Any]]] = field(default_factory=dict)


def in_one_step(infer: Infer) -> InferInSteps:
    """The steps of an engine that computes where the clips lie."""

    def infer_and_say(batch: NDArray[Any], timed: Timed) -> NDArray[np.float32]:
        logits = infer(batch)
        timed("execute")
        return logits

    return infer_and_say


def stage_times(infer: InferInSteps, bundle: Bundle, spec: ClipSpec, settings: Settings) -> dict[str, float]:
    """Take one batch from the file, or from decoded clips, to labels; ms that each stage took.

    spec: the bundle's, in the layout that `infer` takes.
    """
    clock = Clock()
    if settings.video is None:
        clips = reference_clips(bundle, settings.batch)
        clock.restart()
    else:
        clips = [read_clip(settings.video, spec) for _ in range(settings.batch)]
        clock.timed("decode")
    batch = np.stack([prepare(clip, spec) for clip in clips])
    clock.timed("prepare")
    logits = infer(batch, clock.timed)
    if bundle.problem_type is not None:  # each clip a video of its own
        for clip in logits[:, np.newaxis]:  # (B, 1, K)
            predictions.answer(clip, spec.evaluation.averages, bundle.problem_type, bundle.labels, TOP_K)
    clock.timed("rank")
    return clock.steps_ms


class Clock:
    """Milliseconds from one step to the next; steps of one name are added up."""

    def __init__(self) -> None:
        self.steps_ms: dict[str, float] = {}
        self.restart()

    def restart(self) -> None:
        self._last = time.perf_counter_ns()

    def timed(self, name: str) -> None:
        now = time.perf_counter_ns()
        self.steps_ms[name] = self.steps_ms.get(name, 0.0) + (now - self._last) / 1e6
        self._last = now


def reference_clips(bundle: Bundle, batch: int) -> list[Frames]:
    """The decoded reference clips that a batch is made of."""
    clips = load_reference(bundle).clips
    return [Frames.from_array(clips[i]) for i in clips_of_batch(batch, len(clips))]


def load_backend(values: dict[str, Any]) -> Loaded:
    settings = Settings(**values)
    bundle = Bundle.open(settings.bundle)
    threads = cpu_threads(settings.engine, settings.threads)
    backend = open_backend(settings.engine, bundle, settings.precision, threads=threads)
    inputs = np.load(settings.inputs)
    infer = backend.infer_in_steps if isinstance(backend, RunsInSteps) else in_one_step(backend.infer)
    return Loaded(
        run=lambda: backend.infer(inputs),
        stages=lambda: stage_times(infer, bundle, bundle.spec, settings),
    )


def load_pixel_values(infer: Infer, settings: Settings) -> Loaded:
    """infer: float32 pixel_values (B, T, C, H, W), whatever the bundle's graphs take -> logits (B, K)."""
    inputs, bundle = np.load(settings.inputs), Bundle.open(settings.bundle)
    spec = replace(bundle.spec, layout="TCHW")
    return Loaded(run=lambda: infer(inputs), stages=lambda: stage_times(in_one_step(infer), bundle, spec, settings))


def run_for(run: Callable[[], object], seconds: float) -> list[float]:
    """Run for at least so long, at least once; ms of each run."""
    taken: list[float] = []
    end = time.perf_counter_ns() + seconds * 1e9
    while not taken or time.perf_counter_ns() < end:
        start = time.perf_counter_ns()
        run()
        taken.append((time.perf_counter_ns() - start) / 1e6)
    return taken


def answer(loaded: Loaded, request: Sequence[str]) -> dict[str, Any]:
    match request:
        case ["run", seconds]:
            return {"ms": run_for(loaded.run, float(seconds))}
        case ["stages"]:
            return {"ms": loaded.stages()}
        case ["memory"]:
            return {"mb": peak_memory_mb()}
        case [name] if name in loaded.answers:
            return loaded.answers[name]()
        case _:
            raise ValueError(f"unknown request {request!r}")


def serve(load: Callable[[dict[str, Any]], Loaded]) -> None:
    """Give `load` the settings in the first argument of the process, and answer until nothing more is asked."""
    # Whoever started this process ends it; a Ctrl-C in the terminal is theirs to deal with.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = _own_stdout()

    def say(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=channel, flush=True)

    try:
        loaded = load(json.loads(sys.argv[1]))
        say({"loaded": True})
        say({"logits": loaded.run().tolist()})
        for line in sys.stdin:
            say(answer(loaded, line.split()))
    except TubeletError as error:
        say({"error": type(error).__name__, "message": error.message, "fix": error.fix})
        sys.exit(1)


def _own_stdout() -> TextIO:
    """Standard output for the answers alone: what an engine prints goes to standard error instead."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return channel
