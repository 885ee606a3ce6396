"""The config of a TimeSformer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Self

from ...preprocess.errors import CheckpointError
from ...runtime.bundle.bundle import Task
from .config import TransformerConfig, height_and_width

# The encoder of each is in timesformer_encoder.py.
ATTENTION_TYPES = ("divided_space_time", "joint_space_time", "space_only")


@dataclass(frozen=True, kw_only=True)
class TimesformerConfig(TransformerConfig):
    """Defaults are TimeSformer-B/8x32 for Kinetics-400.

    patch_size:      (height, width) of a token, which covers one frame
    attention_type:  one of ATTENTION_TYPES
    """

    tubelet_fields: ClassVar[tuple[str, ...]] = ("patch_size",)

    num_frames: int = 8
    patch_size: tuple[int, int] = (16, 16)
    attention_type: str = "divided_space_time"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attention_type not in ATTENTION_TYPES:
            raise CheckpointError(
                f"attention_type {self.attention_type!r} is not supported; supported are {', '.join(ATTENTION_TYPES)}"
            )

    @property
    def tubelet(self) -> tuple[int, int, int]:
        return 1, *self.patch_size

    @property
    def places(self) -> int:
        """P."""
        return prod(self.grid[1:])

    def large_weights(self, task: Task) -> Iterator[tuple[tuple[str, ...], int]]:
        yield from super().large_weights(task)
        yield ("image_size", "hidden_size"), (1 + self.places) * self.hidden_size  # positions, which are stored
        if self.attention_type != "space_only":
            yield ("num_frames", "hidden_size"), self.num_frames * self.hidden_size

    @classmethod
    def from_hub(cls, config: Mapping[str, Any]) -> Self:
        if "patch_size" in config:
            config = {**config, "patch_size": height_and_width(config["patch_size"])}
        return super().from_hub(config)
