"""bench_bundle: a bundle's backends and precisions, beside each other and beside torch -> LatencyReport."""

import datetime
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from ..preprocess.errors import BackendError, CheckpointError, MissingExtra
from ..runtime.backends import BACKENDS
from ..runtime.bounds import ROUNDS, STARTS, THREADS
from ..runtime.bundle.bundle import Bundle
from ..runtime.bundle.memory import clips_at_once
from ..runtime.progress import Progress, silent
from ..runtime.reading import read_clip
from ..runtime.system import default_threads
from .baselines import BASELINES, is_made, is_of_transformers
from .gemm import heaviest_shapes
from .machine import Machine, examine_machine
from .measure import Plan, Taken, take
from .report import LatencyReport

# More than this many processes wanting to run before anything was started, and it is said so.
QUIET_LOAD = 0.5


def bench_bundle(
    bundle: Bundle,
    engines: Sequence[tuple[str, str]],
    *,
    against: Sequence[str] = (),
    batches: Sequence[int] = (1,),
    threads: int | None = None,
    rounds: int = 10,
    starts: int = 3,
    video: Path | None = None,
    model: str | None = None,
    command: str = "",
    progress: Progress = silent,
) -> LatencyReport:
    """Measure engines and baselines in torch, in turn.

    The others are compared with the first of `against`, or of `engines` where that is empty.

    Args:
        bundle: the bundle.
        engines: (backend, precision) of each.
        against: the baselines in torch, by name.
        batches: clips at once, each 1 or more.
        threads: CPU threads of each subject. Without a number, as many as this process may use cores.
        rounds: visits to each subject, 3 or more.
        starts: processes for the cold start of each, 1 or more.
        video: a file that the stages begin with. Without one, decoded clips of the bundle.
        model: the checkpoint for torch, an id on the Hub or a folder. Without one, the bundle's own where it came from
            the Hub.
        command: how the bench was called, to stand in the report.
        progress: called with a line for each step.

    Raises:
        OutOfBounds: for numbers that cannot be.
        BackendError: for an unknown or unusable engine.
        BundleError: for a precision that the bundle lacks.
        CheckpointError: where torch has no checkpoint.
        MissingExtra: where an engine or torch is not installed.
        VideoError: for a file that is no video.
    """
    _require_bounds(bundle, batches, threads, rounds, starts)
    bundle.require_classifier("the bench")
    for engine, _ in engines:
        if engine not in BACKENDS:
            raise BackendError(f"there is no backend {engine!r}; there are {', '.join(BACKENDS)}")
    if video is not None:
        read_clip(video, bundle.spec)  # a file that is no video is an error before anything is measured
    machine = examine_machine()
    baselines = tuple(dict.fromkeys(against))
    plan = Plan(
        bundle=bundle,
        engines=(*dict.fromkeys(engines), *((name, BASELINES[name].precision) for name in baselines)),
        batches=tuple(sorted(set(batches))),
        threads=threads or default_threads(),
        rounds=rounds,
        starts=starts,
        video=video,
        model=checkpoint_for_torch(bundle, model, baselines) if baselines else None,
    )
    taken = take(plan, machine, progress=progress)
    return _report(plan, machine, taken, baselines, command)


def _require_bounds(bundle: Bundle, batches: Sequence[int], threads: int | None, rounds: int, starts: int) -> None:
    for bound, values in (
        (clips_at_once(bundle, "batch"), batches),
        (ROUNDS, [rounds]),
        (STARTS, [starts]),
        (THREADS, [] if threads is None else [threads]),
    ):
        for value in values:
            bound.check(value)


def _report(plan: Plan, machine: Machine, taken: Taken, baselines: Sequence[str], command: str) -> LatencyReport:
    bundle, video = plan.bundle, plan.video
    names = [one.subject.name for one in taken.measurements]
    return LatencyReport(
        command=command,
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        model=bundle.model_id if bundle.commit is None else f"{bundle.model_id} @ {bundle.commit}",
        bundle_sha256={file.name: file.sha256 for graph in bundle.graphs for file in graph.files},
        clip_shape=tuple(int(size) for size in bundle.graphs[0].inputs[0].shape[1:]),
        macs=sum(product.macs for product in bundle.products),
        shapes=heaviest_shapes(bundle.products),
        machine=machine,
        threads=plan.threads,
        rounds=plan.rounds,
        video=None if video is None else video.name,
        baseline=baselines[0] if baselines else names[0] if len(set(names)) > 1 else None,
        measurements=taken.measurements,
        limits=taken.limits,
        clocks_mhz=taken.clocks_mhz,
        notes=tuple(_notes(plan, machine)),
    )


def checkpoint_for_torch(bundle: Bundle, model: str | None, baselines: Sequence[str]) -> str:
    """Choose what the baselines load: `model`, or what the bundle was exported from.

    Raises:
        MissingExtra: where a package that one of them needs is not installed.
        CheckpointError: where there is neither.
    """
    for name in baselines:
        for package in BASELINES[name].packages:
            if importlib.util.find_spec(package) is None:
                raise MissingExtra(package, BASELINES[name].extra, purpose=f"to compare with {name}")
    if model is not None:
        return model
    if bundle.commit is None:
        raise CheckpointError(
            f"the bundle was exported from a folder called {bundle.model_id}, and not from the Hub, so torch does not "
            "know where its checkpoint is",
            fix=f"--model FOLDER, where {bundle.model_id} is",
        )
    return f"{bundle.model_id}@{bundle.commit}"


def _notes(plan: Plan, machine: Machine) -> list[str]:
    """What a reader has to know to judge the numbers."""
    notes = []
    if machine.load_average is not None and machine.load_average > QUIET_LOAD:
        notes.append(
            f"other work ran on the machine: its load average was {machine.load_average:.1f} before the bench began"
        )
    names = {engine for engine, _ in plan.engines if engine in BASELINES}
    theirs = sorted(name for name in names if is_of_transformers(name))
    if any(not is_made(name) for name in names.difference(theirs)):
        notes.append("torch runs the modules that the bundle was exported from; --against says how they attend")
    notes += [f"{name} is the model of transformers, and its start includes importing that" for name in theirs]
    if any(is_made(name) for name in names):
        notes.append("what other tools make of the checkpoint was converted beforehand; their start loads the file")
    if (merging := plan.bundle.merging) is not None:
        notes.append(merging.note())
        if theirs or any(is_made(name) for name in names):
            notes.append("what is made of the checkpoint by others merges nothing: theirs is the published function")
    if not plan.bundle.ranked:
        notes.append("the values of a regression have no cosine: tubelet check BUNDLE compares them one by one")
    if plan.rounds < 100:
        notes.append("p99 of fewer than 100 runs is close to the slowest of them")
    return notes
