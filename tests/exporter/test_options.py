"""What an export takes from Python is looked at before anything is begun, as the command looks at what it takes."""

from pathlib import Path
from typing import Any

import pytest

import tubelet
from tubelet.exporter.checkpoint.overrides import Overrides
from tubelet.exporter.options import ExportOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"task": "classify"},
            "task must be video-classification, feature-extraction or masked-modeling, got 'classify'",
        ),
        ({"input_name": "pixels"}, "input_name must be pixel_values or frames, got 'pixels'"),
        ({"extras": ("logits",)}, "extras must be hidden_states or attentions, got 'logits'"),
        ({"extras": "attentions"}, r"extras must be a tuple, got 'attentions'\n  fix: extras=\('attentions',\)"),
        ({"precisions": ("int4",)}, "precisions must be fp32, fp16, int8, int8-static or fp8, got 'int4'"),
        ({"precisions": "fp16"}, r"precisions must be a tuple, got 'fp16'\n  fix: precisions=\('fp16',\)"),
        ({"videos": "a.mp4"}, r"videos must be a tuple, got 'a.mp4'"),
        ({"calibrate": "folder"}, r"calibrate must be a tuple, got 'folder'"),
        ({"opset": 16}, "opset must be a whole number from 17 to 24 .*, got 16"),
    ],
)
def test_what_no_export_takes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(tubelet.OutOfBounds, match=message):
        ExportOptions(**options)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"positions": "learned"}, "positions must be recomputed or interpolated, got 'learned'"),
        ({"pixels": "opencv"}, "pixels must be pillow, pillow-13 or torchvision, got 'opencv'"),
        ({"image_size": 224}, r"image_size must be \(height, width\), got 224"),
        ({"image_size": (224,)}, r"image_size must be \(height, width\), got \(224,\)"),
        ({"image_size": (224, 0)}, "image_size must be a whole number from 1 to 8192 .*, got 0"),
        ({"num_frames": "16"}, "num_frames must be a whole number from 1 to 4096 .*, got '16'"),
    ],
)
def test_what_no_checkpoint_can_be_made_into(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(tubelet.OutOfBounds, match=message):
        Overrides(**overrides)


def test_paths_may_be_text() -> None:
    options = ExportOptions(labels="labels.txt", videos=["a.mp4"], calibrate=("folder",))  # type: ignore[arg-type]
    assert (options.labels, options.videos, options.calibrate) == (
        Path("labels.txt"),
        (Path("a.mp4"),),
        (Path("folder"),),
    )


def test_a_reading_that_is_none(vivit_bundle: Path) -> None:
    with pytest.raises(tubelet.OutOfBounds, match=r"reading must be a tubelet\.Reading, got 'uniform'"):
        tubelet.load(vivit_bundle, reading="uniform")  # type: ignore[call-overload]
