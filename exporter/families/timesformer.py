"""TimeSformer (Bertasius et al. 2021, arXiv:2102.05095): the classifier, and the family.

The published weights are facebook/timesformer-*; names and numbers follow `TimesformerModel` and
`TimesformerForVideoClassification` of transformers. The encoder is in timesformer_encoder.py.
"""

from dataclasses import replace
from typing import cast

from torch import Tensor, nn

from ...preprocess.spec import IMAGENET_MEAN, IMAGENET_STD, Evaluation, Sampling
from ...runtime.bundle.bundle import Readout, Task, TokenOrder
from ...runtime.tokens import Grid
from .config import TransformerConfig
from .family import COMMON_DEFAULTS, Family, Processor, Weights
from .model import Model
from .positions import interpolate_positions
from .timesformer_config import TimesformerConfig
from .timesformer_encoder import TimesformerModel
from .videomae import FAMILY as VIDEOMAE


class TimesformerForVideoClassification(Model):
    """TimeSformer with a linear classifier on the class token."""

    config: TimesformerConfig
    unmerged_because = (
        "attention over time and over space needs every token of a place and of a frame (and joint attention, which no "
        "published TimeSformer has, is left as it is)"
    )

    def __init__(self, config: TimesformerConfig) -> None:
        super().__init__(config)
        self.timesformer = TimesformerModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    @property
    def readout(self) -> Readout:
        return "class-token"

    @property
    def token_order(self) -> TokenOrder:
        return self.timesformer.token_order

    @property
    def attention_names(self) -> tuple[str, ...]:
        return self.timesformer.attention_names

    def fold(self) -> None:
        self.timesformer.fold()

    def forward(self, pixel_values: Tensor) -> Tensor:
        """float32 (B, T, C, H, W), normalised, to logits float32 (B, K).

        Raises ValueError for any other shape.
        """
        tokens = self.timesformer(pixel_values, first_only=not self.training)  # (B, 1, D), or (B, 1 + N, D)
        return cast(Tensor, self.classifier(tokens[:, 0]))  # (B, D) -> (B, K)

    def outputs(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """logits (B, K), and the encoder's `States`."""
        encoded = self.timesformer.outputs(pixel_values)
        return {"logits": self.classifier(encoded.pop("last_hidden_state")[:, 0]), **encoded}


# The frames between two of a clip in the published evaluations, by the frames of a clip.
_STRIDES = {8: 32, 16: 16, 96: 4}
SOMETHING_SOMETHING_V2_LABELS = 174


def published_evaluation(config: TransformerConfig) -> Evaluation:
    """One clip from the first frame on. Crops are rounded up, and the logits of views averaged.

    On Kinetics the clip spans 256 frames, or 384 where it has 96. On Something-Something v2 it looks at the whole file.
    So it does here where no published model has as many frames: their rate is not known. Configurations do not name the
    data set, but 174 labels are the latter. Source: facebookresearch/TimeSformer, datasets/decoder.py, kinetics.py and
    ssv2.py, and TEST in configs/. There the span is in frames at 30 a second, and a file at another rate is sampled by
    time.
    """
    stride = _STRIDES.get(config.num_frames)
    if stride is None or config.num_labels == SOMETHING_SOMETHING_V2_LABELS:
        return Evaluation(Sampling("segment-middles", stride=1), crop_rounding="up", averages="logits")
    return Evaluation(Sampling("start-span", stride), crop_rounding="up", averages="logits")


def shown_by_weights(config: TransformerConfig, weights: Weights) -> TransformerConfig:
    """The config with as many frames as there are positions in time. config.json of
    facebook/timesformer-large-finetuned-ssv2 has another number: the script that converted the large ones wrote 96, and
    this one has 64."""
    tables = [table for name, table in weights.items() if name.endswith("embeddings.time_embeddings")]
    if not tables or tables[0].ndim != 3:
        return config
    return replace(config, num_frames=tables[0].shape[1])


def resize_tables(weights: Weights, native: TransformerConfig, config: TransformerConfig) -> dict[str, Tensor]:
    """The weights of a model of `native`, float32, for one of `config`. Positions in space and in time are interpolated
    as `interpolate_positions` does."""
    grids = {
        "position_embeddings": (Grid(1, *native.grid[1:]), Grid(1, *config.grid[1:])),
        "time_embeddings": (Grid(native.num_frames, 1, 1), Grid(config.num_frames, 1, 1)),
    }
    return {
        name: interpolate_positions(value, *grids[end]) if (end := name.rpartition(".")[2]) in grids else value
        for name, value in weights.items()
    }


def note_on_frames(config: TransformerConfig, task: Task) -> str | None:
    """Say what is unusual about a model of single frames, and where no rate of frames is published."""
    notes = []
    if cast(TimesformerConfig, config).attention_type == "space_only":
        notes.append(
            "tokens are averaged over frames behind the last layer, as in the original; transformers leaves that out "
            "and answers for each frame"
        )
    is_published = config.num_frames in _STRIDES or config.num_labels == SOMETHING_SOMETHING_V2_LABELS
    if task == "video-classification" and not is_published:
        notes.append(
            f"no published model has {config.num_frames} frames, so at which rate they were taken is not known: clips "
            "are spread over the whole file"
        )
    return "; ".join(notes) or None


FAMILY = Family(
    name="timesformer",
    title="TimeSformer",
    config=TimesformerConfig,
    classes={"video-classification": TimesformerForVideoClassification, "feature-extraction": TimesformerModel},
    examples={"video-classification": "facebook/timesformer-base-finetuned-k400"},
    processor=VIDEOMAE.processor,
    video_processor=Processor(
        stem="Timesformer",
        defaults=COMMON_DEFAULTS
        | {"size": {"shortest_edge": 224}, "image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD)},
    ),
    evaluation=published_evaluation,
    heads={"video-classification": ("classifier.",)},
    shown=shown_by_weights,
    resize_stored=resize_tables,
    note=note_on_frames,
)
