"""Which of the files beside a checkpoint says how to prepare a clip."""

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint
from transformers import VideoMAEImageProcessorPil
from transformers.image_processing_base import ImageProcessingMixin

from tubelet.exporter.checkpoint.load import load_checkpoint
from tubelet.exporter.checkpoint.processor_files import read_processor
from tubelet.exporter.plan import clip_spec
from tubelet.preprocess.errors import CheckpointError

IMAGE = {"image_processor_type": "VideoMAEImageProcessor", "size": {"shortest_edge": 40}}
VIDEO = {"video_processor_type": "VideoMAEVideoProcessor", "size": {"shortest_edge": 50}}
BOTH = {"image_processor": IMAGE, "video_processor": VIDEO, "processor_class": "X"}


@pytest.mark.parametrize(
    ("files", "expected", "others"),
    [
        ({"preprocessor_config.json": IMAGE}, IMAGE, 0),
        ({"video_preprocessor_config.json": VIDEO}, VIDEO, 0),
        ({"preprocessor_config.json": IMAGE, "video_preprocessor_config.json": VIDEO}, VIDEO, 1),
        ({"processor_config.json": {"image_processor": IMAGE}}, IMAGE, 0),
        ({"processor_config.json": BOTH}, VIDEO, 1),
        ({"processor_config.json": {"image_processor": IMAGE}, "preprocessor_config.json": {"size": 9}}, IMAGE, 1),
        ({"processor_config.json": {"processor_class": "X"}, "preprocessor_config.json": IMAGE}, IMAGE, 0),
    ],
)
def test_the_one_that_transformers_takes(
    files: dict[str, Any], expected: dict[str, Any], others: int, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    reported: list[str] = []
    assert read_processor(tmp_path, "mine", reported.append).values == expected
    assert len(reported) == others
    if expected is IMAGE:  # a video processor's lookup needs torchvision
        assert ImageProcessingMixin.get_image_processor_dict(tmp_path)[0] == expected


def test_what_transformers_writes_is_read(tmp_path: Path) -> None:
    VideoMAEImageProcessorPil(size={"shortest_edge": 40}).save_pretrained(tmp_path)
    assert read_processor(tmp_path, "mine", lambda _: None).values["size"] == {"shortest_edge": 40}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("processor_config.json", '{"processor_class": "X"}', "mine has none of processor_config.json, "),
        ("processor_config.json", '{"video_processor": 3}', "video_processor in .* must be an object, got int"),
        ("video_preprocessor_config.json", "[]", "video_preprocessor_config.json must hold a JSON object, got list"),
    ],
)
def test_what_is_none(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        read_processor(tmp_path, "mine", lambda _: None)


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("preprocessor_config.json", None),
        ("video_preprocessor_config.json", None),
        ("processor_config.json", "video_processor"),
        ("processor_config.json", "image_processor"),
    ],
)
@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"size": "large"}, "size must be "),
        ({"crop_size": 40}, "makes 40x40 pixels"),
        ({"image_processor_type": "SwinImageProcessor"}, "is for 'SwinImageProcessor'"),
        ({"image_processor_type": 7}, "image_processor_type must be the name of a class"),
    ],
)
def test_an_error_names_the_file_that_was_read(
    values: dict[str, Any], problem: str, file: str, key: str | None, tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path, "videomae")
    written = json.loads((folder / "preprocessor_config.json").read_text()) | values
    (folder / "preprocessor_config.json").unlink()
    (folder / file).write_text(json.dumps(written if key is None else {key: written}))
    checkpoint = load_checkpoint(str(folder), report=lambda _: None)
    with pytest.raises(CheckpointError) as caught:
        clip_spec(checkpoint, "pixel_values")
    place = file if key is None else f"{key} in {file}"
    assert problem in caught.value.message
    assert f"{place}: " in caught.value.message or f"{place} {problem}" in caught.value.message
    assert place in str(caught.value.fix)
    others = {"preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json"} - {file}
    assert not any(other in str(caught.value).replace(file, "") for other in others)
