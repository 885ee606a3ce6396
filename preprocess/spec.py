"""ClipSpec: everything that turns frames of a video into the input that a model was trained on."""

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

Resample = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
Policy = Literal["centre-loop", "centre-hold", "segments", "start-span", "segment-middles", "uniform", "parts"]
CropRounding = Literal["down", "up", "step"]
CropsOf = Literal["resized", "fitted"]
Averages = Literal["scores", "logits"]
Arithmetic = Literal["pillow", "pillow-13", "torchvision"]

# torchvision refuses box and hamming of tensors. The places of its nearest depend on how torch was compiled.
TORCHVISION_RESAMPLES: tuple[Resample, ...] = ("lanczos", "bilinear", "bicubic")
Layout = Literal["TCHW", "THWC"]
InputName = Literal["pixel_values", "frames"]

# Far beyond any model, and near enough that a clip of that many frames or pixels can be refused by its size.
MOST = 2**20
MOST_CLIP_PIXELS = 2**28

# The mean and deviation of ImageNet's pixels in [0, 1], by channel: what many image and video models normalise with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# What the input of a graph is called tells its layout: normalised values, or frames normalised inside the graph.
LAYOUTS: dict[InputName, Layout] = {"pixel_values": "TCHW", "frames": "THWC"}


@dataclass(frozen=True)
class Sampling:
    """Which frames of a file make a clip: a policy of sampling.py, and the step between frames it takes.

    joined: how many clips of the policy, one behind the other, make one for the model.
    """

    policy: Policy
    stride: int
    joined: int = 1

    def __post_init__(self) -> None:
        _check_choice("policy", self.policy, get_args(Policy))
        _check_positive("stride", self.stride)
        _check_positive("joined", self.joined)


@dataclass(frozen=True)
class Evaluation:
    """How the published evaluation of a model looks at a file.

    Fields:
        sampling: which frames make a clip.
        crop_rounding: where a crop of several begins whose place is no whole pixel. Its place is rounded down or up,
            or the step from one to the next is rounded down.
        averages: what is averaged over the views of a file: the scores of each view, or its logits.
        crops_of: what several crops are cut from: frames as they are resized for one, or fitted. The short side is
            then that of the crop, and only the long one is left over.
    """

    sampling: Sampling
    crop_rounding: CropRounding
    averages: Averages
    crops_of: CropsOf = "resized"

    def __post_init__(self) -> None:
        _check_choice("crop_rounding", self.crop_rounding, get_args(CropRounding))
        _check_choice("averages", self.averages, get_args(Averages))
        _check_choice("crops_of", self.crops_of, get_args(CropsOf))


class ResizeRule:
    """How frames are resized: a ShortestEdge or an ExactSize."""


@dataclass(frozen=True)
class ShortestEdge(ResizeRule):
    """Resize so that the shorter side is `edge` pixels; the longer keeps the aspect, rounded down."""

    edge: int

    def __post_init__(self) -> None:
        _check_positive("edge", self.edge)


@dataclass(frozen=True)
class ExactSize(ResizeRule):
    """Resize to exactly `height` x `width`, whatever the aspect was."""

    height: int
    width: int

    def __post_init__(self) -> None:
        _check_positive("height", self.height)
        _check_positive("width", self.width)


# The two of them, for whoever looks at one. msgspec, which takes one dataclass in a choice, is shown what they share.
if TYPE_CHECKING:
    Resize = ShortestEdge | ExactSize
else:
    Resize = ResizeRule


@dataclass(frozen=True)
class ClipSpec:
    """The input contract of a model.

    Pixels are resized in 8 bits (`resize`, `resample`) and cropped at the centre to `crop` (height, width). They
    become ((x * rescale_factor + rescale_offset) - mean) / std per channel. The last step is left out where mean
    and std are None. Layout TCHW is float32 after all of that; THWC is uint8 after the crop, for a graph that
    normalises inside.

    `arithmetic` is the library whose results these are, bit for bit. It is "pillow" (up to version 12), "pillow-13"
    (which resizes tall frames in another order of passes), or "torchvision".

    Raises ValueError for a field that no model could mean.
    """

    num_frames: int
    evaluation: Evaluation
    arithmetic: Arithmetic
    resize: Resize | None
    resample: Resample
    crop: tuple[int, int] | None
    rescale_factor: float
    rescale_offset: float
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None
    layout: Layout = "TCHW"

    def __post_init__(self) -> None:
        _check_positive("num_frames", self.num_frames)
        joined = self.evaluation.sampling.joined
        if self.num_frames % joined:
            raise ValueError(f"num_frames must be those of {joined} joined clips, got {self.num_frames}")
        _check_choice("arithmetic", self.arithmetic, get_args(Arithmetic))
        _check_choice("resample", self.resample, get_args(Resample))
        _check_choice("layout", self.layout, get_args(Layout))
        if self.arithmetic == "torchvision" and self.resize is not None:
            _check_choice("resample with arithmetic torchvision", self.resample, TORCHVISION_RESAMPLES)
        if self.crop is not None:
            _check_length("crop", self.crop, 2)
            for side in self.crop:
                _check_positive("crop", side)
        _check_finite("rescale_factor", self.rescale_factor)
        _check_finite("rescale_offset", self.rescale_offset)
        if self.rescale_factor <= 0:
            raise ValueError(f"rescale_factor must be above 0, got {self.rescale_factor}")
        if (self.mean is None) != (self.std is None):
            raise ValueError(f"mean and std must be given together, got mean {self.mean} and std {self.std}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None:
                _check_length(name, values, 3)
                for value in values:
                    _check_finite(name, value)
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"std must be above 0 in every channel, got {self.std}")
        if self.size is not None and self.num_frames * math.prod(self.size) > MOST_CLIP_PIXELS:
            raise ValueError(
                f"a clip of {self.num_frames} frames of {self.size[0]}x{self.size[1]} has more than "
                f"{MOST_CLIP_PIXELS} pixels"
            )

    @property
    def input_name(self) -> InputName:
        """What a graph calls the clips of this layout."""
        return next(name for name, layout in LAYOUTS.items() if layout == self.layout)

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of every clip, or None where it depends on the video (no crop, one edge fixed)."""
        if self.crop is not None:
            return self.crop
        if isinstance(self.resize, ExactSize):
            return self.resize.height, self.resize.width
        return None

    @property
    def value_range(self) -> tuple[float, float]:
        """The values that black and white become: the lowest and the highest of the three channels."""
        mean, std = self.mean or (0.0, 0.0, 0.0), self.std or (1.0, 1.0, 1.0)
        black, white = self.rescale_offset, 255 * self.rescale_factor + self.rescale_offset
        channels = list(zip(mean, std, strict=True))
        return min((black - m) / s for m, s in channels), max((white - m) / s for m, s in channels)

    def notes(self) -> tuple[str, ...]:
        """What is unusual about this contract and followed all the same: worth saying once."""
        notes = []
        if self.rescale_offset and self.mean is not None:
            inner = dataclasses.replace(self, mean=None, std=None).value_range
            notes.append(
                f"pixels are centred twice, as published: rescaling gives {_interval(inner)}, "
                f"then mean and std give {_interval(self.value_range)}"
            )
        if self.rescale_factor == 1 and self.mean is None:
            notes.append(f"pixels are not rescaled: the model gets {_interval(self.value_range)}")
        if self.crop is not None and self.resize is not None:
            least = dataclasses.astuple(self.resize)  # (edge,) or (height, width)
            if self.crop[0] > least[0] or self.crop[1] > least[-1]:
                notes.append(
                    f"the crop of {self.crop[0]}x{self.crop[1]} can be larger than the resized frame; "
                    "what is missing is black"
                )
        return tuple(notes)


# --- Checks ---


def _check_positive(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST:
        bound = f", and at most {MOST}" if isinstance(value, int) and value > MOST else ""
        raise ValueError(f"{name} must be a whole number above 0{bound}, got {value!r}")


def _check_finite(name: str, value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _check_length(name: str, value: Any, length: int) -> None:
    if not isinstance(value, tuple) or len(value) != length:
        raise ValueError(f"{name} must be a tuple of {length}, got {value!r}")


def _interval(ends: tuple[float, float]) -> str:
    return f"[{ends[0]:.4g}, {ends[1]:.4g}]"
