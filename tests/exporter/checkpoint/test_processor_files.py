"""Which of the files beside a checkpoint says how to prepare a clip."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import VideoMAEImageProcessorPil
from transformers.image_processing_base import ImageProcessingMixin

from tubelet.exporter.checkpoint.processor_files import read_processor
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
    assert read_processor(tmp_path, "mine", [].append).values["size"] == {"shortest_edge": 40}


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
        read_processor(tmp_path, "mine", [].append)
