"""build_rtx_engine: a bundle becomes an engine for RTX GPUs, on any machine. Needs tensorrt_rtx, onnx and onnx_ir; no
GPU, no driver, never torch.

Nothing runs here, so nothing is proven but the types of the graph. `tubelet check --backend tensorrt-rtx` does the rest
on each GPU, and writes it into the record.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ...preprocess.errors import BackendError
from ...runtime.backends.trt_library import library_name, load_tensorrt_rtx
from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.engine_files import FOLDER, graph_sha256, record_path, write_private
from ...runtime.bundle.engines import EngineOptions
from ...runtime.bundle.files import Graph
from ...runtime.bundle.rtx_engines import (
    RTX_SOURCES,
    Capability,
    RtxRecord,
    capabilities_for,
    read_rtx_records,
    rtx_plan_name,
)
from ...runtime.progress import Progress, silent
from .engine_files import keeping, open_folder, prepared_graph, staying
from .plan import build_plan
from .recipes import Recipe, recipes_for


@dataclass(frozen=True)
class BuiltRtxEngine:
    """An engine that was built, and not yet proven."""

    plan: Path
    record: RtxRecord


def build_rtx_engine(
    bundle: Bundle,
    options: EngineOptions,
    compute_capabilities: Iterable[Capability] = (),
    *,
    force: bool = False,
    progress: Progress = silent,
    say: Progress = silent,
) -> BuiltRtxEngine:
    """Build an engine for RTX GPUs, into the bundle's engines/. Where it fails, nothing is left behind.

    Args:
        bundle: the bundle.
        options: precision, batch sizes, and how TensorRT searches.
        compute_capabilities: of the GPUs; none for all that compute in the precision.
        force: replace an engine that is there.
        progress: called with a line for each step.
        say: called with what should stay on the screen.

    Raises:
        NotAvailable: for a GPU that TensorRT for RTX does not build for, or that does not compute in the precision.
        BackendError: where TensorRT cannot read or build the graph, or where that engine exists (without `force`).
        BundleError: for a graph that the bundle lacks, or for a bundle of another task.
        MissingExtra: where TensorRT for RTX or another package is not installed.
    """
    bundle.require_classifier("an engine")
    capabilities = capabilities_for(options.precision, compute_capabilities)
    trt = load_tensorrt_rtx()
    source = bundle.graph(RTX_SOURCES[options.precision])
    recipe, *_ = recipes_for(options.precision, attention=True, compute_capability=capabilities[0], opset=source.opset)
    name = rtx_plan_name(trt.__version__, capabilities, recipe.name, options.precision, options.profiles)
    folder = open_folder(bundle)
    if not force:
        refuse_existing_rtx(bundle, options, capabilities, trt.__version__)
    progress(f"{recipe.name}: preparing the graph")
    started = time.perf_counter()
    with staying(folder, bundle):
        with prepared_graph(bundle, recipe, folder) as graph:
            built = build_plan(
                trt,
                graph,
                source.inputs[0],
                options,
                tf32=recipe.precision == "tf32",
                compute_capabilities=capabilities,
                progress=lambda message: progress(f"{library_name(trt)}: {message}"),
            )
        seconds = time.perf_counter() - started
        with keeping(folder, bundle, source, say):
            record = _keep(folder, name, built.plan, source, recipe, options, capabilities, trt.__version__, seconds)
    return BuiltRtxEngine(folder / name, record)


def _keep(
    folder: Path,
    name: str,
    plan: bytes,
    source: Graph,
    recipe: Recipe,
    options: EngineOptions,
    capabilities: tuple[Capability, ...],
    version: str,
    seconds: float,
) -> RtxRecord:
    """Write the plan, and last the record that makes it an engine."""
    record_path(folder / name).unlink(missing_ok=True)  # of an engine that is replaced: it would not fit
    record = RtxRecord(
        plan=write_private(folder, name, plan),
        recipe=recipe.name,
        graph_sha256=graph_sha256(source),
        options=options,
        compute_capabilities=capabilities,
        tensorrt_rtx=version,
        proofs=(),
        build_seconds=seconds,
        built=datetime.now(UTC).isoformat(timespec="microseconds"),
    )
    record.save(folder)
    return record


def refuse_existing_rtx(
    bundle: Bundle, options: EngineOptions, capabilities: tuple[Capability, ...], version: str
) -> None:
    """Raise BackendError where that engine is there and serves; one that does not serve is replaced."""
    precision, folder = options.precision, bundle.path / FOLDER
    name = rtx_plan_name(version, capabilities, precision, precision, options.profiles)
    wanted = (name, version, graph_sha256(bundle.graph(RTX_SOURCES[precision])))
    for record in read_rtx_records(folder):
        if (record.plan.name, record.tensorrt_rtx, record.graph_sha256) == wanted:
            raise BackendError(f"{folder / name} is there, built {record.built}", fix="replace it with --force")
