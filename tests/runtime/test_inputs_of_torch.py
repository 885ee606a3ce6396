"""Against what people have beside torch: its tensors as videos, and transformers where frames differ in size."""

from dataclasses import replace
from typing import Any

import av
import numpy as np
import pytest
import torch
from published_configs import PUBLISHED, spec_of, theirs
from videos import decode_whole, make_video

from tubelet.preprocess.errors import VideoError
from tubelet.runtime.load import load
from tubelet.runtime.reading import Reading, prepare_crops, read_crops


def test_tensors_and_lists_of_them(video, vivit_bundle):
    pixels = decode_whole(video)
    with load(vivit_bundle) as model:
        expected = model.classify(pixels)
        assert model.classify(torch.from_numpy(pixels)) == expected
        assert model.classify(list(torch.from_numpy(pixels))) == expected
        assert model.classify(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)) == expected


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(4, 8, 8, 3), "frames must be a uint8 array of RGB values from 0 to 255, got float32"),
        (torch.zeros(4, 3, 8, 8, dtype=torch.uint8), r"frames must be \(T, H, W, 3\)"),
        (torch.zeros(4, 8, 8, 3, dtype=torch.bfloat16), "Tensor does not become an array: "),
        (torch.zeros(4, 8, 8, 3, requires_grad=True), "Tensor does not become an array: "),
        (torch.zeros(4, 8, 8, 3, dtype=torch.uint8, device="meta"), "Tensor does not become an array: "),
    ],
)
def test_tensors_that_are_no_video(vivit_bundle, tensor, message):
    with load(vivit_bundle) as model, pytest.raises(VideoError, match=message):
        model.classify(tensor)


@pytest.mark.parametrize("name", PUBLISHED)
def test_frames_of_two_sizes_are_those_of_transformers(tmp_path, name):
    options: dict[str, Any] = {"codec": "mpeg2video", "frames": 8, "keyframe_every": 4}
    first = make_video(tmp_path / "first.ts", size=(320, 240), **options)
    second = make_video(tmp_path / "second.ts", size=(240, 400), times=range(8, 16), **options)
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    with av.open(str(both)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    family, config = PUBLISHED[name]
    spec = replace(spec_of(family, config), num_frames=6)
    crops = read_crops(both, spec, Reading(sampling="uniform"))
    (clips,) = crops
    taken = [pictures[index] for index in clips.frames.indices]
    assert len({picture.shape for picture in taken}) == 2
    expected = [theirs(family, config, picture[np.newaxis]) for picture in taken]  # (1, 3, H, W) each
    np.testing.assert_array_equal(prepare_crops(crops, spec), np.concatenate(expected)[np.newaxis])
