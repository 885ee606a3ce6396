"""What a caller may set against the checkpoint's files: clips of another size, other heads, other pixels.

To run a model on another size than it was trained for is an extension of tubelet's. No published evaluation says how
good it is. What changes with the size is here; how learned positions follow it is in families/positions.py.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from ...preprocess.errors import CheckpointError, OutOfBounds
from ...preprocess.spec import Arithmetic, ClipSpec, ExactSize, ShortestEdge
from ...runtime.bounds import IMAGE_SIDE, NUM_FRAMES, check_choice, shown
from ...runtime.bundle.bundle import Task
from ...runtime.bundle.typed import typed
from ..families.config import TransformerConfig
from ..families.family import Family

Positions = Literal["recomputed", "interpolated"]


@dataclass(frozen=True)
class Overrides:
    """None stands for what the checkpoint's files say.

    image_size:  (height, width) in pixels
    positions:   at another size: interpolated from those of the training, or recomputed, as transformers does for a
                 VideoMAE of that size. None interpolates. Where nothing says the size of the
                 training, the size given is taken for it, unless this is "interpolated"
    joined_clips: how many clips make one, whose tokens the pooler of a V-JEPA 2 reads together
    probe:       the .pt file of a head that the authors publish apart, which takes the place of the checkpoint's own
    probe_layers: of the encoder, whose tokens that head reads, the first layer being 0
    pixels:      whose arithmetic clips are prepared with. None is what the checkpoint's processor computes with

    Raises OutOfBounds for a size that no model is of, and for what is no choice.
    """

    image_size: tuple[int, int] | None = None
    num_frames: int | None = None
    num_attention_heads: int | None = None
    num_pooler_heads: int | None = None
    joined_clips: int | None = None
    probe: str | None = None
    probe_layers: tuple[int, ...] | None = None
    positions: Positions | None = None
    pixels: Arithmetic | None = None

    def __post_init__(self) -> None:
        if self.image_size is not None:
            if not (isinstance(self.image_size, tuple) and len(self.image_size) == 2):
                raise OutOfBounds(f"image_size must be (height, width), got {shown(self.image_size)}")
            for side in self.image_size:
                IMAGE_SIDE.check(side)
        if self.num_frames is not None:
            NUM_FRAMES.check(self.num_frames)
        for name, choices in (("positions", Positions), ("pixels", Arithmetic)):
            if getattr(self, name) is not None:
                check_choice(name, getattr(self, name), get_args(choices))

    def to_json(self) -> dict[str, Any]:
        """Those that are set, as `json.dumps` takes them."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `to_json` gave. Raises BundleError for what it cannot have given."""
        return typed(dataclasses.asdict(cls()) | dict(values), cls, "overrides")


AS_PUBLISHED = Overrides()

# Those that are for a pooler, and the options that set them.
_OF_POOLER = {
    "num_pooler_heads": "--pooler-heads",
    "joined_clips": "--joined-clips",
    "probe_layers": "--probe-layers",
}


def apply_overrides(family: Family, native: TransformerConfig, overrides: Overrides) -> TransformerConfig:
    """`native`, which is what config.json says, with the overrides in their places.

    Raises CheckpointError for a size that its tubelets do not divide, naming the nearest that they do. Likewise for a
    number of heads that does not divide hidden_size, and for positions that the family cannot have.
    """
    if family.resize_stored is not None and overrides.positions == "recomputed":
        raise CheckpointError(
            f"{family.title}'s positions are learned, so they cannot be recomputed",
            fix="leave --positions away: interpolated",
        )
    for name, option in _OF_POOLER.items():
        if getattr(overrides, name) is not None and not hasattr(native, name):
            raise CheckpointError(f"{family.title} has no pooler with a query", fix=f"leave {option} away")
    wanted = {name: value for name, value in overrides.to_json().items() if value != getattr(native, name, value)}
    sizes = Overrides(wanted.get("image_size"), wanted.get("num_frames"))
    check_sizes(sizes, native.tubelet)  # a size that stays may leave something over, as it did in training
    wanted.pop("probe", None)
    if overrides.joined_clips is not None:
        wanted["num_frames"] = overrides.joined_clips * wanted.get("num_frames", native.num_frames)
    return dataclasses.replace(native, **wanted)


def check_sizes(overrides: Overrides, tubelet: tuple[int, int, int]) -> None:
    """Raise CheckpointError for a size among the overrides that a tubelet (frames, height, width) does not divide."""
    if overrides.num_frames is not None:
        _check_divides("num_frames", (overrides.num_frames,), tubelet[:1])
    if overrides.image_size is not None:
        _check_divides("image_size", overrides.image_size, tubelet[1:])


def _check_divides(name: str, size: tuple[int, ...], tubelet: tuple[int, ...]) -> None:
    """Raise CheckpointError where the sides of a tubelet do not divide those of the clip."""
    if all(side % step == 0 for side, step in zip(size, tubelet, strict=True)):
        return
    below = tuple(max(side // step, 1) * step for side, step in zip(size, tubelet, strict=True))
    above = tuple(-(-side // step) * step for side, step in zip(size, tubelet, strict=True))
    nearest = [_times(below)] if below == above else [_times(below), _times(above)]
    raise CheckpointError(
        f"{name} must be a multiple of {_times(tubelet)}, which is what a tubelet takes, got {_times(size)}",
        fix=f"--{name.replace('_', '-')} {' or '.join(nearest)}",
    )


def are_recomputed(family: Family, overrides: Overrides) -> bool:
    """Whether a model of another size has positions computed for that size, and not those of its training."""
    computed_only = family.resize_stored is None and family.resize_computed is None
    return computed_only or overrides.positions == "recomputed"


def override_notes(
    family: Family, native: TransformerConfig, config: TransformerConfig, overrides: Overrides, task: Task
) -> tuple[str, ...]:
    """What a user of the bundle should know about `config`, which the overrides made of `native`, the config.json."""
    notes = []
    joined = overrides.joined_clips or 1
    if joined > 1:
        notes.append(
            f"a clip is {joined} clips of {config.num_frames // joined} frames, whose tokens the pooler reads "
            "together, as in the published evaluation"
        )
    if family.counts_frames and config.image_size == native.image_size:
        if config.num_frames // joined != native.num_frames:
            notes.append(
                f"clips are {_clip(config, joined)}, the checkpoint's are {_clip(native)}; their positions in time are "
                "counted on"
            )
    elif (config.num_frames // joined, config.image_size) != (native.num_frames, native.image_size):
        positions = "recomputed" if are_recomputed(family, overrides) else "interpolated"
        notes.append(
            f"an extension that no published evaluation covers: clips are {_clip(config, joined)}, the checkpoint's "
            f"are {_clip(native)}; its positions are {positions}"
        )
    if config.num_attention_heads != native.num_attention_heads:
        notes.append(
            f"num_attention_heads is {config.num_attention_heads}, as asked for; config.json says "
            f"{native.num_attention_heads}"
        )
    if overrides.num_pooler_heads is not None:
        notes.append(
            f"the pooler has {overrides.num_pooler_heads} heads, as asked for; transformers gives it the encoder's "
            f"{config.num_attention_heads}"
        )
    if overrides.probe_layers not in (None, (config.num_hidden_layers - 1,)):
        layers = ", ".join(map(str, overrides.probe_layers or ()))
        notes.append(
            f"the pooler reads the tokens of layers {layers}, counted from 0; that of transformers reads the last alone"
        )
    if config.num_attention_heads == native.num_attention_heads and (note := family.note(config, task)) is not None:
        notes.append(note)
    return tuple(notes)


def _clip(config: TransformerConfig, joined: int = 1) -> str:
    return f"{config.num_frames // joined} frames of {_times(config.image_size)}"


def _times(sides: tuple[int, ...]) -> str:
    """height x width, or the one number of equal sides."""
    return str(sides[0]) if len(set(sides)) == 1 else "x".join(map(str, sides))


def at_size(spec: ClipSpec, size: tuple[int, int]) -> ClipSpec:
    """The contract for clips of another size, (height, width), that show as much of a frame as before.

    The crop becomes `size`. The resize before it grows by the same factor, to the nearest whole number. A short side
    of 256 for a crop of 224 becomes one of 329 for 288. Where height and width do not grow alike, a short side follows
    the shorter of the two.
    """
    native = spec.size
    if native is None or native == size:
        return spec
    resize = spec.resize
    if isinstance(resize, ShortestEdge):
        resize = ShortestEdge(_scaled(resize.edge, min(size), min(native)))
    elif resize is not None:
        resize = ExactSize(_scaled(resize.height, size[0], native[0]), _scaled(resize.width, size[1], native[1]))
    return dataclasses.replace(spec, resize=resize, crop=None if spec.crop is None else size)


def _scaled(side: int, numerator: int, denominator: int) -> int:
    """side * numerator / denominator, to the nearest whole number, halves up."""
    return (2 * side * numerator + denominator) // (2 * denominator)
