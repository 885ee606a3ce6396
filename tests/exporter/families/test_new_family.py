"""A new family of models: the one file that it takes, which is this one down to FAMILY, and the one line."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from tubelet.exporter.checkpoint.load import Checkpoint, load_checkpoint
from tubelet.exporter.checkpoint.overrides import Overrides
from tubelet.exporter.export import export_bundle
from tubelet.exporter.families import registry
from tubelet.exporter.families.config import TransformerConfig
from tubelet.exporter.families.family import COMMON_DEFAULTS, Family, Processor, Weights
from tubelet.exporter.families.model import Model
from tubelet.exporter.families.transformer import Encoder, TubeletEmbeddings
from tubelet.preprocess.errors import CheckpointError
from tubelet.preprocess.spec import Evaluation, Sampling, ShortestEdge
from tubelet.runtime.bundle.bundle import Readout
from tubelet.runtime.load import load

# What a family writes: a config, modules, and what is particular about them. This one has query, key and value in one
# matrix, positions in a table for time and one for space, and names of its own for weights in memory.


@dataclass(frozen=True, kw_only=True)
class ToyConfig(TransformerConfig):
    tubelet_fields: ClassVar[tuple[str, ...]] = ("patch",)

    patch: int = 8

    @property
    def tubelet(self) -> tuple[int, int, int]:
        return 1, self.patch, self.patch


class ToyProjections(nn.Module):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=config.qkv_bias)

    def forward(self, asking: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query = self.qkv(asking).chunk(3, dim=-1)[0]  # (B, M, 3 * D) -> (B, M, D)
        _, key, value = self.qkv(tokens).chunk(3, dim=-1)  # (B, N, 3 * D) -> 3 x (B, N, D)
        return query, key, value


class ToyModel(Model):
    config: ToyConfig

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        frames, height, width = config.grid
        self.patch_embeddings = TubeletEmbeddings(config)
        self.time = nn.Parameter(torch.zeros(1, frames, config.hidden_size))
        self.space = nn.Parameter(torch.zeros(1, height * width, config.hidden_size))
        self.encoder = Encoder(config, partial(ToyProjections, config))

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("last_hidden_state",)

    @property
    def readout(self) -> Readout:
        return "mean"

    def forward(self, pixel_values: Tensor) -> Tensor:
        return cast(Tensor, self.encoder(self._embed(pixel_values)))

    def outputs(self, pixel_values: Tensor) -> dict[str, Tensor]:
        states = self.encoder.states(self._embed(pixel_values))
        return {"last_hidden_state": states.hidden_states[-1], **states.named()}

    def _embed(self, pixel_values: Tensor) -> Tensor:
        positions = self.time[:, :, None] + self.space[:, None]  # (1, T', 1, D) + (1, 1, H' * W', D)
        rows = positions.flatten(1, 2)  # (1, T', H' * W', D) -> (1, N, D)
        return cast(Tensor, self.patch_embeddings(pixel_values) + rows)


class ToyForVideoClassification(Model):
    config: ToyConfig

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.toy = ToyModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    @property
    def readout(self) -> Readout:
        return "mean"

    def forward(self, pixel_values: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(self.toy(pixel_values).mean(1)))  # (B, N, D) -> (B, D) -> (B, K)

    def outputs(self, pixel_values: Tensor) -> dict[str, Tensor]:
        encoded = self.toy.outputs(pixel_values)
        return {"logits": self.classifier(encoded.pop("last_hidden_state").mean(1)), **encoded}


def stored_name(name: str) -> str:
    return name.replace(".attn.", ".attention.attention.")


def evaluation(config: TransformerConfig) -> Evaluation:
    return Evaluation(Sampling("uniform", stride=config.num_frames), crop_rounding="up", averages="logits")


def longer(weights: Weights, native: TransformerConfig, config: TransformerConfig) -> dict[str, Tensor]:
    """Positions in time for another number of frames: the nearest."""
    assert native.image_size == config.image_size
    (name,) = (name for name in weights if name.endswith("time"))
    table = F.interpolate(weights[name].transpose(1, 2), size=config.num_frames).transpose(1, 2)  # (1, T', D)
    return {**weights, name: table}


FAMILY = Family(
    name="toy",
    title="Toy",
    config=ToyConfig,
    classes={"video-classification": ToyForVideoClassification, "feature-extraction": ToyModel},
    processor=Processor(stem="Toy", defaults=COMMON_DEFAULTS | {"size": {"shortest_edge": 40}}),
    evaluation=evaluation,
    heads={"video-classification": ("classifier.",)},
    stored_name=stored_name,
    resize_stored=longer,
)


# And that is all.

SETTINGS: dict[str, Any] = {
    "model_type": "toy",
    "architectures": ["ToyForVideoClassification"],
    "image_size": 32,
    "num_frames": 4,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "id2label": {"0": "rolling", "1": "sliding", "2": "falling"},
}


def write_toy(folder: Path) -> Path:
    """A checkpoint of random weights under the names that they have in memory; its processor names no class."""
    torch.manual_seed(0)
    model = ToyForVideoClassification(ToyConfig.from_hub(SETTINGS))
    nn.init.normal_(model.toy.time)
    nn.init.normal_(model.toy.space)
    held = {name.replace(".attention.attention.", ".attn."): value for name, value in model.state_dict().items()}
    assert held.keys() != model.state_dict().keys()
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(SETTINGS))
    (folder / "preprocessor_config.json").write_text(json.dumps({"crop_size": {"height": 32, "width": 32}}))
    save_file(held, folder / "model.safetensors")
    return folder


def opened(folder: Path, **options: Any) -> Checkpoint:
    return load_checkpoint(str(folder), report=lambda _: None, **options)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of the family, which is registered."""
    monkeypatch.setattr(registry, "FAMILIES", (*registry.FAMILIES, FAMILY))
    return write_toy(tmp_path / "toy")


def answers(checkpoint: Checkpoint, batch: Any) -> Tensor:
    with torch.inference_mode():
        return cast(Tensor, checkpoint.model(torch.from_numpy(batch)))


def test_it_is_exported_proven_and_classifies(toy: Path, video: Path, tmp_path: Path) -> None:
    checkpoint = opened(toy)
    bundle, report = export_bundle(checkpoint, tmp_path / "bundle")
    assert report.passed
    assert (bundle.architecture, bundle.readout) == ("ToyForVideoClassification", "mean")
    assert bundle.spec.resize == ShortestEdge(40)
    with load(bundle.path) as model:
        assert model.spec.evaluation == Evaluation(Sampling("uniform", 4), crop_rounding="up", averages="logits")
        predictions: Mapping[str, float] = dict(model.classify(video, top_k=3))
        batch = model.prepare(model.read(video))
    scores = answers(checkpoint, batch).softmax(-1)[0].tolist()
    assert predictions == pytest.approx(dict(zip(("rolling", "sliding", "falling"), scores, strict=True)), abs=1e-5)


def test_its_encoder_gives_features(toy: Path, video: Path, tmp_path: Path) -> None:
    checkpoint = opened(toy, task="feature-extraction")
    bundle, _ = export_bundle(checkpoint, tmp_path / "bundle")
    with load(bundle.path, task="feature-extraction") as model:
        found, batch = model.features(video)["last_hidden_state"], model.prepare(model.read(video))
    assert found == pytest.approx(answers(checkpoint, batch).numpy(), abs=1e-5)
    assert found.shape == (1, 4 * 16, 32)


def test_its_positions_follow_another_size_as_it_says(toy: Path) -> None:
    native, longer = opened(toy), opened(toy, overrides=Overrides(num_frames=8))
    time = native.model.state_dict()["toy.time"]
    assert torch.equal(longer.model.state_dict()["toy.time"], time.repeat_interleave(2, dim=1))
    assert longer.notes[0].endswith("its positions are interpolated")
    with pytest.raises(CheckpointError, match="Toy's positions are learned"):
        opened(toy, overrides=Overrides(num_frames=8, positions="recomputed"))
    with pytest.raises(
        CheckpointError, match=r"toy is for .* and feature-extraction: there is no masked-modeling of it"
    ):
        opened(toy, task="masked-modeling")


def test_without_the_line_it_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model_type 'toy' .* is not supported; supported are vivit .*videomae"):
        opened(write_toy(tmp_path / "toy"))
