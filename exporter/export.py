"""export_bundle: a checkpoint becomes a bundle, which is not kept unless it computes what torch computes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..preprocess.errors import CheckpointError, ParityError
from ..preprocess.shortage import shortages_named
from ..preprocess.spec import ClipSpec
from ..runtime.backends import DEFAULT_BACKEND, open_backend
from ..runtime.bundle.bundle import Bundle
from ..runtime.bundle.files import BundleFile, Graph, RecordedVideo
from ..runtime.bundle.merging import Merging
from ..runtime.bundle.parity_report import ParityReport
from ..runtime.bundle.reference import Reference
from ..runtime.bundle.target import check_target
from ..runtime.packages import installed_version
from ..runtime.progress import Progress, silent
from ..runtime.proof.parity import check_bundle
from ..runtime.proof.video_check import record_video
from ..runtime.storage.exchange import restored, written_folder
from ..runtime.tokens import TubeletSize
from .checkpoint.load import Checkpoint
from .families.model import Model
from .graph.cost import matrix_products
from .graph.record import record_reference, torch_run
from .graph.tasks import ExportedModel, exported_model
from .graph.trace import save_graph, trace
from .lower.calibration import CalibrationClips, calibration_videos
from .lower.search import add_graph, require_opset
from .merge import describe_merging, find_removed, merged_model
from .options import AS_PUBLISHED, ExportOptions
from .plan import check_videos, clip_spec, export_notes
from .steady import SteadyClips, steady_clips

# Distributions whose versions a bundle records, of those that are installed: ONNX Runtime comes as one of two.
_TOOLS = ("tubelet", "torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "numpy")


def _prove(bundle: Bundle, reference: Reference, progress: Progress) -> ParityReport:
    """The report on the fp32 graph; ParityError, with its table, where it is outside tolerance."""
    with open_backend(DEFAULT_BACKEND, bundle, "fp32") as backend:
        report = check_bundle(backend, bundle, reference, backend=DEFAULT_BACKEND, precision="fp32", progress=progress)
    if not report.passed:
        said = ["the graph does not compute what torch computes", "", report.table()]
        if bundle.merging is not None:
            said += [bundle.merging.caution(), "another number of tokens to merge may leave a steadier answer"]
        raise ParityError("\n".join(said))
    return report


def _require_finite(reference: Reference) -> None:
    """Raise CheckpointError where what torch answered is no number to compare with."""
    for name, values in reference.outputs.items():
        if not np.isfinite(values).all():
            raise CheckpointError(f"torch's own {name} are NaN or infinite: the checkpoint cannot be exported")


def _record(
    asked: ExportedModel, spec: ClipSpec, videos: Sequence[Path], folder: Path, progress: Progress
) -> tuple[Reference, SteadyClips | None, list[RecordedVideo]]:
    """Write torch's answers on the reference clips to `folder`, and record every stage of each of `videos`.

    Beside them stands how steady those clips are, of a model that merges tokens.
    """
    reference, steady = _reference(asked, spec, progress)
    _require_finite(reference)
    reference.save(folder / "reference.npz")
    run = torch_run(asked, spec)
    recorded = [record_video(video, spec, lambda clip: run({spec.input_name: clip})["logits"]) for video in videos]
    return reference, steady, recorded


def _model(
    checkpoint: Checkpoint, spec: ClipSpec, options: ExportOptions, calibrate: tuple[Path, ...], progress: Progress
) -> tuple[Model, tuple[str, ...]]:
    """The model that is exported, which merges tokens where that was asked for, and what to say of how many."""
    if options.merge is None:
        return checkpoint.model, ()
    if options.merge != "auto":
        return merged_model(checkpoint.model, options.merge), ()
    clips, max_loss = CalibrationClips(spec, Reference((), (), {}), calibrate), options.max_loss or 0.0
    removed, found = find_removed(checkpoint, spec, clips, max_loss, progress=progress)
    return merged_model(checkpoint.model, removed), (found,)


def _reference(asked: ExportedModel, spec: ClipSpec, progress: Progress) -> tuple[Reference, SteadyClips | None]:
    """What torch answers, and how steady the clips are, of a model that merges tokens."""
    if not asked.model.removed:
        return record_reference(asked, spec, progress=progress), None
    steady = steady_clips(asked, spec, progress=progress)
    return record_reference(asked, spec, seeds=steady.seeds, progress=progress), steady


def _describe(
    checkpoint: Checkpoint,
    asked: ExportedModel,
    spec: ClipSpec,
    graph: Graph,
    videos: Sequence[RecordedVideo],
    folder: Path,
    merging: Merging | None,
    notes: tuple[str, ...],
) -> Bundle:
    """The bundle of the files that lie in `folder`, its graph not yet proven."""
    return Bundle(
        path=folder,
        model_id=checkpoint.source.model_id,
        commit=checkpoint.source.commit,
        architecture=type(checkpoint.model).__name__,
        task=checkpoint.task,
        problem_type=checkpoint.problem_type,
        spec=spec,
        labels=checkpoint.labels,
        tubelet=TubeletSize(*checkpoint.config.tubelet),
        readout=checkpoint.model.readout,
        token_order=checkpoint.model.token_order,
        norm_pix_loss=checkpoint.model.norm_pix_loss,
        merging=merging,
        graphs=(graph,),
        products=matrix_products(asked),
        reference=BundleFile.of(folder / "reference.npz"),
        videos=tuple(videos),
        versions={tool: version for tool in _TOOLS if (version := installed_version(tool)) is not None},
        notes=notes,
        overrides=checkpoint.overrides.to_json(),
    )


@shortages_named()
def export_bundle(
    checkpoint: Checkpoint,
    output: Path,
    options: ExportOptions = AS_PUBLISHED,
    *,
    force: bool = False,
    progress: Progress = silent,
    say: Progress = silent,
) -> tuple[Bundle, ParityReport]:
    """Write the bundle of `checkpoint` to the folder `output`, and prove it.

    ONNX Runtime runs the fp32 graph on the reference clips at several batch sizes. It is compared with torch (see
    parity.py). Every stage of each of the options' `videos` is recorded (see video_check.py). Then the graphs of the
    other `precisions` are made from it and proven (see search.py, also for `calibrate`).

    Where it fails, nothing is left behind.

    Args:
        checkpoint: the model. What the options say about loading is in it already.
        output: the folder.
        options: what the bundle holds.
        force: replace a bundle that is there.
        progress: called with a line for each step.
        say: called with what should stay on the screen, such as who is waited for.

    Returns:
        The bundle, and the report on the fp32 graph. Those on the others are in `bundle.graphs`.

    Raises:
        ParityError: where a graph is outside tolerance, with the table.
        BundleError: where `output` may not be replaced.
        NotWritten: where the system refuses to write it.
        VideoError: for one of `videos` or of `calibrate` that is no video.
    """
    restored(output, say=say)
    check_target(output, force=force)
    place = output.resolve()  # with `force` a link stays, and what it points to is replaced
    spec = clip_spec(checkpoint, options.input_name)
    check_videos(checkpoint, options.videos)
    for precision in options.precisions:
        require_opset(precision, options.opset)
    calibrate = calibration_videos(options.calibrate, say=say)
    model, found = _model(checkpoint, spec, options, calibrate, progress)
    asked = exported_model(model, options.extras)
    with written_folder(place, check=lambda: check_target(output, force=force), say=say) as folder:
        reference, steady, videos = _record(asked, spec, options.videos, folder, progress)
        progress("tracing the graph")
        graph = save_graph(trace(asked, spec, opset=options.opset), folder / "model.onnx")
        clips = CalibrationClips(spec, reference, calibrate)
        merging = None
        if steady is not None:
            ranked = checkpoint.problem_type != "regression"
            merging = describe_merging(
                checkpoint.model, model, spec, clips, steady=steady, ranked=ranked, progress=progress
            )
        notes = (*export_notes(checkpoint, options.input_name), *found)
        bundle = _describe(checkpoint, asked, spec, graph, videos, folder, merging, notes)
        report = _prove(bundle, reference, progress)
        bundle = replace(bundle, graphs=(replace(graph, parity=report),))
        bundle.write_manifest()
        for precision in options.precisions:
            if precision != graph.precision:
                bundle, _ = add_graph(bundle, precision, calibrate=calibrate, progress=progress, say=say)
    return replace(bundle, path=output), report
