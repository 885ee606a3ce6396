"""What holds of every profile and of everything that goes through JSON."""

import dataclasses
import json
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st
from steady import steady

from tubelet.preprocess.errors import BundleError
from tubelet.preprocess.spec import (
    Arithmetic,
    Averages,
    ClipSpec,
    CropRounding,
    Evaluation,
    ExactSize,
    Layout,
    Policy,
    Sampling,
    ShortestEdge,
)
from tubelet.runtime.backends.trt_engine import split_batch
from tubelet.runtime.bundle.engines import Profile
from tubelet.runtime.bundle.files import TensorInfo
from tubelet.runtime.bundle.typed import typed

profiles = st.tuples(*[st.integers(1, 64)] * 3).map(lambda sizes: Profile(*sorted(sizes)))


@steady
@given(profile=profiles)
def test_a_profile_is_read_as_it_is_written(profile: Profile) -> None:
    assert Profile.parse(str(profile)) == profile


@steady
@given(clips=st.integers(1, 500), profiles=st.lists(profiles, min_size=1, max_size=4))
def test_every_clip_of_a_batch_runs_once_in_a_profile_that_takes_it(clips: int, profiles: list[Profile]) -> None:
    runs = split_batch(clips, profiles)
    assert sum(run.clips for run in runs) == clips
    for run in runs:
        profile = profiles[run.profile]
        assert profile.min <= run.size <= profile.max
        assert 1 <= run.clips <= run.size


numbers = st.floats(-10, 10, allow_nan=False)
colours = st.tuples(numbers, numbers, numbers)
positive = st.integers(1, 500)
# torchvision resizes with fewer filters than Pillow, and mean and std come together or not at all.
specs = st.tuples(colours, st.tuples(*[st.floats(0.01, 10)] * 3), st.booleans()).flatmap(
    lambda normal: st.builds(
        ClipSpec,
        num_frames=st.integers(1, 64),
        evaluation=st.builds(
            Evaluation,
            st.builds(Sampling, st.sampled_from(get_args(Policy)), positive),
            st.sampled_from(get_args(CropRounding)),
            st.sampled_from(get_args(Averages)),
        ),
        arithmetic=st.sampled_from(get_args(Arithmetic)),
        resize=st.none() | st.builds(ShortestEdge, positive) | st.builds(ExactSize, positive, positive),
        resample=st.sampled_from(["bilinear", "bicubic"]),
        crop=st.none() | st.tuples(positive, positive),
        rescale_factor=st.floats(1e-6, 10),
        rescale_offset=numbers,
        mean=st.just(normal[0] if normal[2] else None),
        std=st.just(normal[1] if normal[2] else None),
        layout=st.sampled_from(get_args(Layout)),
    )
)


@steady
@given(spec=specs)
def test_a_contract_comes_back_from_json_as_it_was(spec: ClipSpec) -> None:
    assert typed(json.loads(json.dumps(dataclasses.asdict(spec))), ClipSpec, "spec") == spec


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@steady
@given(value=json_values, kind=st.sampled_from([ClipSpec, Evaluation, TensorInfo, Profile]))
def test_any_json_is_the_type_that_it_stands_for_or_an_error_of_ours(value: Any, kind: type) -> None:
    try:
        made: Any = typed(value, kind, "file")
    except BundleError:
        return
    assert json.loads(json.dumps(dataclasses.asdict(made))) == value
