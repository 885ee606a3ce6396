"""The preprocessor_config.json of a Hugging Face checkpoint, read as `transformers` reads it.

Every key may be absent, and then means the default of the class that the checkpoint names. Keys that say
nothing about pixels are ignored, as `transformers` ignores them.

Reference: transformers 5.23, `VivitImageProcessor`, `VivitVideoProcessor`, `VideoMAEImageProcessor`,
`VideoMAEImageProcessorPil`, `VideoMAEVideoProcessor`, and `get_size_dict` for the legacy forms of a size.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

from ...preprocess.errors import CheckpointError
from ...preprocess.spec import (
    TORCHVISION_RESAMPLES,
    Arithmetic,
    ClipSpec,
    Evaluation,
    ExactSize,
    Family,
    Layout,
    Resample,
    ShortestEdge,
)

# preprocessor_config.json stores the number of PIL.Image.Resampling.
_RESAMPLE_BY_NUMBER: dict[int, Resample] = dict(enumerate(get_args(Resample)))

# Beyond these a float32 or a frame would overflow; NaN is beyond all.
_LONGEST_SIDE, _LARGEST, _SMALLEST = 16_384, 1e9, 1e-9

_COMMON_DEFAULTS: dict[str, Any] = {
    "do_resize": True,
    "resample": 2,
    "default_to_square": False,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": 0.5,
    "image_std": 0.5,
}
_CLIP_MEAN, _CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
_SQUARE = {"default_to_square": True}
# By the class that a file names, without its ending and in lower case. Checkpoints of a family now and then carry the
# processor of another, or of a picture model: transformers goes by the class, and so do its defaults.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "vivit": _COMMON_DEFAULTS | {"size": {"shortest_edge": 256}, "rescale_factor": 1 / 127.5, "offset": True},
    "videomae": _COMMON_DEFAULTS | {"size": {"shortest_edge": 224}},
    "vit": _COMMON_DEFAULTS | _SQUARE | {"size": {"height": 224, "width": 224}, "do_center_crop": False},
    "deit": _COMMON_DEFAULTS | _SQUARE | {"size": {"height": 256, "width": 256}, "resample": 3},
    "clip": _COMMON_DEFAULTS
    | {"size": {"shortest_edge": 224}, "resample": 3, "image_mean": _CLIP_MEAN, "image_std": _CLIP_STD},
}
# What transformers calls the processors of a model, where a file names none.
_FAMILY_NAMES: dict[Family, str] = {"vivit": "Vivit", "videomae": "VideoMAE"}
_CLASS_NAME = re.compile(r"(.+?)(ImageProcessor(Fast|Pil)?|VideoProcessor|FeatureExtractor)")
# VivitImageProcessor takes its default where one of these is null; no other class and no other key does.
_VIVIT_NULLABLE = ("size", "crop_size", "image_mean", "image_std")
# The key has changed its name with the kind of class that wrote the file; the oldest counts least.
_TYPE_KEYS = ("video_processor_type", "image_processor_type", "feature_extractor_type")


def _wrong(key: str, value: Any, expected: str) -> CheckpointError:
    return CheckpointError(
        f"preprocessor_config.json: {key} must be {expected}, got {value!r}",
        fix=f"correct {key} in the checkpoint's preprocessor_config.json",
    )


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LONGEST_SIDE


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _flag(values: Mapping[str, Any], key: str) -> bool:
    value = values[key]
    if not isinstance(value, bool):
        raise _wrong(key, value, "true or false")
    return value


def _height_width(value: Any) -> tuple[int, int] | None:
    """The two sides of {"height", "width"} or [height, width], None for anything else."""
    if isinstance(value, Mapping) and set(value) == {"height", "width"}:
        value = [value["height"], value["width"]]
    if isinstance(value, list) and len(value) == 2 and all(map(_is_side, value)):
        return value[0], value[1]
    return None


def _resize(values: Mapping[str, Any]) -> ShortestEdge | ExactSize | None:
    if not _flag(values, "do_resize"):
        return None
    size = values["size"]
    if _is_side(size):
        return ExactSize(size, size) if _flag(values, "default_to_square") else ShortestEdge(size)
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"} and _is_side(size["shortest_edge"]):
        return ShortestEdge(size["shortest_edge"])
    sides = _height_width(size)
    if sides is None:
        raise _wrong("size", size, 'n, {"shortest_edge": n}, {"height": n, "width": n} or [height, width]')
    return ExactSize(*sides)


def _crop(values: Mapping[str, Any]) -> tuple[int, int] | None:
    if not _flag(values, "do_center_crop"):
        return None
    crop = values["crop_size"]
    sides = (crop, crop) if _is_side(crop) else _height_width(crop)
    if sides is None:
        raise _wrong("crop_size", crop, 'n, {"height": n, "width": n} or [height, width]')
    return sides


def _resample(values: Mapping[str, Any], arithmetic: Arithmetic) -> Resample:
    number = values["resample"]
    if not isinstance(number, int) or isinstance(number, bool) or number not in _RESAMPLE_BY_NUMBER:
        names = ", ".join(f"{number} ({name})" for number, name in _RESAMPLE_BY_NUMBER.items())
        raise _wrong("resample", number, f"one of {names}")
    resample = _RESAMPLE_BY_NUMBER[number]
    if arithmetic == "torchvision" and resample not in TORCHVISION_RESAMPLES:
        raise CheckpointError(
            f"preprocessor_config.json: resample {number} ({resample}) is not torchvision's to the bit; "
            f"{', '.join(TORCHVISION_RESAMPLES)} are",
            fix="--pixels pillow, which has every filter",
        )
    return resample


def _rescale(values: Mapping[str, Any], offset: bool) -> tuple[float, float]:
    """The factor and the offset of x * factor + offset."""
    if not _flag(values, "do_rescale"):
        return 1.0, 0.0
    factor = values["rescale_factor"]
    if not _is_number(factor) or factor < _SMALLEST:
        raise _wrong("rescale_factor", factor, "a number above 0")
    return float(factor), -1.0 if offset else 0.0


def _offset(values: Mapping[str, Any]) -> bool:
    """Whether VivitImageProcessor takes 1 from the rescaled values."""
    offset = _flag(values, "offset")
    if offset and not _flag(values, "do_rescale"):
        raise _wrong("offset", True, "false where do_rescale is false (absent means true)")
    return offset


def _per_channel(values: Mapping[str, Any], key: str) -> tuple[float, float, float]:
    """One number for each of R, G and B; a single number stands for all three."""
    value = values[key]
    numbers = [value] * 3 if _is_number(value) else value
    if not isinstance(numbers, list) or len(numbers) != 3 or not all(map(_is_number, numbers)):
        raise _wrong(key, value, "a number or a list of 3 numbers")
    if key == "image_std" and min(numbers) < _SMALLEST:
        raise _wrong(key, value, "above 0 in every channel")
    red, green, blue = map(float, numbers)
    return red, green, blue


def _class_name(config: Mapping[str, Any]) -> str | None:
    """The class that the file says it is for; None where it says nothing."""
    for key in _TYPE_KEYS:
        name = config.get(key)
        if name is not None and not isinstance(name, str):
            raise _wrong(key, name, "the name of a class")
        if name is not None:
            return name
    return None


def _kind(name: str | None, family: Family) -> str:
    """The key into _DEFAULTS of a class; where the file names none, transformers takes the family's own."""
    if name is None:
        return family
    match = _CLASS_NAME.fullmatch(name)
    # Compared without case: a published ViViT file says ViViTImageProcessor, a class that never existed.
    kind = "" if match is None else match[1].lower()
    if kind not in _DEFAULTS:
        supported = "VivitImageProcessor, VideoMAEImageProcessor, ViTImageProcessor, DeiTImageProcessor, "
        raise CheckpointError(
            f"preprocessor_config.json is for {name!r}, whose arithmetic is not supported; supported are {supported}"
            "CLIPImageProcessor, and the video processors of ViViT and VideoMAE",
            fix="take the preprocessor_config.json of the checkpoint that the weights come from",
        )
    return kind


class PixelsChoice(NamedTuple):
    """Whose arithmetic a checkpoint's pixels follow, and what is worth saying about the choice, if anything."""

    arithmetic: Arithmetic
    note: str | None


def choose_arithmetic(
    config: Mapping[str, Any], *, family: Family, transformers_version: str | None, asked: Arithmetic | None = None
) -> PixelsChoice:
    """Choose whose arithmetic a checkpoint's pixels follow.

    The class that the file names decides. A video processor and a "Fast" class compute with torchvision, a "Pil" class
    and a feature extractor with Pillow, and so does the image processor of ViViT in every version. The bare name of
    another image processor means two classes: one with Pillow before transformers 5, one with torchvision since. Files
    of both look alike, so the version in config.json decides, which the same `save_pretrained` or Trainer wrote. Where
    none is there, Pillow is taken: transformers 5 always writes one.

    Pillow is Pillow up to version 12, which nearly all published checkpoints were trained and evaluated with. Its
    version 13 differs on tall frames alone and is taken only where it is asked for.

    Args:
        config: the parsed preprocessor_config.json, or video_preprocessor_config.json.
        family: of the model; its own image processor is meant where the file names no class.
        transformers_version: what config.json says, or None.
        asked: what the caller wants instead, or None.

    Returns:
        The arithmetic, and a note where the files leave it open, or the caller overrules them, or it is torchvision's.

    Raises:
        CheckpointError: for a class that is not supported.
    """
    name = _class_name(config)
    kind = _kind(name, family)
    called = name or f"{_FAMILY_NAMES[family]}ImageProcessor"
    chosen: Arithmetic = "pillow"
    note = None
    if called.endswith("VideoProcessor") or (called.endswith("Fast") and kind != "vivit"):
        chosen, note = "torchvision", f"pixels are computed as torchvision does, as {called} does"
    elif called.endswith("ImageProcessor") and kind != "vivit":
        major = re.match(r"\d+", transformers_version or "")
        source = f"transformers_version {transformers_version}" if major else "it does not say which version wrote it"
        if major and int(major[0]) >= 5:
            chosen = "torchvision"
            note = (
                f"pixels are computed as torchvision does, as {called} does since transformers 5 (config.json: "
                f"{source}); --pixels pillow computes them as Pillow does"
            )
        else:
            note = (
                f"pixels are computed as Pillow does, as {called} did before transformers 5 (config.json: {source}); "
                "for a model fine-tuned since, --pixels torchvision"
            )
    if asked is None or asked == chosen:
        return PixelsChoice(chosen, note if asked is None else None)
    return PixelsChoice(asked, f"pixels are computed as {asked} does, as asked for; {called} means {chosen}")


def spec_from_hub(
    config: Mapping[str, Any],
    *,
    family: Family,
    num_frames: int,
    evaluation: Evaluation,
    arithmetic: Arithmetic,
    layout: Layout = "TCHW",
) -> ClipSpec:
    """The input contract that a parsed preprocessor_config.json describes, an empty one included.

    num_frames, evaluation: not in the file; they come from the model's config and its family.
    arithmetic: see `choose_arithmetic`.

    Current and legacy keys are read. What the file says is followed even where it is surprising;
    `ClipSpec.notes` says where. The class that the file names decides on defaults and arithmetic, whatever the
    model's family, as in `transformers`. Raises CheckpointError for a class of other arithmetic, and for a value
    that makes no sense, naming key, value and what was expected.
    """
    name = _class_name(config)
    kind = _kind(name, family)
    defaults = _DEFAULTS[kind]
    values = {**defaults, **config}
    # A class that has no crop of its own writes null for it.
    values |= {key: False for key, value in defaults.items() if value is False and values[key] is None}
    offset = False
    if kind == "vivit" and name is not None and name.endswith("VideoProcessor"):
        offset = True  # VivitVideoProcessor has no such key
    elif kind == "vivit":
        values |= {key: defaults[key] for key in _VIVIT_NULLABLE if values[key] is None}
        values["default_to_square"] = False  # VivitImageProcessor does not read it
        offset = _offset(values)

    resize = _resize(values)
    factor, offset_value = _rescale(values, offset)
    normalises = _flag(values, "do_normalize")
    return ClipSpec(
        num_frames=num_frames,
        evaluation=evaluation,
        arithmetic=arithmetic,
        resize=resize,
        resample="bilinear" if resize is None else _resample(values, arithmetic),
        crop=_crop(values),
        rescale_factor=factor,
        rescale_offset=offset_value,
        mean=_per_channel(values, "image_mean") if normalises else None,
        std=_per_channel(values, "image_std") if normalises else None,
        layout=layout,
    )
