"""The preprocessor_config.json of a Hugging Face checkpoint, read as `transformers` reads it.

Every key may be absent, and then means the default of the class that the checkpoint names. Keys that say
nothing about pixels are ignored, as `transformers` ignores them.

Reference: transformers 5.23, `VivitImageProcessor`, `VivitVideoProcessor`, `VideoMAEImageProcessor`,
`VideoMAEImageProcessorPil`, `VideoMAEVideoProcessor`, and `get_size_dict` for the legacy forms of a size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from ...preprocess.errors import CheckpointError
from ...preprocess.spec import (
    TORCHVISION_RESAMPLES,
    Arithmetic,
    ClipSpec,
    Evaluation,
    ExactSize,
    Layout,
    Resample,
    ShortestEdge,
)
from ..families.family import Family
from .processor_class import PROCESSOR_FILE, class_named, processor_named, wrong_value

# Files store the number of PIL.Image.Resampling.
_RESAMPLE_BY_NUMBER: dict[int, Resample] = dict(enumerate(get_args(Resample)))

# Beyond these a float32 or a frame would overflow; NaN is beyond all.
_LONGEST_SIDE, _LARGEST, _SMALLEST = 16_384, 1e9, 1e-9


@dataclass(frozen=True)
class _Keys:
    """The keys of a processor, and the file that they were read from."""

    values: Mapping[str, Any]
    file: str

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def wrong(self, key: str, expected: str) -> CheckpointError:
        """The error for a value that makes no sense."""
        return wrong_value(self.values, key, expected, self.file)


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LONGEST_SIDE


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _flag(keys: _Keys, key: str) -> bool:
    value = keys[key]
    if not isinstance(value, bool):
        raise keys.wrong(key, "true or false")
    return value


def _height_width(value: Any) -> tuple[int, int] | None:
    """The two sides of {"height", "width"} or [height, width], None for anything else."""
    if isinstance(value, Mapping) and set(value) == {"height", "width"}:
        value = [value["height"], value["width"]]
    if isinstance(value, list) and len(value) == 2 and all(map(_is_side, value)):
        return value[0], value[1]
    return None


def _resize(keys: _Keys) -> ShortestEdge | ExactSize | None:
    if not _flag(keys, "do_resize"):
        return None
    size = keys["size"]
    if _is_side(size):
        return ExactSize(size, size) if _flag(keys, "default_to_square") else ShortestEdge(size)
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"} and _is_side(size["shortest_edge"]):
        return ShortestEdge(size["shortest_edge"])
    sides = _height_width(size)
    if sides is None:
        raise keys.wrong("size", 'n, {"shortest_edge": n}, {"height": n, "width": n} or [height, width]')
    return ExactSize(*sides)


def _crop(keys: _Keys) -> tuple[int, int] | None:
    if not _flag(keys, "do_center_crop"):
        return None
    crop = keys["crop_size"]
    sides = (crop, crop) if _is_side(crop) else _height_width(crop)
    if sides is None:
        raise keys.wrong("crop_size", 'n, {"height": n, "width": n} or [height, width]')
    return sides


def _resample(keys: _Keys, arithmetic: Arithmetic) -> Resample:
    number = keys["resample"]
    if not isinstance(number, int) or isinstance(number, bool) or number not in _RESAMPLE_BY_NUMBER:
        names = ", ".join(f"{number} ({name})" for number, name in _RESAMPLE_BY_NUMBER.items())
        raise keys.wrong("resample", f"one of {names}")
    resample = _RESAMPLE_BY_NUMBER[number]
    if arithmetic == "torchvision" and resample not in TORCHVISION_RESAMPLES:
        raise CheckpointError(
            f"{keys.file}: resample {number} ({resample}) is not torchvision's to the bit; "
            f"{', '.join(TORCHVISION_RESAMPLES)} are",
            fix="--pixels pillow, which has every filter",
        )
    return resample


def _rescale(keys: _Keys, offset: bool) -> tuple[float, float]:
    """The factor and the offset of x * factor + offset."""
    if not _flag(keys, "do_rescale"):
        return 1.0, 0.0
    factor = keys["rescale_factor"]
    if not _is_number(factor) or factor < _SMALLEST:
        raise keys.wrong("rescale_factor", "a number above 0")
    return float(factor), -1.0 if offset else 0.0


def _offset(keys: _Keys) -> bool:
    """Whether an image processor that reads `offset` takes 1 from the rescaled values."""
    offset = _flag(keys, "offset")
    if offset and not _flag(keys, "do_rescale"):
        raise keys.wrong("offset", "false where do_rescale is false (absent means true)")
    return offset


def _per_channel(keys: _Keys, key: str) -> tuple[float, float, float]:
    """One number for each of R, G and B; a single number stands for all three."""
    value = keys[key]
    numbers = [value] * 3 if _is_number(value) else value
    if not isinstance(numbers, list) or len(numbers) != 3 or not all(map(_is_number, numbers)):
        raise keys.wrong(key, "a number or a list of 3 numbers")
    if key == "image_std" and min(numbers) < _SMALLEST:
        raise keys.wrong(key, "above 0 in every channel")
    red, green, blue = map(float, numbers)
    return red, green, blue


def spec_from_hub(
    config: Mapping[str, Any],
    *,
    family: Family,
    num_frames: int,
    evaluation: Evaluation,
    arithmetic: Arithmetic,
    layout: Layout = "TCHW",
    file: str = PROCESSOR_FILE,
) -> ClipSpec:
    """The input contract that a parsed preprocessor_config.json describes, an empty one included.

    num_frames, evaluation: not in the file; they come from the model's config and its family.
    arithmetic: see `choose_arithmetic`.
    file: which was parsed, for messages.

    Current and legacy keys are read. What the file says is followed even where it is surprising;
    `ClipSpec.notes` says where. The class that the file names decides on defaults and arithmetic, whatever the
    model's family, as in `transformers`. Raises CheckpointError for a class of other arithmetic, and for a value that
    makes no sense. The message names key, value and what was expected.
    """
    name = class_named(config, file)
    processor = processor_named(name, family, file)
    defaults = processor.defaults
    values = {**defaults, **config}
    # A class that has no crop of its own writes null for it.
    values |= {key: False for key, value in defaults.items() if value is False and values[key] is None}
    offset = processor.offset
    if not (name or processor.usual_class).endswith("VideoProcessor"):
        values |= {key: defaults[key] for key in processor.nullable if values[key] is None}
        values |= processor.unread
        offset = processor.offset and _offset(_Keys(values, file))
    values |= processor.computed(values)
    keys = _Keys(values, file)

    resize = _resize(keys)
    factor, offset_value = _rescale(keys, offset)
    normalises = _flag(keys, "do_normalize")
    return ClipSpec(
        num_frames=num_frames,
        evaluation=evaluation,
        arithmetic=arithmetic,
        resize=resize,
        resample="bilinear" if resize is None else _resample(keys, arithmetic),
        crop=_crop(keys),
        rescale_factor=factor,
        rescale_offset=offset_value,
        mean=_per_channel(keys, "image_mean") if normalises else None,
        std=_per_channel(keys, "image_std") if normalises else None,
        layout=layout,
    )
