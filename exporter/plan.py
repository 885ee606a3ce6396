"""What an export would do, before it is done."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..preprocess.errors import BundleError, CheckpointError
from ..preprocess.spec import LAYOUTS, ClipSpec, InputName
from ..runtime.bundle.bundle import Task
from .checkpoint.load import Checkpoint
from .checkpoint.overrides import at_size
from .checkpoint.processor import spec_from_hub
from .checkpoint.processor_class import PixelsChoice, choose_arithmetic
from .graph.cost import attention_bytes
from .graph.tasks import exported_model, mask
from .merge import require_mergeable
from .options import AS_PUBLISHED, ExportOptions


def pixels_choice(checkpoint: Checkpoint) -> PixelsChoice:
    """Choose whose arithmetic the pixels of a checkpoint follow: that of its files, or the one that was asked for."""
    return choose_arithmetic(
        checkpoint.processor,
        family=checkpoint.family,
        transformers_version=checkpoint.transformers_version,
        asked=checkpoint.overrides.pixels,
        file=checkpoint.processor_file,
    )


def clip_spec(checkpoint: Checkpoint, input_name: InputName) -> ClipSpec:
    """Make the input contract of a checkpoint.

    It has its processor's pixels, at the size that was asked for, and the frames of its family's evaluation.

    Raises:
        CheckpointError: where the processor does not make what the model takes.
    """
    config = checkpoint.config
    spec = spec_from_hub(
        checkpoint.processor,
        family=checkpoint.family,
        num_frames=config.num_frames,
        evaluation=checkpoint.family.evaluation(config),
        arithmetic=pixels_choice(checkpoint).arithmetic,
        layout=LAYOUTS[input_name],
        file=checkpoint.processor_file,
    )
    if config.num_channels != 3:
        raise CheckpointError(f"the model takes {config.num_channels} channels; videos are read as 3, RGB")
    if spec.size != checkpoint.native_size:
        made = "frames of any width" if spec.size is None else "{}x{} pixels".format(*spec.size)
        raise CheckpointError(
            f"the model takes {checkpoint.native_size[0]}x{checkpoint.native_size[1]} pixels (height x width), "
            f"{checkpoint.processor_file} makes {made}",
            fix=f"correct crop_size (or size) in {checkpoint.processor_file}",
        )
    return at_size(spec, config.image_size)


def export_notes(checkpoint: Checkpoint, input_name: InputName) -> tuple[str, ...]:
    """Say what is unusual about a checkpoint and its input contract, once."""
    note = pixels_choice(checkpoint).note
    return (*checkpoint.notes, *clip_spec(checkpoint, input_name).notes(), *([] if note is None else [note]))


def default_output(model: str) -> Path:
    """artifacts/ and the last part of a folder, a file without its suffix, or a Hub id without its revision."""
    if Path(model).is_file():
        return Path("artifacts") / Path(model).stem
    folder = model if Path(model).is_dir() else model.split("@")[0]
    return Path("artifacts") / Path(folder).resolve().name


def check_videos(checkpoint: Checkpoint, videos: Sequence[Path]) -> None:
    """Raise BundleError where there are videos to record and nothing that is recorded of them."""
    if videos and checkpoint.task != "video-classification":
        raise BundleError(
            f"videos are recorded for classifiers, and this is an export for {checkpoint.task}",
            fix="leave --video away; `tubelet check` proves every task on the reference clips",
        )


@dataclass(frozen=True)
class ExportPlan:
    """What an export would do."""

    model_id: str
    commit: str | None
    architecture: str
    task: Task
    parameters: int
    labels: int
    input_name: InputName
    opset: int
    output: str
    graph_bytes: int
    attention_bytes: int | None
    merge: int | Literal["auto"] | None

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def summary(self) -> str:
        source = self.model_id if self.commit is None else f"{self.model_id} @ {self.commit}"
        return (
            f"would export {source}\n"
            f"{self.architecture}, {self.parameters:,} parameters, "
            f"{f'{self.labels} labels' if self.labels else self.task}\n"
            f"to {self.output}: an fp32 graph of about {self.graph_bytes / 1e6:.1f} MB, opset {self.opset}, "
            f"input {self.input_name}{self._merges()}"
        )

    def _merges(self) -> str:
        if self.merge is None:
            return ""
        tokens = "as many tokens as may be" if self.merge == "auto" else f"{self.merge} tokens"
        return f"\nmerging {tokens} in each layer, which is not the published function"

    def warnings(self) -> tuple[str, ...]:
        """What should be known before the export begins."""
        if self.attention_bytes is None:
            return ()
        return (
            f"attention weights take {self.attention_bytes / 1e9:.3g} GB a clip, and attention that writes them is "
            "slower: ask for them where they are looked at, and not for serving",
        )


def plan_export(checkpoint: Checkpoint, output: Path, options: ExportOptions = AS_PUBLISHED) -> ExportPlan:
    """What `export_bundle` would do with the same arguments; raises what it would raise for the checkpoint."""
    clip_spec(checkpoint, options.input_name)
    check_videos(checkpoint, options.videos)
    require_mergeable(checkpoint, options)
    mask(checkpoint.model, seed=0)
    parameters = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    return ExportPlan(
        model_id=checkpoint.source.model_id,
        commit=checkpoint.source.commit,
        architecture=type(checkpoint.model).__name__,
        task=checkpoint.task,
        parameters=parameters,
        labels=len(checkpoint.labels),
        input_name=options.input_name,
        opset=options.opset,
        output=str(output),
        graph_bytes=4 * parameters,
        attention_bytes=(
            attention_bytes(exported_model(checkpoint.model, options.extras))
            if "attentions" in options.extras
            else None
        ),
        merge=options.merge,
    )
