"""ExportOptions: what a caller may say of an export; `plan_export` and `export_bundle` share them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ..preprocess.errors import OutOfBounds
from ..preprocess.spec import Arithmetic, InputName
from ..runtime.bounds import MERGED_TOKENS, OPSETS, check_choice, shown
from ..runtime.bundle.bundle import Task
from ..runtime.bundle.files import EXTRAS, Extra
from ..runtime.precisions import GRAPH_PRECISIONS, GraphPrecision

OPSET = 23  # the first with Attention


def _several(name: str, value: Sequence[Any]) -> Sequence[Any]:
    """What is a tuple or a list; text, whose parts are letters, is neither."""
    if isinstance(value, tuple | list):
        return value
    raise OutOfBounds(f"{name} must be a tuple, got {shown(value)}", fix=f"{name}=({shown(value)},)")


@dataclass(frozen=True)
class ExportOptions:
    """What a bundle is made from and what it holds. Each field is an option of `tubelet export`.

    None stands for what the checkpoint's files say.

    Attributes:
        revision: a branch, tag or commit on the Hub.
        task: what the bundle is for.
        labels: a file with names for labels, one a line, JSON or CSV.
        image_size: (height, width) of clips in pixels, where not the checkpoint's.
        num_frames: frames of a clip, where not the checkpoint's.
        num_attention_heads: heads, where not those of config.json.
        num_pooler_heads: heads of the pooler, where not those of the encoder.
        joined_clips: how many clips the pooler reads together, as in a published evaluation.
        probe: a .pt file with a head that the authors of V-JEPA 2 publish apart from its encoder.
        probe_layers: of the encoder, whose tokens that head reads, the first layer being 0.
        positions: how positions follow another size; see `Overrides`.
        pixels: whose arithmetic clips are prepared with.
        input_name: what the graph takes: normalised float32, or uint8 frames that it normalises itself.
        extras: outputs that the graph gives beside those of its task.
        videos: files whose every stage is recorded, for other machines to compare with.
        precisions: the graphs to make. The fp32 graph is always made.
        calibrate: videos, or folders of them, to observe activations on. The reference clips where there are none.
        merge: tokens that each layer merges into others, another function than the published one; "auto" finds how
            many on the videos of `calibrate`. None merges none.
        max_loss: what "auto" may lose, in percent.
        opset: of the graph, 17 to 24. Below 23 attention is written out.

    Raises:
        OutOfBounds: for a value that none of them may have.
    """

    revision: str | None = None
    task: Task | None = None
    labels: Path | None = None
    image_size: tuple[int, int] | None = None
    num_frames: int | None = None
    num_attention_heads: int | None = None
    num_pooler_heads: int | None = None
    joined_clips: int | None = None
    probe: Path | None = None
    probe_layers: tuple[int, ...] | None = None
    positions: Literal["recomputed", "interpolated"] | None = None
    pixels: Arithmetic | None = None
    input_name: InputName = "pixel_values"
    extras: tuple[Extra, ...] = ()
    videos: tuple[Path, ...] = ()
    precisions: tuple[GraphPrecision, ...] = ("fp32",)
    calibrate: tuple[Path, ...] = ()
    opset: int = OPSET
    merge: int | Literal["auto"] | None = None
    max_loss: float | None = None

    def __post_init__(self) -> None:
        if self.task is not None:
            check_choice("task", self.task, get_args(Task))
        check_choice("input_name", self.input_name, get_args(InputName))
        OPSETS.check(self.opset)
        self._check_merge()
        for name, several in (("extras", EXTRAS), ("precisions", GRAPH_PRECISIONS)):
            for value in _several(name, getattr(self, name)):
                check_choice(name, value, several)
        # Whoever writes Python writes paths as text, too.
        object.__setattr__(self, "labels", None if self.labels is None else Path(self.labels))
        for name in ("videos", "calibrate"):
            object.__setattr__(self, name, tuple(Path(path) for path in _several(name, getattr(self, name))))

    def _check_merge(self) -> None:
        if self.merge not in (None, "auto"):
            MERGED_TOKENS.check(self.merge)
        if (self.merge == "auto") != (self.max_loss is not None):
            raise OutOfBounds(
                'max_loss is what merge "auto" may lose, and neither goes without the other',
                fix="--merge auto --max-loss 0.5",
            )
        if self.max_loss is not None and not 0 <= self.max_loss <= 100:
            raise OutOfBounds(f"max_loss must be from 0 to 100, in percent, got {shown(self.max_loss)}")
        if self.merge == "auto" and not self.calibrate:
            raise OutOfBounds(
                'merge "auto" needs videos to lose nothing on: calibrate names none', fix="--calibrate FOLDER|FILE"
            )


AS_PUBLISHED = ExportOptions()
