import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import transformers
from oracle import oracle
from published_configs import EVALUATION, KINETICS, PUBLISHED, VIDEOMAE, VIVIT, noise, ours, spec_of, theirs
from specs import VIDEOMAE_SPEC, VIVIT_SPEC

from tubelet.exporter.checkpoint.processor import spec_from_hub
from tubelet.exporter.checkpoint.processor_class import choose_arithmetic
from tubelet.exporter.families.registry import family_named
from tubelet.preprocess.errors import CheckpointError
from tubelet.preprocess.spec import ExactSize, ShortestEdge


def test_the_published_configs():
    assert spec_of("vivit", KINETICS, num_frames=32) == VIVIT_SPEC
    untrained = replace(VIVIT_SPEC, resize=ShortestEdge(256), mean=None, std=None)
    assert spec_of("vivit", VIVIT, num_frames=32) == untrained
    assert spec_of("videomae", VIDEOMAE, num_frames=16) == VIDEOMAE_SPEC


def test_only_the_double_normalisation_is_noted():
    assert len(spec_of("vivit", KINETICS).notes()) == 1
    assert spec_of("vivit", VIVIT).notes() == ()
    assert spec_of("videomae", VIDEOMAE).notes() == ()


# Every form is run by the class of `transformers` too, and both must give the same values.
FORMS: list[tuple[str, dict[str, Any]]] = [
    ("vivit", {}),
    ("vivit", {"size": 40, "crop_size": 32}),
    ("vivit", {"size": 40, "default_to_square": True, "crop_size": 32}),
    ("vivit", {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 24}}),
    ("vivit", {"size": {"height": 40, "width": 50}, "crop_size": [32, 24]}),
    ("vivit", {"size": [40, 50], "crop_size": 32}),
    ("vivit", {"size": None, "crop_size": None, "image_mean": None, "image_std": None}),
    ("vivit", {"do_resize": False, "crop_size": 32, "resample": None}),
    ("vivit", {"size": 40, "do_center_crop": False, "crop_size": 7}),
    ("vivit", {"size": 40, "offset": False}),
    ("vivit", {"size": 40, "offset": False, "do_normalize": False}),
    ("vivit", {"size": 40, "offset": False, "do_rescale": False}),
    ("vivit", {"size": 40, "offset": False, "do_rescale": False, "do_normalize": False}),
    ("vivit", {"size": 40, "rescale_factor": 1}),
    ("vivit", {"size": 40, "image_mean": 0.4, "image_std": 0.25}),
    ("vivit", {"size": 40, "image_mean": [0.1, 0.2, 0.3]}),
    ("videomae", {}),
    ("videomae", {"size": 40, "crop_size": 32}),
    ("videomae", {"size": 40, "default_to_square": True, "crop_size": 32}),
    ("videomae", {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 24}}),
    ("videomae", {"size": {"height": 40, "width": 50}, "crop_size": [32, 24]}),
    ("videomae", {"size": [40, 50], "crop_size": 32}),
    ("videomae", {"do_resize": False, "crop_size": 32}),
    ("videomae", {"size": 40, "do_center_crop": False}),
    ("videomae", {"size": 40, "do_rescale": False}),
    ("videomae", {"size": 40, "do_normalize": False, "image_mean": None}),
    ("videomae", {"size": 40, "do_rescale": False, "do_normalize": False}),
    ("videomae", {"size": 40, "rescale_factor": 1 / 127.5}),
    ("videomae", {"size": 40, "offset": True}),
    ("videomae", {"size": 40, "image_mean": 0.4, "image_std": 0.25}),
    ("videomae", {"size": 40, "image_std": [1, 2, 3]}),
]


@pytest.mark.parametrize(("family", "config"), FORMS)
def test_every_form_means_what_it_means_to_transformers(family, config):
    pixels = noise(60, 47)
    np.testing.assert_array_equal(ours(family, config, pixels), theirs(family, config, pixels))


@pytest.mark.parametrize(
    ("family", "key", "name"),
    [
        ("vivit", "image_processor_type", "VivitImageProcessor"),
        ("vivit", "image_processor_type", "ViViTImageProcessor"),
        ("vivit", "feature_extractor_type", "VivitFeatureExtractor"),
        ("videomae", "image_processor_type", "VideoMAEImageProcessor"),
        ("videomae", "image_processor_type", "VideoMAEImageProcessorFast"),
        ("videomae", "video_processor_type", "VideoMAEVideoProcessor"),
        ("videomae", "feature_extractor_type", "VideoMAEFeatureExtractor"),
        ("videomae", "image_processor_type", None),
    ],
)
def test_the_family_of_the_file(family, key, name):
    assert spec_of(family, {key: name}) == spec_of(family, {})


CLASSES = {
    "vivit": "VivitImageProcessor",
    "videomae": "VideoMAEImageProcessor",
    "vit": "ViTImageProcessor",
    "deit": "DeiTImageProcessor",
    "clip": "CLIPImageProcessor",
}


@pytest.mark.parametrize("family", ["vivit", "videomae"])
@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"size": 40, "crop_size": 32},
        {"size": {"height": 40, "width": 50}, "do_center_crop": True, "crop_size": {"height": 32, "width": 24}},
        {"size": {"shortest_edge": 40}, "image_mean": [0.1, 0.2, 0.3], "do_center_crop": False},
    ],
    ids=["defaults", "numbers", "sides", "edge"],
)
def test_a_processor_of_any_class_is_what_that_class_is_in_transformers(family, kind, config):
    pixels = noise(60, 47)
    named = {"image_processor_type": CLASSES[kind], **config}
    result = ours(family, named, pixels)
    np.testing.assert_array_equal(result, theirs(kind, named, pixels))
    old = {"feature_extractor_type": CLASSES[kind].replace("ImageProcessor", "FeatureExtractor"), **config}
    assert spec_of(family, old) == spec_of(family, named)


def test_a_class_without_a_crop_writes_null_for_it():
    config = {"image_processor_type": "ViTImageProcessorFast", "do_center_crop": None, "crop_size": None}
    spec = spec_of("videomae", config)
    assert spec == spec_of("videomae", {"image_processor_type": "ViTImageProcessor"})
    assert (spec.resize, spec.crop) == (ExactSize(224, 224), None)


def test_the_newer_of_two_keys_names_the_class():
    config = {"feature_extractor_type": "ViTFeatureExtractor", "image_processor_type": "VideoMAEImageProcessor"}
    assert spec_of("videomae", config) == spec_of("videomae", {})


@pytest.mark.parametrize("name", ["ConvNextImageProcessor", "Qwen2VLImageProcessor", "MyOwn", "ViTProcessor", ""])
def test_a_class_of_other_arithmetic_is_refused(name):
    with pytest.raises(CheckpointError, match=f"is for {name!r}, whose arithmetic is not supported; .*\n  fix: "):
        spec_of("videomae", {"image_processor_type": name})


def test_a_class_must_be_a_name():
    with pytest.raises(CheckpointError, match="image_processor_type must be the name of a class, got 3"):
        spec_of("vivit", {"image_processor_type": 3})


def test_the_video_processor_of_vivit_always_takes_one_away():
    """Where do_rescale is true it computes x * factor - 1, whatever `offset` says."""
    video = {"video_processor_type": "VivitVideoProcessor"}
    assert spec_of("vivit", video | {"offset": False}) == spec_of("vivit", {})
    assert spec_of("vivit", video | {"do_rescale": False}) == spec_of("vivit", {"offset": False, "do_rescale": False})
    assert spec_of("vivit", video | {"size": 40, "default_to_square": True}).resize == ExactSize(40, 40)


@pytest.mark.parametrize("name", PUBLISHED)
def test_keys_that_say_nothing_about_pixels_are_ignored(name):
    family, config = PUBLISHED[name]
    other = {"processor_class": "X", "do_convert_rgb": None, "video_size": 7, "num_frames": 3, "do_pad": True}
    assert spec_of(family, config | other) == spec_of(family, config)


def test_the_callers_part_is_kept():
    spec = spec_from_hub(
        {},
        family=family_named("vivit"),
        num_frames=7,
        evaluation=EVALUATION["videomae"],
        arithmetic="pillow",
        layout="THWC",
    )
    assert (spec.num_frames, spec.evaluation, spec.layout) == (7, EVALUATION["videomae"], "THWC")


@pytest.mark.parametrize("family", ["vivit", "videomae"])
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"size": "224"}, r"size must be n, \{\"shortest_edge\": n\}, .*, got '224'"),
        ({"size": 0}, "size must be .*, got 0"),
        ({"size": True}, "size must be .*, got True"),
        ({"size": {"shortest_edge": 224, "longest_edge": 300}}, "size must be .*, got .*longest_edge"),
        ({"size": {"height": 224}}, "size must be .*, got {'height': 224}"),
        ({"size": [1, 2, 3]}, r"size must be .*, got \[1, 2, 3\]"),
        ({"crop_size": {"shortest_edge": 224}}, "crop_size must be .*, got {'shortest_edge': 224}"),
        ({"crop_size": -3}, "crop_size must be .*, got -3"),
        ({"resample": 9}, r"resample must be one of 0 \(nearest\), 1 \(lanczos\), .*, got 9"),
        ({"resample": "bilinear"}, "resample must be .*, got 'bilinear'"),
        ({"resample": None}, "resample must be .*, got None"),
        ({"do_resize": "yes"}, "do_resize must be true or false, got 'yes'"),
        ({"do_center_crop": None}, "do_center_crop must be true or false, got None"),
        ({"do_rescale": 1}, "do_rescale must be true or false, got 1"),
        ({"do_normalize": []}, r"do_normalize must be true or false, got \[\]"),
        ({"rescale_factor": 0}, "rescale_factor must be a number above 0, got 0"),
        ({"rescale_factor": "1/255"}, "rescale_factor must be a number above 0, got '1/255'"),
        ({"rescale_factor": None}, "rescale_factor must be a number above 0, got None"),
        ({"image_mean": [0.5, 0.5]}, r"image_mean must be a number or a list of 3 numbers, got \[0.5, 0.5\]"),
        ({"image_mean": float("nan")}, "image_mean must be a number or a list of 3 numbers, got nan"),
        ({"image_std": [0.5, 0.0, 0.5]}, "image_std must be above 0 in every channel"),
        ({"image_std": "imagenet"}, "image_std must be a number or a list of 3 numbers, got 'imagenet'"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(family, config, message):
    with pytest.raises(CheckpointError, match=f"preprocessor_config.json: {message}") as caught:
        spec_of(family, config)
    (key,) = config
    assert caught.value.fix == f"correct {key} in the checkpoint's preprocessor_config.json"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"offset": 1}, "offset must be true or false, got 1"),
        ({"do_rescale": False}, "offset must be false where do_rescale is false"),
    ],
)
def test_an_offset_that_makes_no_sense_is_refused(config, message):
    with pytest.raises(CheckpointError, match=message):
        spec_of("vivit", config)


def chosen(family, config, version, asked=None):
    return choose_arithmetic(config, family=family_named(family), transformers_version=version, asked=asked)


@pytest.mark.parametrize("version", [None, "4.57.1", "5.23.0"])
@pytest.mark.parametrize(
    ("family", "config", "arithmetic"),
    [
        ("vivit", {}, "pillow"),
        ("vivit", {"image_processor_type": "VivitImageProcessor"}, "pillow"),
        ("vivit", {"image_processor_type": "VivitImageProcessorFast"}, "pillow"),  # there never was such a class
        ("vivit", {"video_processor_type": "VivitVideoProcessor"}, "torchvision"),
        ("videomae", {"video_processor_type": "VideoMAEVideoProcessor"}, "torchvision"),
        ("videomae", {"image_processor_type": "VideoMAEImageProcessorFast"}, "torchvision"),
        ("videomae", {"image_processor_type": "VideoMAEImageProcessorPil"}, "pillow"),
        ("videomae", {"feature_extractor_type": "VideoMAEFeatureExtractor"}, "pillow"),
        ("videomae", {"image_processor_type": "VivitImageProcessor"}, "pillow"),
    ],
)
def test_a_class_that_computes_in_one_way_decides(family, config, arithmetic, version):
    choice = chosen(family, config, version)
    assert choice.arithmetic == arithmetic
    assert (choice.note is not None) == (arithmetic == "torchvision")


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("videomae", {}),
        ("videomae", {"image_processor_type": "VideoMAEImageProcessor"}),
        ("vivit", {"image_processor_type": "VideoMAEImageProcessor"}),
        ("videomae", {"image_processor_type": "CLIPImageProcessor"}),
    ],
)
@pytest.mark.parametrize(
    ("version", "arithmetic", "said"),
    [
        ("5.0.0", "torchvision", r"since transformers 5 \(config.json: transformers_version 5.0.0\); --pixels pillow"),
        ("5.24.0.dev0", "torchvision", r"transformers_version 5.24.0.dev0"),
        ("10.1", "torchvision", r"transformers_version 10.1"),
        ("4.57.1", "pillow", r"did before transformers 5 \(config.json: transformers_version 4.57.1\);"),
        (None, "pillow", r"did before transformers 5 \(config.json: it does not say which version wrote it\);"),
        ("newest", "pillow", r"it does not say which version wrote it"),
    ],
)
def test_a_bare_name_means_what_its_writer_computed(family, config, version, arithmetic, said):
    choice = chosen(family, config, version)
    assert choice.arithmetic == arithmetic
    assert re.search(said, choice.note)


def test_the_caller_overrules_the_files():
    bare: dict[str, Any] = {}
    video = {"video_processor_type": "VideoMAEVideoProcessor"}
    assert chosen("videomae", bare, "5.0", asked="torchvision") == ("torchvision", None)
    assert chosen("videomae", bare, "5.0", asked="pillow-13") == (
        "pillow-13",
        "pixels are computed as pillow-13 does, as asked for; VideoMAEImageProcessor means torchvision",
    )
    assert chosen("videomae", video, None, asked="pillow").arithmetic == "pillow"


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("videomae", "VideoMAEImageProcessor"),
        ("videomae", "VideoMAEVideoProcessor"),
        ("vivit", "VivitImageProcessor"),
        ("vivit", "VivitVideoProcessor"),
        ("videomae", "CLIPImageProcessor"),
    ],
)
def test_what_transformers_5_writes_is_taken_as_it_takes_it(family, name, tmp_path):
    oracle("torchvision").ask("save", name, tmp_path)
    (file,) = tmp_path.iterdir()
    config = json.loads(file.read_text())
    version = transformers.__version__
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family, "transformers_version": version}))
    expected = oracle("torchvision").ask("library_of", tmp_path)
    assert chosen(family, config, version).arithmetic == expected


@pytest.mark.parametrize(("number", "name"), [(0, "nearest"), (4, "box"), (5, "hamming")])
def test_a_filter_that_torchvision_lacks_is_refused(number, name):
    config = {"video_processor_type": "VideoMAEVideoProcessor", "resample": number}
    with pytest.raises(CheckpointError, match=rf"resample {number} \({name}\) is not .*\n  fix: --pixels pillow"):
        spec_of("videomae", config, arithmetic="torchvision")
    assert spec_of("videomae", config).resample == name
    assert spec_of("videomae", config | {"do_resize": False}, arithmetic="torchvision").resize is None


TORCHVISION_FORMS: list[tuple[str, dict[str, Any]]] = [
    ("vivit", {"video_processor_type": "VivitVideoProcessor", **config})
    for config in (
        {"size": 40, "crop_size": 32},
        {"size": [40, 50], "crop_size": 32},
        {"size": 40, "do_normalize": False},
        {"size": 40, "do_rescale": False},
        {"size": 40, "offset": False},
        {"size": 40, "rescale_factor": 1, "image_mean": [0.1, 0.2, 0.3]},
        {"do_resize": False, "crop_size": 32},
        {"size": 40, "do_center_crop": False},
    )
] + [(family, config) for family, config in FORMS if family == "videomae" and config.get("offset") is None]


@pytest.mark.parametrize(("family", "config"), TORCHVISION_FORMS)
def test_every_form_means_the_same_to_torchvisions_processors(family, config):
    pixels = noise(60, 47)
    expected = theirs(family, config, pixels, "torchvision")
    np.testing.assert_array_equal(ours(family, config, pixels, "torchvision"), expected)


@pytest.mark.parametrize("kind", ["vit", "deit", "clip"])
@pytest.mark.parametrize("config", [{}, {"size": {"height": 40, "width": 50}}])
def test_processors_of_picture_models_with_torchvision(kind, config):
    named, pixels = config | {"image_processor_type": CLASSES[kind]}, noise(60, 47)
    expected = theirs(kind, named, pixels, "torchvision")
    np.testing.assert_array_equal(ours("videomae", named, pixels, "torchvision"), expected)
