"""What the demo models are, and how one is written in the layout of the Hub, with its model card."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from motion import FIRST_FURTHER_SEED, LABELS
from safetensors.torch import save_file
from score_demo import Score, frames_between

from tubelet.exporter.checkpoint.processor import spec_from_hub
from tubelet.exporter.checkpoint.processor_class import choose_arithmetic
from tubelet.exporter.families.config import TransformerConfig
from tubelet.exporter.families.model import Model
from tubelet.exporter.families.registry import family_named
from tubelet.exporter.families.timesformer_config import TimesformerConfig
from tubelet.exporter.families.videomae_encoder import VideoMAEConfig
from tubelet.exporter.families.vivit import VivitConfig
from tubelet.exporter.families.vjepa2_config import VJEPA2Config
from tubelet.preprocess.spec import IMAGENET_MEAN, IMAGENET_STD, ClipSpec

IMAGE, PATCH, TUBELET_FRAMES = 48, 12, 2
SIZE: dict[str, Any] = {
    "image_size": (IMAGE, IMAGE),
    "num_frames": 16,
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 384,
    "num_labels": len(LABELS),
}

CONFIGS: dict[str, TransformerConfig] = {
    "videomae": VideoMAEConfig(**SIZE, tubelet_size=TUBELET_FRAMES, patch_size=(PATCH, PATCH)),
    "vivit": VivitConfig(**SIZE, tubelet_size=(TUBELET_FRAMES, PATCH, PATCH)),
    # A layer of it has two attentions, and each of its tokens one frame: narrower, and of fewer frames.
    "timesformer": TimesformerConfig(
        **SIZE | {"num_frames": 6, "hidden_size": 96, "intermediate_size": 288}, patch_size=(PATCH, PATCH)
    ),
    "vjepa2": VJEPA2Config(  # its pooler has layers too
        **SIZE | {"num_hidden_layers": 3}, tubelet_size=TUBELET_FRAMES, patch_size=PATCH, num_pooler_layers=1
    ),
}

# Pixel values as the families' authors have them, but that ViViT's are centred once only.
_PROCESSOR: dict[str, Any] = {
    "do_resize": True,
    "size": {"shortest_edge": IMAGE},
    "resample": 2,
    "do_center_crop": True,
    "crop_size": {"height": IMAGE, "width": IMAGE},
    "do_rescale": True,
}
PROCESSORS: dict[str, dict[str, Any]] = {
    "videomae": _PROCESSOR
    | {
        "image_processor_type": "VideoMAEImageProcessor",
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
    },
    "timesformer": _PROCESSOR
    | {
        "image_processor_type": "VideoMAEImageProcessor",
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.45] * 3,
        "image_std": [0.225] * 3,
    },
    "vivit": _PROCESSOR
    | {
        "image_processor_type": "VivitImageProcessor",
        "rescale_factor": 1 / 127.5,
        "offset": True,
        "do_normalize": False,
    },
    # Whose class resizes to 256 / 224 of the crop, whatever `size` says.
    "vjepa2": _PROCESSOR
    | {
        "video_processor_type": "VJEPA2VideoProcessor",
        "size": {"shortest_edge": int(IMAGE * 256 / 224)},
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
    },
}


# Fields that a caller of an export sets and no config.json has.
_OF_CALLERS = ("num_pooler_heads", "joined_clips", "probe_layers")

# An empty middle frame, which half of the clips of two labels have, is one of these two; any other says nothing.
BEST_WITHOUT_MOTION = 1.5 / len(LABELS)


@dataclass(frozen=True)
class Training:
    """How a model was trained: batches and clips in each, the time that it took, and the seed of the first clip."""

    steps: int
    batch: int
    minutes: float
    first_seed: int


@dataclass(frozen=True)
class Scores:
    """What a model scores: on clips drawn at its own size, read from H.264 files, and without motion."""

    drawn: Score
    filmed: Score
    single_frame: Score


def build(family: str) -> Model:
    """The model of that family with torch's own random weights."""
    return family_named(family).class_of("video-classification")(CONFIGS[family])


def demo_spec(family: str) -> ClipSpec:
    """The input contract that an export of the checkpoint will find."""
    return spec_from_hub(
        PROCESSORS[family],
        family=family_named(family),
        num_frames=CONFIGS[family].num_frames,
        arithmetic=choose_arithmetic(
            PROCESSORS[family], family=family_named(family), transformers_version=None
        ).arithmetic,
        evaluation=family_named(family).evaluation(CONFIGS[family]),
    )


def hub_config(model: Model, family: str) -> dict[str, Any]:
    """The config.json of the model: its config under the Hub's names, and the labels."""
    config = model.config
    values = asdict(config)
    for name in list(values):
        # The length of id2label says how many labels there are; the others are of models with
        # another head, or of files that are not from the Hub.
        if name in ("num_labels", "norm_pix_loss", "head_norm_eps", *_OF_CALLERS) or name.startswith(
            ("decoder_", "pooler_")
        ):
            del values[name]
    for name in ("image_size", "patch_size"):
        if isinstance(values.get(name), tuple):
            values[name] = values[name][0]
    values = {config.hub_name(name): value for name, value in values.items()}
    if isinstance(config, VJEPA2Config):
        values["mlp_ratio"] = values.pop("intermediate_size") / config.hidden_size
        del values["hidden_dropout_prob"]
    return {
        "architectures": [type(model).__name__],
        "model_type": family,
        "torch_dtype": "float32",
        **values,
        "id2label": {str(index): label for index, label in enumerate(LABELS)},
        "label2id": {label: index for index, label in enumerate(LABELS)},
    }


def write_checkpoint(folder: Path, model: Model, family: str, training: Training, scores: Scores) -> None:
    """Write config.json, preprocessor_config.json, model.safetensors and README.md into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in (("config", hub_config(model, family)), ("preprocessor_config", PROCESSORS[family])):
        (folder / f"{name}.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    weights = {name: value.detach().to(torch.float32).contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "README.md").write_text(model_card(model, family, training, scores), encoding="utf-8")


def how_trained(family: str, training: Training) -> str:
    """The commands, and what they do."""
    command = f"    python scripts/train_demo.py {family} --steps {training.steps}"
    run = (
        f"on one CPU core in {training.minutes:.0f} minutes: {training.steps:,} steps of {training.batch} generated "
        f"clips, each clip seen once (seeds from {training.first_seed:,} on)."
    )
    if training.first_seed != FIRST_FURTHER_SEED:
        return f"{command}\n\nFrom scratch, {run}"
    return (
        f"    python scripts/train_demo.py {family} --out FIRST\n{command} --from FIRST\n\n"
        f"First from scratch, on motions that last for the whole clip. Then {run}\n"
        "In half of these clips a motion may begin or end, as in the windows of a stream."
    )


def model_card(model: Model, family: str, training: Training, scores: Scores) -> str:
    """The README.md of the checkpoint."""
    name = family_named(family).title
    spec = demo_spec(family)
    rate = 30
    stride = frames_between(spec)
    window_seconds = (spec.num_frames - 1) * stride / rate
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rows = "\n".join(
        f"| {what} | {score.top1:.1%} | {score.interval[0]:.1%} to {score.interval[1]:.1%} |"
        for what, score in (
            ("drawn at the model's size", scores.drawn),
            ("read from H.264 files of 160x120", scores.filmed),
            ("control: the middle frame, repeated", scores.single_frame),
        )
    )
    return f"""---
license: apache-2.0
pipeline_tag: video-classification
tags:
- video-classification
- {family}
- synthetic
---

# {name} demo: eleven motions

A small {name} that tells what the one shape in a generated video does: {", ".join(LABELS)}.

It is a synthetic demo model: it makes an export, or a shortcut in precision, measurable by accuracy, on any
machine and without a download. It has never seen a real video and is of no use on one.

{parameters / 1e6:.2f} million parameters. A clip is {spec.num_frames} frames of {IMAGE}x{IMAGE}, one in \
{stride:.0f} of a video of {rate} frames a second, so it spans {window_seconds:.1f} seconds.

## Training

{how_trained(family, training)}

## Scores

Top-1 on {scores.drawn.clips:,} clips of other seeds (0 to {scores.drawn.clips - 1}), with the 95 % Wilson interval. \
Chance is {1 / len(LABELS):.1%}.

| clips | top-1 | interval |
|---|---|---|
{rows}

No single frame gives the label away: the middle frames of a scene are equal under all labels, except that nothing is
there in half of the clips where the shape appears or vanishes. The best that anything could score on the control is
therefore {BEST_WITHOUT_MOTION:.1%}; the model is near chance on it, so it is motion that it recognises.
"""
