"""fp32 graph -> graphs of lower precision, none of which is kept unless it is proven like the fp32 graph.

    fp16          fp16.py    what TensorRT and ONNX Runtime's CUDA provider are given
    int8          int8.py    dynamic activations: what ONNX Runtime runs fastest on a CPU
    int8-static   int8.py    calibrated: what OpenVINO and TensorRT read
    fp8           fp8.py     calibrated: for TensorRT on GPUs that multiply 8-bit floats

A product that a precision cannot do stays in a wider one, and is listed in the bundle. In fp16 and fp8 that is every
one whose values on real clips come near the end of float16's range. Where the logits are still outside the limit, the
most sensitive follow, as few as bring them inside it. Needs onnx, onnx_ir and ONNX Runtime, and no torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import onnx_ir as ir

from ...preprocess.errors import BundleError, ParityError
from ...preprocess.shortage import shortages_named
from ...runtime.backends import DEFAULT_BACKEND, open_backend
from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.files import Graph
from ...runtime.bundle.parity_report import BatchParity, ParityReport, worst
from ...runtime.bundle.reference import Reference, load_reference
from ...runtime.precisions import PRECISIONS, GraphPrecision
from ...runtime.progress import Progress, silent
from ...runtime.proof.parity import check_bundle, compare_outputs, limit_of
from ..graph.graph_edit import attentions, is_constant, linear_layers, name_of, open_graph, products
from ..graph.older_opsets import FIRST_WITH_FLOAT8
from ..graph.write import write_graph
from .calibration import CalibrationClips
from .fp8 import to_fp8
from .fp16 import LARGEST, beyond_half, half_tensors, to_lower
from .int8 import measure_attention_noise, measure_noise, static_activations, to_int8, to_int8_static
from .join_graph import graph_folder, join_graph, require_absent
from .observe import measure_magnitudes

Keep = frozenset[str]
NOTHING: Keep = frozenset()


@dataclass(frozen=True)
class Lowering:
    """How one precision is made of a graph.

    make:      the graph in that precision, but for the products named
    must_keep: products that the precision cannot hold; they stay in float32
    products:  how many products it lowers
    order:     their names, those that lose most first; measured when it is asked for
    sensitive: what those of them compute in that lose too much
    notes:     what else should be known of the graph
    """

    make: Callable[[Keep], ir.Model]
    must_keep: Keep
    products: int
    order: Callable[[], list[str]]
    sensitive: str = "float32"
    notes: tuple[str, ...] = ()


def _magnitudes_around_products(path: Path, clips: CalibrationClips) -> dict[str, float]:
    """Measure the magnitude of every activation that float16 would hold, by tensor name."""
    nodes = products(open_graph(path))
    names = {name_of(value) for node in nodes for value in half_tensors(node) if not is_constant(value)}
    return measure_magnitudes(path, clips, names)


def lower_to_fp16(path: Path, clips: CalibrationClips) -> Lowering:
    nodes = products(open_graph(path))
    magnitudes = _magnitudes_around_products(path, clips)
    reach = {name_of(node): max(magnitudes.get(name_of(value), 0.0) for value in half_tensors(node)) for node in nodes}
    return Lowering(
        make=partial(to_lower, path),
        must_keep=frozenset(beyond_half(path, magnitudes)),
        products=len(nodes),
        order=lambda: sorted(reach, key=reach.__getitem__, reverse=True),
        notes=(f"values reach {max(reach.values()):.3g} of the {LARGEST:.0f} that float16 holds, on {clips}",),
    )


def lower_to_int8(path: Path, clips: CalibrationClips) -> Lowering:
    return Lowering(
        make=partial(to_int8, path),
        must_keep=NOTHING,
        products=len(linear_layers(open_graph(path))),
        order=partial(_noisiest_first, path, clips),
    )


def lower_to_int8_static(path: Path, clips: CalibrationClips) -> Lowering:
    model = open_graph(path)
    magnitudes = measure_magnitudes(path, clips, static_activations(model))
    return Lowering(
        make=partial(to_int8_static, path, magnitudes=magnitudes),
        must_keep=NOTHING,
        products=len(linear_layers(model)) + len(attentions(model)),
        order=partial(_noisiest_first, path, clips, measure_attention_noise),
        notes=(f"calibrated on {clips}",),
    )


def lower_to_fp8(path: Path, clips: CalibrationClips) -> Lowering:
    magnitudes = _magnitudes_around_products(path, clips)
    beyond = frozenset(beyond_half(path, magnitudes))
    return Lowering(
        make=partial(to_fp8, path, magnitudes=magnitudes, beyond_half=beyond),
        must_keep=beyond,
        products=len(linear_layers(open_graph(path))),
        order=partial(_noisiest_first, path, clips),  # to int8, which is near enough: it only decides what is tried
        sensitive="float16",
        notes=(f"calibrated on {clips}",),
    )


def _noisiest_first(
    path: Path, clips: CalibrationClips, *also: Callable[[Path, CalibrationClips], dict[str, float]]
) -> list[str]:
    """Linear layers, and what `also` measures."""
    noise = {name: share for measure in (measure_noise, *also) for name, share in measure(path, clips).items()}
    return sorted(noise, key=noise.__getitem__, reverse=True)


LOWERINGS: dict[GraphPrecision, Callable[[Path, CalibrationClips], Lowering]] = {
    "fp16": lower_to_fp16,
    "int8": lower_to_int8,
    "int8-static": lower_to_int8_static,
    "fp8": lower_to_fp8,
}


@shortages_named()
def add_graph(
    bundle: Bundle,
    precision: GraphPrecision,
    *,
    calibrate: Sequence[Path] = (),
    force: bool = False,
    progress: Progress = silent,
    say: Progress = silent,
) -> tuple[Bundle, ParityReport]:
    """Make the graph of that precision from the fp32 graph, prove it, and add it to the bundle on disk.

    Where it fails, the bundle is as it was. It is whole at every moment in between.

    Args:
        bundle: the bundle.
        precision: of the new graph.
        calibrate: videos to observe activations on, read as the bundle reads any. Without them, the reference clips.
        force: replace a graph of that precision.
        progress: called with a line for each step.
        say: called with what should stay on the screen, such as who is waited for.

    Returns:
        The bundle, with the graphs too that others joined meanwhile, and the report on the new graph.

    Raises:
        ParityError: where the graph is outside its limit, with the table.
        BundleError: where the bundle has one and `force` does not say to replace it, or was replaced meanwhile.
        NotWritten: where the system refuses to write it.
        VideoError: for a calibration file that is no video.
    """
    if precision not in LOWERINGS:
        raise BundleError(f"there is no precision {precision!r} to make; there are {', '.join(LOWERINGS)}")
    require_opset(precision, bundle.graph("fp32").opset)
    require_absent(bundle, precision, force=force)
    reference = load_reference(bundle)
    clips = CalibrationClips(bundle.spec, reference, tuple(calibrate))
    for file in bundle.graph("fp32").files:
        bundle.verified(file)
    with graph_folder(bundle, precision, say=say) as folder:
        graph, report = _make_and_prove(bundle, precision, clips, folder, progress)
        # The bundle's lock is for this moment alone, and not for the minutes before it.
        return join_graph(bundle, graph, folder, force=force, say=say), report


def _make_and_prove(
    bundle: Bundle, precision: GraphPrecision, clips: CalibrationClips, folder: Path, progress: Progress
) -> tuple[Graph, ParityReport]:
    """Make the graph, its files in `folder`, and the report on it. Raises ParityError, with its table, where it is
    outside its limit."""
    trial, fp32 = replace(bundle, path=folder), bundle.graph("fp32")
    progress(f"{precision}: observing {clips}")
    lowering = LOWERINGS[precision](bundle.path / fp32.files[0].name, clips)
    graph = _least_kept(lowering, precision, trial, fp32, clips.reference, progress)
    with open_backend(DEFAULT_BACKEND, replace(trial, graphs=(graph,)), precision) as backend:
        report = check_bundle(
            backend, bundle, clips.reference, backend=DEFAULT_BACKEND, precision=precision, progress=progress
        )
    if not report.passed:
        caution = "" if bundle.merging is None else f"\n{bundle.merging.caution()}"
        raise ParityError(f"the {precision} graph does not compute what torch computes\n\n{report.table()}{caution}")
    return replace(graph, parity=report), report


def require_opset(precision: GraphPrecision, opset: int) -> None:
    """Raise BundleError where a graph of that opset cannot hold what the precision multiplies."""
    if PRECISIONS[precision].multiplies == "fp8" and opset < FIRST_WITH_FLOAT8:
        raise BundleError(
            f"an fp8 graph must be of opset {FIRST_WITH_FLOAT8} or newer, which moves 8-bit floats; got opset {opset}",
            fix=f"export with --opset {FIRST_WITH_FLOAT8} or more",
        )


def _least_kept(
    lowering: Lowering, precision: GraphPrecision, trial: Bundle, fp32: Graph, reference: Reference, progress: Progress
) -> Graph:
    """The graph with as few products in float32 as the limit allows, written into the folder of `trial`."""
    batches = list(CalibrationClips(trial.spec, reference))
    limit = limit_of(trial, precision, reference)

    def attempt(keep: Keep) -> tuple[Graph, BatchParity]:
        progress(f"{precision}: trying without {len(keep)} of the products")
        files = write_graph(lowering.make(keep), trial.path / f"model.{precision}.onnx")
        graph = replace(fp32, precision=precision, files=files)
        with open_backend(DEFAULT_BACKEND, replace(trial, graphs=(graph,)), precision) as backend:
            rows = [
                row
                for clip, batch in enumerate(batches)
                for row in compare_outputs(backend.run(batch), reference, [clip], limit)
            ]
        return graph, worst(rows)

    notes = list(lowering.notes)
    keep = NOTHING
    graph, parity = attempt(keep)
    if lowering.must_keep:
        before, keep = parity, lowering.must_keep
        graph, parity = attempt(keep)
        notes.append(_cost(keep, "float32", "values come near the end of the range", lowering, before, parity))
    if not parity.passed:
        before, fixed = parity, keep
        keep = _fewest_that_pass(fixed, lowering.order(), lambda more: attempt(more)[1].passed)
        graph, parity = attempt(keep)
        notes.append(_cost(keep - fixed, lowering.sensitive, "they lose most", lowering, before, parity))
    return replace(graph, kept=tuple(sorted(keep)), notes=tuple(notes))


def _fewest_that_pass(fixed: Keep, order: Sequence[str], passes: Callable[[Keep], bool]) -> Keep:
    """`fixed`, and as few as do of those in `order`, the most sensitive first: found by halves. All of them do."""
    order = [name for name in order if name not in fixed]
    fails, does = 0, len(order)  # how many are too few, how many do
    while does - fails > 1:
        middle = (fails + does) // 2
        fails, does = (fails, middle) if passes(fixed.union(order[:middle])) else (middle, does)
    return fixed.union(order[:does])


def _cost(keep: Keep, precision: str, why: str, lowering: Lowering, before: BatchParity, after: BatchParity) -> str:
    return (
        f"{len(keep)} of {lowering.products} matrix products stay in {precision}, because {why}: "
        f"{_agreement(before)} -> {_agreement(after)}".replace("-> cosine ", "-> ")
    )


def _agreement(parity: BatchParity) -> str:
    """How near to torch's answer; of a regression, whose values have no cosine, as a share of what is allowed."""
    if parity.excess is None:
        return "cosine not finite"
    return f"{parity.excess:.1%} of the limit" if parity.cosine is None else f"cosine {parity.cosine:.7f}"
