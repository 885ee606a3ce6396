import dataclasses
import json

import pytest
from specs import VIVIT_SPEC

from tubelet.preprocess.spec import ClipSpec, ExactSize, Sampling, ShortestEdge
from tubelet.runtime.bundle.typed import typed

SPECS = {
    "kinetics": VIVIT_SPEC,
    "one third": dataclasses.replace(VIVIT_SPEC, rescale_factor=1 / 3, mean=(0.1, 0.2, 0.3)),
    "exact size": dataclasses.replace(VIVIT_SPEC, resize=ExactSize(120, 160), crop=None),
    "nothing": dataclasses.replace(VIVIT_SPEC, resize=None, crop=None, mean=None, std=None),
    "uint8": dataclasses.replace(VIVIT_SPEC, layout="THWC", resample="lanczos"),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_json_gives_back_the_same_spec(spec):
    again = typed(json.loads(json.dumps(dataclasses.asdict(spec))), ClipSpec, "spec")
    assert again == spec
    assert hash(again) == hash(spec)  # so the lists of JSON are tuples again


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_frames": 0}, "num_frames must be a whole number above 0, got 0"),
        ({"num_frames": True}, "num_frames must be a whole number above 0, got True"),
        ({"resample": "linear"}, "resample must be one of nearest, lanczos, .* got 'linear'"),
        ({"crop": (224, 0)}, "crop must be a whole number above 0, got 0"),
        ({"crop": [224, 224]}, r"crop must be a tuple of 2, got \[224, 224\]"),
        ({"rescale_factor": 0.0}, "rescale_factor must be above 0"),
        ({"rescale_factor": float("nan")}, "rescale_factor must be a finite number, got nan"),
        ({"rescale_offset": "-1"}, "rescale_offset must be a finite number, got '-1'"),
        ({"mean": (0.5, 0.5)}, r"mean must be a tuple of 3, got \(0.5, 0.5\)"),
        ({"mean": (0.5, 0.5, float("inf"))}, "mean must be a finite number, got inf"),
        ({"std": (0.5, 0.0, 0.5)}, "std must be above 0 in every channel"),
        ({"std": None}, "mean and std must be given together"),
    ],
)
def test_a_field_that_no_model_could_mean_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(VIVIT_SPEC, **fields)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [(Sampling, ("uniform", 0)), (ShortestEdge, (-1,)), (ExactSize, (0, 4)), (ExactSize, (4, 2.5))],
)
def test_a_part_that_makes_no_sense_is_refused(make, arguments):
    with pytest.raises(ValueError, match="must be a whole number above 0"):
        make(*arguments)


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({}, (224, 224)),
        ({"crop": (200, 180)}, (200, 180)),
        ({"crop": None}, None),
        ({"crop": None, "resize": ExactSize(120, 160)}, (120, 160)),
        ({"crop": None, "resize": None}, None),
    ],
)
def test_size(fields, size):
    assert dataclasses.replace(VIVIT_SPEC, **fields).size == size


@pytest.mark.parametrize(
    ("fields", "value_range"),
    [
        ({}, (-3.0, 1.0)),
        ({"mean": None, "std": None}, (-1.0, 1.0)),
        (
            {"rescale_factor": 1 / 255, "rescale_offset": 0.0, "mean": (0, 0.5, 0), "std": (1, 0.25, 1)},
            (-2.0, 2.0),
        ),
    ],
)
def test_value_range(fields, value_range):
    assert dataclasses.replace(VIVIT_SPEC, **fields).value_range == pytest.approx(value_range)


def test_double_normalisation_is_noted():
    assert VIVIT_SPEC.notes() == (
        "pixels are centred twice, as published: rescaling gives [-1, 1], then mean and std give [-3, 1]",
    )


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        (
            {"rescale_factor": 1.0, "rescale_offset": 0.0},
            "pixels are not rescaled: the model gets [0, 255]",
        ),
        (
            {"crop": (256, 224)},
            "the crop of 256x224 can be larger than the resized frame; what is missing is black",
        ),
        (
            {"resize": ExactSize(300, 200)},
            "the crop of 224x224 can be larger than the resized frame; what is missing is black",
        ),
        ({}, None),
        ({"resize": ShortestEdge(256)}, None),
    ],
)
def test_notes(fields, note):
    plain = dataclasses.replace(VIVIT_SPEC, mean=None, std=None)
    assert dataclasses.replace(plain, **fields).notes() == (() if note is None else (note,))
