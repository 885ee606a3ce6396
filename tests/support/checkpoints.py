"""Small seeded checkpoints in the layout of the Hub: config.json, preprocessor_config.json, weights."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from tubelet.exporter.families.config import TransformerConfig
from tubelet.exporter.families.family import Family
from tubelet.exporter.families.model import Model
from tubelet.exporter.families.registry import FAMILIES, family_named
from tubelet.exporter.families.vjepa2_config import VJEPA2Config
from tubelet.preprocess.spec import Evaluation
from tubelet.runtime.bundle.bundle import Task

WeightsForm = Literal["safetensors", "safetensors-sharded", "bin", "bin-sharded"]

_SIZE: dict[str, Any] = {
    "image_size": (32, 32),
    "num_frames": 4,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "num_labels": 5,
}
TINY: dict[str, dict[str, Any]] = {
    "vivit": {**_SIZE, "tubelet_size": (2, 16, 16)},
    "videomae": {**_SIZE, "tubelet_size": 2, "patch_size": (8, 8)},
    # heads of 12 channels: 4 each for time, row and column
    "vjepa2": {
        **_SIZE,
        "tubelet_size": 2,
        "patch_size": 8,
        "hidden_size": 24,
        "num_attention_heads": 2,
        "num_pooler_layers": 2,
    },
    "timesformer": {**_SIZE, "patch_size": (8, 8)},
}

# preprocessor_config.json of google/vivit-b-16x2-kinetics400 and of MCG-NJU/videomae-base-finetuned-kinetics, and
# video_preprocessor_config.json of facebook/vjepa2-vitl-fpc16-256-ssv2, but for the sizes.
_PROCESSOR: dict[str, dict[str, Any]] = {
    "vivit": {
        "do_center_crop": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "VivitImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "offset": True,
        "resample": 2,
        "rescale_factor": 1 / 127.5,
    },
    "videomae": {
        "do_center_crop": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "VideoMAEImageProcessor",
        "image_std": [0.229, 0.224, 0.225],
        "resample": 2,
        "rescale_factor": 1 / 255,
    },
    "vjepa2": {
        "do_center_crop": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "resample": 2,
        "rescale_factor": 1 / 255,
        "video_processor_type": "VJEPA2VideoProcessor",
    },
    "timesformer": {
        "do_center_crop": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.45, 0.45, 0.45],
        "image_processor_type": "VideoMAEImageProcessor",
        "image_std": [0.225, 0.225, 0.225],
        "resample": 2,
        "rescale_factor": 1 / 255,
    },
}

Config = TransformerConfig


def tiny_config(family: str, **changes: Any) -> Config:
    """A config of the family that computes in milliseconds, with some fields changed."""
    return family_named(family).config(**{**TINY[family], **changes})


def published_evaluation(family: str, num_labels: int) -> Evaluation:
    """How the published evaluation of a family looks at a file, for a model of so many labels."""
    named = family_named(family)
    return named.evaluation(named.config(num_labels=num_labels))


def family_with(config: Config) -> Family:
    """The family whose config that is."""
    return next(family for family in FAMILIES if isinstance(config, family.config))


def hub_config(config: Config) -> dict[str, Any]:
    """The config.json that the Hub would hold for `config`, without id2label."""
    values: dict[str, Any] = dataclasses.asdict(config)
    del values["num_labels"]
    for name in ("image_size", "patch_size"):
        if isinstance(values.get(name), tuple) and values[name][0] == values[name][1]:
            values[name] = values[name][0]
    values = {config.hub_name(name): value for name, value in values.items()}
    if isinstance(config, VJEPA2Config):
        values["mlp_ratio"] = values.pop("intermediate_size") / config.hidden_size
        for name in ("hidden_dropout_prob", "num_pooler_heads", "joined_clips", "probe_layers"):  # which it has not
            del values[name]
    family = family_with(config)
    return {
        "architectures": [family.architecture("video-classification")],
        "initializer_range": 0.02,
        "model_type": family.name,
        "torch_dtype": "float32",
        "transformers_version": "4.33.0",
        **values,
    }


def build(config: Config, task: Task = "video-classification", *, pooler: bool = False) -> Model:
    """The module of a task; pooler: whether an encoder has one."""
    names = ("pooler.dense.weight", "fc_norm.weight") if pooler else ()
    return family_with(config).class_of(task).of_weights(config, names)


def seeded_weights(
    config: Config, *, seed: int = 0, task: Task = "video-classification", pooler: bool = False
) -> dict[str, Tensor]:
    """Weights under their names on the Hub, large enough that every one of them shows in the logits."""
    with torch.device("meta"):
        model = build(config, task, pooler=pooler)
        shapes = {name: value.shape for name, value in model.state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            weights[name] = 1 + 0.1 * noise
        elif name.endswith("weight"):
            weights[name] = noise / math.sqrt(math.prod(shape[1:]))
        else:  # biases, the class token, positions
            weights[name] = 0.2 * noise
    return weights


def write_weights(folder: Path, weights: Mapping[str, Tensor], form: WeightsForm = "safetensors") -> None:
    """The files of one form. Sharded: two shards and an index."""
    safe = form.startswith("safetensors")
    save = save_file if safe else torch.save
    stem, suffix = ("model", "safetensors") if safe else ("pytorch_model", "bin")
    if not form.endswith("-sharded"):
        save(dict(weights), folder / f"{stem}.{suffix}")
        return
    keys = sorted(weights)
    weight_map: dict[str, str] = {}
    for number, part in enumerate((keys[::2], keys[1::2]), start=1):
        shard = f"{stem}-0000{number}-of-00002.{suffix}"
        save({key: weights[key] for key in part}, folder / shard)
        weight_map |= dict.fromkeys(part, shard)
    index = {"metadata": {"total_size": sum(w.nbytes for w in weights.values())}, "weight_map": weight_map}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index, indent=2))


def write_checkpoint(
    folder: Path,
    family: str,
    *,
    seed: int = 0,
    weights: WeightsForm = "safetensors",
    dtype: torch.dtype = torch.float32,
    labels: Sequence[str] | None = None,
    extra: Mapping[str, Any] | None = None,
    processor: Mapping[str, Any] | None = None,
    task: Task = "video-classification",
    pooler: bool = False,
    **changes: Any,
) -> Path:
    """Writes a checkpoint of random weights into `folder`, which may not exist yet, and returns it.

    labels:     names by index; "activity 0", "activity 1" and so on where none are given
    extra:      keys to add to config.json or to replace there
    processor:  keys to add to preprocessor_config.json or to replace there
    task:       what the checkpoint is of; pooler: whether a bare ViViT has one
    changes:    fields of the config that differ from the family's tiny one
    """
    config = tiny_config(family, **changes)
    names = labels if labels is not None else [f"activity {index}" for index in range(config.num_labels)]
    id2label = {str(index): name for index, name in enumerate(names)}
    label2id = {name: index for index, name in enumerate(names)}
    settings = {**hub_config(config), "id2label": id2label, "label2id": label2id}
    settings |= {"architectures": [family_named(family).architecture(task)], **(extra or {})}
    height, width = config.image_size
    sizes = {
        "size": {"shortest_edge": min(height, width)},
        "crop_size": {"height": height, "width": width},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings, indent=2))
    named = "video_preprocessor_config.json" if family == "vjepa2" else "preprocessor_config.json"
    (folder / named).write_text(json.dumps({**_PROCESSOR[family], **sizes, **(processor or {})}, indent=2))
    tensors = {
        name: value.to(dtype) for name, value in seeded_weights(config, seed=seed, task=task, pooler=pooler).items()
    }
    write_weights(folder, tensors, weights)
    return folder


class Hostile:
    """Pickled, it stands for a call of os.mkdir."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)
