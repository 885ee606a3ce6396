"""ExportOptions: what a caller may say of an export; `plan_export` and `export_bundle` share them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..preprocess.spec import Arithmetic, InputName
from ..runtime.bundle.bundle import Task
from ..runtime.bundle.files import Extra
from ..runtime.precisions import GraphPrecision

OPSET = 23  # the first with Attention


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
        positions: how positions follow another size; see `Overrides`.
        pixels: whose arithmetic clips are prepared with.
        input_name: what the graph takes: normalised float32, or uint8 frames that it normalises itself.
        extras: outputs that the graph gives beside those of its task.
        videos: files whose every stage is recorded, for other machines to compare with.
        precisions: the graphs to make. The fp32 graph is always made.
        calibrate: videos, or folders of them, to observe activations on. The reference clips where there are none.
        opset: of the graph, 17 to 24. Below 23 attention is written out.
    """

    revision: str | None = None
    task: Task | None = None
    labels: Path | None = None
    image_size: tuple[int, int] | None = None
    num_frames: int | None = None
    num_attention_heads: int | None = None
    positions: Literal["recomputed", "interpolated"] | None = None
    pixels: Arithmetic | None = None
    input_name: InputName = "pixel_values"
    extras: tuple[Extra, ...] = ()
    videos: tuple[Path, ...] = ()
    precisions: tuple[GraphPrecision, ...] = ("fp32",)
    calibrate: tuple[Path, ...] = ()
    opset: int = OPSET


AS_PUBLISHED = ExportOptions()
