"""export: the whole road from a checkpoint to a proven bundle, in one call.

Nothing here needs torch until it is called, so that whoever lacks it learns what to install.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..preprocess.errors import MissingExtra
from ..runtime.bundle.bundle import Bundle
from ..runtime.bundle.target import check_target
from ..runtime.progress import Progress, silent
from ..runtime.storage.exchange import restored
from .options import AS_PUBLISHED, ExportOptions

if TYPE_CHECKING:
    from .checkpoint.load import Checkpoint
    from .plan import ExportPlan

EXPORT_PACKAGES = ("torch", "onnx", "onnx_ir", "onnxscript", "safetensors", "onnxruntime")


def require_export_packages() -> None:
    """Raise MissingExtra for the first package that an export would miss, before anything is begun."""
    for package in EXPORT_PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "cpu,export", purpose="to export a checkpoint")


def export(
    model: str | Path,
    output: str | Path | None = None,
    options: ExportOptions = AS_PUBLISHED,
    *,
    force: bool = False,
    progress: Progress = silent,
    say: Progress = silent,
) -> Bundle:
    """Turn a ViViT, VideoMAE, TimeSformer or V-JEPA 2 checkpoint into a bundle that computes what torch computes.

    Args:
        model: an id on the Hub, perhaps with a revision (owner/name@revision), a folder, or a .pth file of the original
            VideoMAE.
        output: the folder of the bundle. Without one, artifacts/ and the name of the model.
        options: what the bundle holds; as the checkpoint was published, unless they say otherwise.
        force: replace a bundle that is at `output`.
        progress: called with a line for each step.
        say: called with each line that a user should keep, such as what was chosen on the way.

    Returns:
        The bundle at `output`. Each of its graphs carries the parity that was measured (`graph.parity`).

    Raises:
        CheckpointError: for a checkpoint that cannot be found, read or accounted for key by key.
        BundleError: where something lies at `output` that may not be replaced.
        ParityError: for a graph outside tolerance. No bundle is left then.
        NotWritten: where the system refuses to write.
        VideoError: for a file among the videos of `options` that is no video.
        MissingExtra: where torch, or another package of an export, is not installed.
    """
    checkpoint, plan = load_and_plan(model, output, options, force=force, progress=progress, say=say)
    from .export import export_bundle

    bundle, _ = export_bundle(checkpoint, Path(plan.output), options, force=force, progress=progress, say=say)
    return bundle


def load_and_plan(
    model: str | Path,
    output: str | Path | None,
    options: ExportOptions,
    *,
    force: bool,
    progress: Progress,
    say: Progress,
) -> tuple[Checkpoint, ExportPlan]:
    """Load the checkpoint in torch, and plan what `export_bundle` would make of it; see `export`. Writes nothing."""
    require_export_packages()
    from .checkpoint.load import load_checkpoint
    from .checkpoint.overrides import Overrides
    from .plan import default_output, plan_export

    model = os.fspath(model)
    target = default_output(model) if output is None else Path(output)
    restored(target, say=say)
    check_target(target, force=force)  # before anything is downloaded
    progress(f"loading {model}")
    checkpoint = load_checkpoint(
        model,
        revision=options.revision,
        task=options.task,
        labels=options.labels,
        overrides=Overrides(
            options.image_size,
            options.num_frames,
            options.num_attention_heads,
            options.num_pooler_heads,
            options.joined_clips,
            None if options.probe is None else str(options.probe),
            options.probe_layers,
            options.positions,
            options.pixels,
        ),
        report=say,
    )
    plan = plan_export(checkpoint, target, options)
    for warning in plan.warnings():
        say(warning)
    return checkpoint, plan
