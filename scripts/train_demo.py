"""Trains a small VideoMAE or ViViT classifier from scratch on generated motion, and writes it as a checkpoint.

    python scripts/train_demo.py videomae
    python scripts/train_demo.py vivit

On the CPU, on one thread, so both can be trained at once on two cores. Stopped at any point, the same command
continues from the last state it saved. Clips are made on the fly, each from the seed of its number, and none
is seen twice.
"""

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
import torch
import torch.nn.functional as F
from checkpoint_card import model_card
from motion import FIRST_TRAINING_SEED, LABELS, clip_seconds, label_of, random_scene, render
from safetensors.torch import save_file
from score_demo import rendered_frames, score
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tubelet.exporter.models.transformer import TransformerConfig
from tubelet.exporter.models.videomae import VideoMAEConfig, VideoMAEForVideoClassification
from tubelet.exporter.models.vivit import VivitConfig, VivitForVideoClassification
from tubelet.preprocess.hub_config import spec_from_hub
from tubelet.preprocess.prepare import normalise
from tubelet.preprocess.sampling import published_sampling
from tubelet.preprocess.spec import ClipSpec, Family

STEPS = 2500
BATCH = 32
LEARNING_RATE = 1e-3
STEPS_BETWEEN_SAVES = 100
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
