"""build_engine: a bundle becomes a TensorRT engine for this machine. It is not kept unless it computes here what torch
computed. Needs tensorrt, cuda-bindings, onnx and onnx_ir; never torch."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from ...preprocess.errors import BackendError, ParityError
from ...runtime.backends.cuda import Cuda
from ...runtime.backends.trt import TensorRtBackend
from ...runtime.backends.trt_engine import LoadedEngine
from ...runtime.backends.trt_library import load_tensorrt, reads_attention, this_machine
from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.engine_files import FOLDER, graph_sha256, record_path, require_private, write_private
from ...runtime.bundle.engines import (
    HIDDEN,
    SOURCES,
    EngineMachine,
    EngineOptions,
    EngineRecord,
    plan_name,
    read_records,
)
from ...runtime.bundle.parity_report import ParityReport
from ...runtime.bundle.reference import load_reference
from ...runtime.precisions import PRECISIONS
from ...runtime.progress import Progress, silent
from ...runtime.proof.parity import check_parity, limit_of
from .engine_files import keeping, open_folder, prepared_graph, staying
from .plan import BuildFailed, build_plan, layer_types
from .recipes import Recipe, recipes_for


@dataclass(frozen=True)
class Candidate:
    """An engine that was built, and how it did. layers: how many take in each type."""

    plan: bytes
    build_seconds: float
    layers: dict[str, int]
    report: ParityReport


@dataclass(frozen=True)
class Attempt:
    """A recipe that did not do: a report outside tolerance, or the error of a build that failed."""

    recipe: Recipe
    outcome: ParityReport | BuildFailed

    def describe(self) -> str:
        if isinstance(self.outcome, BuildFailed):
            return f"{self.recipe.name}: {self.outcome.message}"
        return f"{self.recipe.name} is outside tolerance\n\n{self.outcome.table()}"


@dataclass(frozen=True)
class BuiltEngine:
    """The engine that was kept, the check that it was kept for, and what was tried before it."""

    plan: Path
    record: EngineRecord
    report: ParityReport
    failed: tuple[Attempt, ...]


def build_engine(
    bundle: Bundle,
    options: EngineOptions,
    *,
    fallbacks: bool = True,
    force: bool = False,
    progress: Progress = silent,
    say: Progress = silent,
) -> BuiltEngine:
    """Build the engine of `options` for the GPU that is here, into the bundle's engines/.

    Right after the build the engine runs the bundle's reference clips. Outside tolerance it is not kept, and with
    `fallbacks` the next recipe is tried (see recipes.py). What is kept is named after what it really is.

    Where it fails, no engine is left behind, only timings for the next build.

    Args:
        bundle: the bundle.
        options: precision, batch sizes, and how TensorRT searches.
        fallbacks: whether other recipes are tried.
        force: replace an engine that is there.
        progress: called with a line for each step.
        say: called with what should stay on the screen.

    Raises:
        ParityError: where no recipe came within tolerance, with every table.
        BackendError: where TensorRT cannot read or build the graph; where the GPU does not multiply in that precision;
            where that engine exists (without `force`).
        BundleError: for a graph that the bundle lacks, or for a bundle of another task.
        MissingExtra: where TensorRT or another package is not installed.
    """
    bundle.require_classifier("an engine")
    trt, cuda = load_tensorrt(), Cuda()
    machine = this_machine(cuda, trt)
    machine.require(options.precision)
    recipes = recipes_for(
        options.precision,
        attention=reads_attention(trt),
        compute_capability=machine.compute_capability,
        opset=bundle.graph(SOURCES[options.precision]).opset,
    )
    folder = open_folder(bundle)
    if not force:
        refuse_existing(bundle, plan_name(machine, recipes[0].name, options.profiles), machine)
    failed: list[Attempt] = []
    for recipe in recipes if fallbacks else recipes[:1]:
        progress(f"{recipe.name}: preparing the graph")
        try:
            with staying(folder, bundle):
                timings = folder / f"{machine.tag}.timing"
                candidate = _build_and_check(trt, cuda, bundle, recipe, options, timings, progress)
        except BuildFailed as error:
            failed.append(Attempt(recipe, error))
            continue
        if candidate.report.passed:
            with staying(folder, bundle):
                record = _keep(folder, bundle, recipe, options, machine, candidate, say)
            return BuiltEngine(folder / record.plan.name, record, candidate.report, tuple(failed))
        failed.append(Attempt(recipe, candidate.report))
    raise _none_built(failed)


def _none_built(failed: Sequence[Attempt]) -> ParityError | BackendError:
    tried = "\n\n".join(attempt.describe() for attempt in failed)
    if any(isinstance(attempt.outcome, ParityReport) for attempt in failed):
        return ParityError(f"no engine computes what torch computed, so none was kept\n\n{tried}")
    return BackendError(f"no engine could be built\n\n{tried}")


def refuse_existing(bundle: Bundle, name: str, machine: EngineMachine) -> None:
    """Raise BackendError where an engine of that name is there and serves; one that does not serve is replaced."""
    folder = bundle.path / FOLDER
    for record in read_records(folder):
        if record.plan.name != name or not machine.runs_plans_of(record.machine):
            continue
        if record.graph_sha256 == graph_sha256(bundle.graph(SOURCES[record.options.precision])):
            raise BackendError(f"{folder / name} is there, built {record.built}", fix="replace it with --force")


def _build_and_check(
    trt: ModuleType,
    cuda: Cuda,
    bundle: Bundle,
    recipe: Recipe,
    options: EngineOptions,
    timings: Path,
    progress: Progress,
) -> Candidate:
    """Raise BuildFailed where there is no engine, or one that is not of the recipe's precision."""
    started = time.perf_counter()
    plan = _build(trt, bundle, recipe, options, timings, progress)
    build_seconds = time.perf_counter() - started
    reference = load_reference(bundle)
    with TensorRtBackend(LoadedEngine(trt, plan), cuda) as backend:
        layers = layer_types(backend.inspect())
        wanted = PRECISIONS[recipe.precision].multiplies
        if wanted not in layers and HIDDEN not in layers:  # what is hidden has the types of the graph, proven before
            found = ", ".join(f"{count} in {name}" for name, count in layers.items())
            raise BuildFailed(f"TensorRT built an engine without a layer in {wanted}: it has {found}")
        report = check_parity(
            backend.infer,
            reference,
            bundle.spec,
            backend="tensorrt",
            precision=recipe.precision,
            limit=limit_of(bundle, recipe.precision, reference),
            progress=progress,
        )
    return Candidate(plan, build_seconds, layers, report)


def _keep(
    folder: Path,
    bundle: Bundle,
    recipe: Recipe,
    options: EngineOptions,
    machine: EngineMachine,
    candidate: Candidate,
    say: Progress,
) -> EngineRecord:
    """Write the plan, and last the record that makes it an engine. Raises BundleError where the bundle was replaced
    since the build began."""
    name = plan_name(machine, recipe.name, options.profiles)
    source = bundle.graph(SOURCES[recipe.precision])
    with keeping(folder, bundle, source, say):
        record_path(folder / name).unlink(missing_ok=True)  # of an engine that is replaced: it would not fit
        record = EngineRecord(
            plan=write_private(folder, name, candidate.plan),
            recipe=recipe.name,
            graph_sha256=graph_sha256(source),
            options=replace(options, precision=recipe.precision),
            machine=machine,
            layers=candidate.layers,
            parity=candidate.report,
            build_seconds=candidate.build_seconds,
            built=datetime.now(UTC).isoformat(timespec="microseconds"),
        )
        record.save(folder)
    return record


def _build(
    trt: ModuleType, bundle: Bundle, recipe: Recipe, options: EngineOptions, timings: Path, progress: Progress
) -> bytes:
    with prepared_graph(bundle, recipe, timings.parent) as graph:
        built = build_plan(
            trt,
            graph,
            bundle.graph(SOURCES[recipe.precision]).inputs[0],
            options,
            tf32=recipe.precision == "tf32",
            timing_cache=_read_timings(timings),
            progress=lambda message: progress(f"{recipe.name}: {message}"),
        )
    write_private(timings.parent, timings.name, built.timing_cache)
    return built.plan


def _read_timings(path: Path) -> bytes:
    """How fast kernels were in earlier builds; a build that has it takes a fraction of the time."""
    if not path.exists():
        return b""
    require_private(path)
    return path.read_bytes()
