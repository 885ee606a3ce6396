"""What config.json says of a V-JEPA 2 (Assran et al. 2025, arXiv:2506.09985), and of what it must not say more."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from ...preprocess.errors import CheckpointError
from ...runtime.bundle.bundle import Task
from ...runtime.tokens import Grid
from .config import MOST_TOKENS, TransformerConfig

# Keys of config.json that shape nothing here: what training needs, what the predictor is, and what transformers writes
# for any model.
_SHAPELESS = frozenset(
    {
        *("initializer_range", "drop_path_rate", "pred_hidden_size", "pred_num_attention_heads"),
        *("pred_num_hidden_layers", "pred_num_mask_tokens", "pred_zero_init_mask_tokens", "pred_mlp_ratio"),
        *("_attn_implementation_autoset", "_name_or_path", "architectures", "auto_map", "chunk_size_feed_forward"),
        *("dtype", "finetuning_task", "id2label", "is_encoder_decoder", "label2id", "model_type", "num_labels"),
        *("output_attentions", "output_hidden_states", "problem_type", "return_dict", "tie_word_embeddings"),
        *("torch_dtype", "torchscript", "transformers_version", "use_cache"),
    }
)
# Fields that a caller sets and no config.json has.
_OF_CALLERS = frozenset({"num_pooler_heads", "joined_clips", "probe_layers"})
# What V-JEPA 2.1 adds, and the values that mean none of it.
_OF_2_1: dict[str, Any] = {
    "use_rope_interleave": False,
    "use_modality_embeddings": False,
    "interpolate_rope": False,
    "use_context_projection": False,
    "use_image_patch_embedder": False,
    "teacher_embed_dim": None,
    "num_distillation_outputs": 1,
    "hierarchical_layers": None,
}


@dataclass(frozen=True, kw_only=True)
class VJEPA2Config(TransformerConfig):
    """Defaults are those of transformers, the ViT-L that was pretrained at 256 pixels.

    patch_size:         height and width of a tubelet
    tubelet_size:       frames of a tubelet
    intermediate_size:  hidden_size * mlp_ratio of config.json, rounded down
    attention_dropout:  of the pooler
    num_pooler_layers:  self-attention layers of the pooler, before the one of its query
    num_pooler_heads:   heads of the pooler; None stands for num_attention_heads, as in transformers
    joined_clips:       how many clips make up the num_frames; the encoder sees each by itself, the pooler all of them
    probe_layers:       whose tokens the pooler reads, each behind the other, the first layer being 0; the last alone
                        where there are none
    """

    tubelet_fields: ClassVar[tuple[str, ...]] = ("tubelet_size", "patch_size")
    further_layers: ClassVar[Mapping[Task, tuple[str, ...]]] = {"video-classification": ("num_pooler_layers",)}
    most_tokens: ClassVar[int] = 4 * MOST_TOKENS  # of several clips, which no layer but the pooler's compares
    hub_names: ClassVar[Mapping[str, str]] = {
        "image_size": "crop_size",
        "num_frames": "frames_per_clip",
        "num_channels": "in_chans",
    }

    image_size: tuple[int, int] = (256, 256)
    num_frames: int = 64
    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    patch_size: int = 16
    tubelet_size: int = 2
    attention_dropout: float = 0.0
    num_pooler_layers: int = 3
    num_pooler_heads: int | None = None
    joined_clips: int = 1
    probe_layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size % self.pooler_heads:
            raise CheckpointError(
                f"hidden_size must be a multiple of the pooler's heads, got {self.hidden_size} and {self.pooler_heads}"
            )
        if self.num_frames % (self.joined_clips * self.tubelet_size) and self.joined_clips > 1:
            raise CheckpointError(
                f"clips that are joined must be whole tubelets of {self.tubelet_size} frames, got {self.joined_clips} "
                f"in {self.num_frames} frames",
                fix="choose --num-frames, which is of each clip",
            )

        if any(layer >= self.num_hidden_layers for layer in self.probe_layers):
            raise CheckpointError(
                f"probe_layers must be below num_hidden_layers, which is {self.num_hidden_layers}, got "
                f"{', '.join(map(str, self.probe_layers))}",
                fix="count the layers from 0 on",
            )

    @property
    def tubelet(self) -> tuple[int, int, int]:
        return self.tubelet_size, self.patch_size, self.patch_size

    @property
    def clip_grid(self) -> Grid:
        """The grid of each of the clips that are joined."""
        return self.grid._replace(slices=self.grid.slices // self.joined_clips)

    @property
    def pooler_heads(self) -> int:
        return self.num_pooler_heads or self.num_attention_heads

    def large_weights(self, task: Task) -> Iterator[tuple[tuple[str, ...], int]]:
        yield from super().large_weights(task)
        if task == "video-classification":
            yield ("hidden_size",), 4 * self.hidden_size**2  # an MLP of the pooler

    @classmethod
    def from_hub(cls, config: Mapping[str, Any]) -> Self:
        """Read it as for any family. A key that is not known is an error here: it may mean another model."""
        _require_2_0(config)
        config = dict(config)
        size = config.pop("image_size", None)  # earlier versions of transformers wrote crop_size once more
        if size not in (None, config.get("crop_size", 256)):
            raise CheckpointError(f"config.json says crop_size {config.get('crop_size', 256)} and image_size {size}")
        if "crop_size" in config:
            config["crop_size"] = _pair(config["crop_size"])
        width, ratio = config.get("hidden_size", cls.hidden_size), config.pop("mlp_ratio", 4.0)
        if not all(isinstance(value, int | float) and 0 < value <= 1e6 for value in (width, ratio)):
            raise CheckpointError(f"hidden_size and mlp_ratio must be numbers above 0, got {width!r} and {ratio!r}")
        return super().from_hub(config | {"intermediate_size": int(width * ratio)})


def _pair(side: Any) -> Any:
    """(height, width) of one number; anything else as it is."""
    return (side, side) if isinstance(side, int) else side


def _require_2_0(config: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a config.json that says more than one of V-JEPA 2 can."""
    later = [key for key, plain in _OF_2_1.items() if config.get(key, plain) != plain]
    if later:
        raise CheckpointError(
            f"config.json has {', '.join(f'{key} {config[key]!r}' for key in later)}: this is V-JEPA 2.1 or later, "
            "whose positions are another function, and V-JEPA 2 is supported",
            fix="take a checkpoint of V-JEPA 2, such as facebook/vjepa2-vitl-fpc16-256-ssv2",
        )
    fields = {VJEPA2Config.hub_name(name) for name in VJEPA2Config.__dataclass_fields__} - _OF_CALLERS
    unknown = sorted(config.keys() - fields - {"image_size", "mlp_ratio"} - _SHAPELESS - _OF_2_1.keys())
    if unknown:
        raise CheckpointError(
            f"config.json has {', '.join(unknown)}, which V-JEPA 2 of transformers 5 does not: with what it means, the "
            "same weights may be another model",
            fix="take it out of config.json where it changes nothing of what the model computes",
        )
