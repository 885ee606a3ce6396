"""The measurement itself: subjects in turn, round after round.

For each batch size, every subject is started in a process of its own and stays. They are warmed up one after the
other, and then visited in turn, A B C A B C. A machine whose speed drifts so does it for all of them. A visit is at
least one run, and as many as fit into VISIT_SECONDS. So a fast subject is measured with its caches warm.
"""

import math
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..preprocess.errors import BundleError
from ..preprocess.prepare import normalise, prepare
from ..runtime.bundle.bundle import Bundle
from ..runtime.bundle.reference import load_reference
from ..runtime.limits import cosines
from ..runtime.progress import Progress, silent
from ..runtime.proof.parity import clips_of_batch
from ..runtime.storage.written import naming
from . import gemm as gemm_process
from . import subject as subject_process
from .baselines import BASELINES, is_made
from .gemm import GemmSettings, gemm_engines, gigaflop, heaviest_shapes
from .machine import Machine, clock_mhz
from .measurement import Measurement, Subject
from .process import Process, start
from .report import GemmRate
from .worker import Settings, reference_clips

VISIT_SECONDS = 0.1
# A limit is the fastest that was seen, so it is looked for longer.
GEMM_VISIT_SECONDS = 0.5
# Between two visits, so that the threads of the one before have gone to sleep.
PAUSE_SECONDS = 0.05

# The warm-up of a subject ends when its last STEADY_VISITS medians lie within STEADY_WITHIN of one another.
STEADY_VISITS = 3
STEADY_WITHIN = 0.1
MOST_WARMUP_VISITS = 6

STAGE_ROUNDS = 3


@dataclass(frozen=True)
class Plan:
    """What is to be measured, and how.

    engines:  (engine, precision) of each subject
    starts:   processes that are started of each subject at the smallest batch, for its cold start
    video:    a file that stages begin with
    model:    the checkpoint of the baselines in torch
    """

    bundle: Bundle
    engines: tuple[tuple[str, str], ...]
    batches: tuple[int, ...]
    threads: int
    rounds: int
    starts: int
    video: Path | None
    model: str | None


@dataclass(frozen=True)
class Taken:
    """What a bench took."""

    measurements: tuple[Measurement, ...]
    limits: tuple[GemmRate, ...]
    clocks_mhz: tuple[float, ...]


class Tally:
    """What is known of one subject so far."""

    def __init__(self, subject: Subject, process: Process, starts: Sequence[tuple[float, float]]) -> None:
        self.subject = subject
        self.process = process
        self.starts = (*starts, (process.load_ms, process.cold_start_ms))
        self.warmup_ms: tuple[float, ...] = ()
        self.steady = False
        self.rounds_ms: list[tuple[float, ...]] = []
        self.peak_memory_mb: float | None = None
        self.stages: list[dict[str, float]] = []

    def warm_up(self) -> None:
        while not self.steady and len(self.warmup_ms) < MOST_WARMUP_VISITS:
            self.warmup_ms += (float(np.median(self.process.run(VISIT_SECONDS))),)
            last = self.warmup_ms[-STEADY_VISITS:]
            self.steady = len(last) == STEADY_VISITS and max(last) - min(last) <= STEADY_WITHIN * min(last)

    def visit(self) -> None:
        time.sleep(PAUSE_SECONDS)
        self.rounds_ms.append(self.process.run(VISIT_SECONDS))

    def measurement(self, torch_logits: NDArray[np.float32], *, ranked: bool) -> Measurement:
        """torch_logits (B, K): what torch answered at the export for the clips of the batch. ranked: see `Bundle`."""
        return Measurement(
            subject=self.subject,
            rounds_ms=tuple(self.rounds_ms),
            warmup_ms=self.warmup_ms,
            steady=self.steady,
            load_ms=tuple(load for load, _ in self.starts),
            cold_start_ms=tuple(cold for _, cold in self.starts),
            peak_memory_mb=self.peak_memory_mb,
            stages_ms={stage: tuple(times[stage] for times in self.stages) for stage in self.stages[0]},
            cosine=smallest_cosine(self.process.logits, torch_logits) if ranked else None,
        )


def smallest_cosine(got: NDArray[Any], expected: NDArray[Any]) -> float:
    """The smallest cosine between rows of (B, K) and (B, K).

    Raises BundleError for shapes that differ or hold no value.
    """
    if got.shape != expected.shape or got.size == 0:
        raise BundleError(f"logits {got.shape} cannot be compared with torch's {expected.shape}")
    return float(cosines(got.astype(np.float64), expected.astype(np.float64)).min())


def take(plan: Plan, machine: Machine, *, progress: Progress = silent) -> Taken:
    """Measure every subject at every batch.

    Raises what an engine or a baseline raises when it cannot be started, BackendError where a process ends early.
    """
    bundle = plan.bundle
    for graph in bundle.graphs:
        for file in graph.files:
            bundle.verified(file)  # which also brings it into the system's cache, for all subjects alike
    reference = load_reference(bundle)
    measurements: list[Measurement] = []
    clocks: list[float] = []
    limits: tuple[GemmRate, ...] = ()
    with tempfile.TemporaryDirectory(prefix="tubelet-bench-") as folder:
        for batch in plan.batches:
            inputs = write_inputs(bundle, batch, Path(folder))
            logits = reference.logits[clips_of_batch(batch, len(reference.clips))]
            first = batch == plan.batches[0]
            with ExitStack() as stack:
                tallies = _start_all(plan, batch, inputs, plan.starts if first else 1, stack, progress)
                gemms = _start_gemms(plan, machine, stack) if first else {}
                for tally in tallies:
                    progress(f"batch {batch}: warming up {tally.subject.name}")
                    tally.warm_up()
                rates, clocks_of_batch = _visit_in_turn(plan, tallies, gemms, progress)
                limits += rates
                clocks += clocks_of_batch
                measurements += [tally.measurement(logits, ranked=plan.bundle.ranked) for tally in tallies]
    return Taken(tuple(measurements), limits, tuple(clocks))


def write_inputs(bundle: Bundle, batch: int, folder: Path) -> dict[str, Path]:
    """The reference clips of a batch, ready: "graph" as the bundle's graphs take them, "torch" as pixel_values."""
    clips = np.stack([prepare(clip, bundle.spec) for clip in reference_clips(bundle, batch)])
    pixel_values = clips if bundle.spec.layout == "TCHW" else normalise(clips, bundle.spec)
    paths = {}
    for name, array in (("graph", clips), ("torch", pixel_values)):
        paths[name] = folder / f"{name}-{batch}.npy"
        with naming(paths[name]):
            np.save(paths[name], array)
    return paths


def _process(plan: Plan, subject: Subject, inputs: dict[str, Path]) -> AbstractContextManager[Process]:
    """The process of one subject, not started yet."""
    baseline = BASELINES.get(subject.engine)
    settings = Settings(
        engine=subject.engine,
        precision=subject.precision,
        batch=subject.batch,
        threads=plan.threads,
        bundle=str(plan.bundle.path),
        inputs=str(inputs["torch" if baseline else "graph"]),
        video=None if plan.video is None else str(plan.video),
        model=plan.model,
        made=str(inputs["graph"].with_name(subject.engine + baseline.made)) if baseline and baseline.made else None,
    )
    return start(
        subject_process, settings.to_json(), name=f"{subject.name} at batch {subject.batch}", threads=plan.threads
    )


def _start_all(
    plan: Plan, batch: int, inputs: dict[str, Path], starts: int, stack: ExitStack, progress: Progress
) -> list[Tally]:
    """Every subject started so many times, in turn; the last process of each stays until the stack is left."""
    subjects = [Subject(engine, precision, batch) for engine, precision in plan.engines]
    for subject in subjects:
        if is_made(subject.engine):
            progress(f"converting by {subject.engine}")
            with _process(plan, subject, inputs):  # which converts unless a smaller batch has; its times are not kept
                pass
    begun: dict[Subject, list[tuple[float, float]]] = {subject: [] for subject in subjects}
    for number in range(1, starts):
        for subject in subjects:
            progress(f"batch {batch}: start {number} of {starts}, {subject.name}")
            with _process(plan, subject, inputs) as process:
                begun[subject].append((process.load_ms, process.cold_start_ms))
    tallies = []
    for subject in subjects:
        progress(f"batch {batch}: start {starts} of {starts}, {subject.name}")
        process = stack.enter_context(_process(plan, subject, inputs))
        tallies.append(Tally(subject, process, begun[subject]))
    return tallies


def _start_gemms(plan: Plan, machine: Machine, stack: ExitStack) -> dict[tuple[str, str], Process]:
    """A process for each engine and precision that the machine's limit is measured with."""
    shapes = heaviest_shapes(plan.bundle.products)
    gemms = {}
    for engine, precision in gemm_engines(machine):
        settings = GemmSettings(engine, precision, plan.threads, shapes)
        name = f"matrix products by {engine} {precision}"
        gemms[engine, precision] = stack.enter_context(
            start(gemm_process, settings.to_json(), name=name, threads=plan.threads)
        )
    return gemms


def _visit_in_turn(
    plan: Plan, tallies: Sequence[Tally], gemms: dict[tuple[str, str], Process], progress: Progress
) -> tuple[tuple[GemmRate, ...], list[float]]:
    """All rounds. The limits, of the fastest run of each of `gemms`, and the machine's clock after each round."""
    fastest_ms = dict.fromkeys(gemms, math.inf)
    clocks = []
    for number in range(1, plan.rounds + 1):
        progress(f"batch {tallies[0].subject.batch}: round {number} of {plan.rounds}")
        for tally in tallies:
            tally.visit()
        for key, process in gemms.items():
            time.sleep(PAUSE_SECONDS)
            fastest_ms[key] = min(fastest_ms[key], *process.run(GEMM_VISIT_SECONDS))
        clock = clock_mhz()
        clocks += [] if clock is None else [clock]
    for tally in tallies:
        tally.peak_memory_mb = tally.process.peak_memory_mb()
    for number in range(1, STAGE_ROUNDS + 1):
        progress(f"batch {tallies[0].subject.batch}: stages, {number} of {STAGE_ROUNDS}")
        for tally in tallies:
            time.sleep(PAUSE_SECONDS)
            tally.stages.append(tally.process.stages())
    work = gigaflop(heaviest_shapes(plan.bundle.products))
    rates = tuple(GemmRate(engine, precision, 1000 * work / ms) for (engine, precision), ms in fastest_ms.items())
    return rates, clocks
