"""VideoMAE under its authors' names and in plain torch: what .pth files of theirs, and VideoMAE v2 on the Hub, hold.

Written after the papers (arXiv:2203.12602, arXiv:2303.16727) and the layout of their state_dict: clips (B, C, T, H, W),
one matrix for query, key and value with biases beside it, positions that are not stored, one epsilon for every norm.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tubelet.exporter.checkpoint.load import Checkpoint
from tubelet.exporter.families.videomae_encoder import VideoMAEConfig

EPS = 1e-6
LIMIT = 1e-5  # largest difference of any logit, float32
# What OriginalVideoMAE() is, as tubelet says it.
CONFIG = VideoMAEConfig(
    image_size=(32, 32),
    num_frames=4,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=48,
    num_labels=5,
    patch_size=(8, 8),
    tubelet_size=2,
    layer_norm_eps=1e-6,
    head_norm_eps=1e-6,
)


class OriginalAttention(nn.Module):
    def __init__(self, width: int, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)
        if qkv_bias:
            self.q_bias = nn.Parameter(torch.zeros(width))
            self.v_bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).tensor_split(3, dim=-1)
        if hasattr(self, "q_bias"):
            query, value = query + self.q_bias, value + self.v_bias
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)) for part in (query, key, value)
        )  # (B, N, D) -> (B, N, h, D / h)
        scores = torch.einsum("bnhd,bmhd->bhnm", query, key) / math.sqrt(query.shape[-1])
        return self.proj(torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), value).flatten(2))


class OriginalMlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1(x)
        return self.fc2(hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))))


class OriginalBlock(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, qkv_bias: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = OriginalAttention(width, heads, qkv_bias)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = OriginalMlp(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class OriginalPatches(nn.Module):
    def __init__(self, width: int, tubelet: tuple[int, int, int]) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, width, tubelet, stride=tubelet)

    def forward(self, clips: Tensor) -> Tensor:
        return self.proj(clips).flatten(2).mT  # (B, C, T, H, W) -> (B, N, D)


def positions(count: int, width: int) -> Tensor:
    """(N, D) by the formula, one number after the other."""
    table = torch.empty(count, width, dtype=torch.float64)
    for row in range(count):
        for column in range(width):
            angle = row / 10000 ** (2 * (column // 2) / width)
            table[row, column] = math.cos(angle) if column % 2 else math.sin(angle)
    return table.float()


class OriginalVideoMAE(nn.Module):
    """classes 0: the features of a clip, (B, D); else logits, (B, K)."""

    def __init__(
        self,
        *,
        width: int = 32,
        depth: int = 2,
        heads: int = 4,
        hidden: int = 48,
        tubelet: tuple[int, int, int] = (2, 8, 8),
        classes: int = 5,
        mean_pooling: bool = True,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__()
        self.patch_embed = OriginalPatches(width, tubelet)
        self.blocks = nn.ModuleList(OriginalBlock(width, heads, hidden, qkv_bias) for _ in range(depth))
        self.norm = nn.Identity() if mean_pooling else nn.LayerNorm(width, eps=EPS)
        self.fc_norm = nn.LayerNorm(width, eps=EPS) if mean_pooling else None
        self.head = nn.Linear(width, classes) if classes else nn.Identity()

    def forward(self, clips: Tensor) -> Tensor:
        tokens = self.patch_embed(clips)
        tokens = tokens + positions(*tokens.shape[1:])
        for block in self.blocks:
            tokens = block(tokens)
        if self.fc_norm is None:
            return self.head(self.norm(tokens)[:, 0])
        return self.head(self.fc_norm(tokens.mean(1)))


class OriginalPretraining(nn.Module):
    """What a pretraining file holds, and what it computes."""

    def __init__(self, *, width: int = 64, depth: int = 2, decoder_width: int = 192, decoder_depth: int = 1) -> None:
        super().__init__()
        tubelet = (2, 8, 8)
        self.encoder: Any = nn.Module()
        self.encoder.patch_embed = OriginalPatches(width, tubelet)
        self.encoder.blocks = nn.ModuleList(OriginalBlock(width, 1, 48, True) for _ in range(depth))
        self.encoder.norm = nn.LayerNorm(width, eps=EPS)
        self.decoder: Any = nn.Module()
        self.decoder.blocks = nn.ModuleList(OriginalBlock(decoder_width, 3, 40, True) for _ in range(decoder_depth))
        self.decoder.norm = nn.LayerNorm(decoder_width, eps=EPS)
        self.decoder.head = nn.Linear(decoder_width, 3 * math.prod(tubelet))
        self.encoder_to_decoder = nn.Linear(width, decoder_width, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_width))

    def forward(self, clips: Tensor, mask: Tensor) -> Tensor:
        """clips (B, C, T, H, W) and bool (B, N), True for what is hidden, to its pixels (B, M, P)."""
        batch = len(clips)
        tokens = self.encoder.patch_embed(clips)
        tokens = (tokens + positions(*tokens.shape[1:]))[~mask].reshape(batch, -1, tokens.shape[2])
        for block in self.encoder.blocks:
            tokens = block(tokens)
        tokens = self.encoder_to_decoder(self.encoder.norm(tokens))
        table = positions(mask.shape[1], tokens.shape[2]).expand(batch, -1, -1)
        shown = tokens + table[~mask].reshape(batch, -1, tokens.shape[2])
        hidden = self.mask_token + table[mask].reshape(batch, -1, tokens.shape[2])
        tokens = torch.cat([shown, hidden], dim=1)
        for block in self.decoder.blocks:
            tokens = block(tokens)
        return self.decoder.head(self.decoder.norm(tokens[:, -hidden.shape[1] :]))


def seeded(model: nn.Module, seed: int = 0) -> Any:
    """The model in eval mode with weights large enough that each of them shows in what it computes.

    Tubelets are projected to small values, so that the epsilons of the norms show as well.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            value.copy_(1 + 0.1 * noise)
        elif name.endswith("weight"):
            value.copy_(noise / math.sqrt(math.prod(value.shape[1:])))
        else:
            value.copy_(0.2 * noise)
    return model.eval()


# Our model beside it


def clips(size: tuple[int, int] = (32, 32), frames: int = 4) -> Tensor:
    """Small values, beside which an epsilon counts: (B, T, C, H, W)."""
    return 0.05 * torch.randn(2, frames, 3, *size, generator=torch.Generator().manual_seed(3))


def difference(checkpoint: Checkpoint, model: torch.nn.Module, pixel_values: Tensor) -> float:
    with torch.inference_mode():
        expected = model(pixel_values.transpose(1, 2))  # (B, T, C, H, W) -> (B, C, T, H, W)
        assert expected.abs().max() > 0.1
        return (checkpoint.model(pixel_values) - expected).abs().max().item()


# The Hub's folder of VideoMAE v2

MODEL_CONFIG: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 8,
    "in_chans": 3,
    "num_classes": 5,
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 4,
    "mlp_ratio": 1.5,
    "qkv_bias": True,
    "qk_scale": None,
    "drop_rate": 0.0,
    "attn_drop_rate": 0.0,
    "drop_path_rate": 0.0,
    "norm_layer": "nn.LayerNorm",
    "layer_norm_eps": 1e-6,
    "init_values": 0.0,
    "use_learnable_pos_emb": False,
    "tubelet_size": 2,
    "use_mean_pooling": True,
    "with_cp": False,
    "num_frames": 4,
    "cos_attn": False,
}
PROCESSOR = {
    "crop_size": {"height": 32, "width": 32},
    "image_mean": [0.485, 0.456, 0.406],
    "image_processor_type": "VideoMAEImageProcessor",
    "image_std": [0.229, 0.224, 0.225],
    "size": {"shortest_edge": 32},
}


def config_v2(**changes: Any) -> dict[str, Any]:
    """As OpenGVLab/VideoMAEv2-Base has it, but for the numbers."""
    return {
        "_name_or_path": "./",
        "model_type": "VideoMAEv2_Base",
        "architectures": ["VideoMAEv2_Base"],
        "auto_map": {
            "AutoModel": "modeling_videomaev2.VideoMAEv2",
            "AutoConfig": "modeling_config.VideoMAEv2Config",
        },
        "model_config": {**MODEL_CONFIG, **changes},
        "transformers_version": "4.38.0",
        "use_cache": True,
    }


def write_v2(folder: Path, model: torch.nn.Module, *, prefix: str = "model.", **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_v2(**changes)))
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    (folder / "modeling_videomaev2.py").write_text("raise SystemExit('this code was run')")
    (folder / "modeling_config.py").write_text("raise SystemExit('this code was run')")
    save_file({prefix + name: value for name, value in model.state_dict().items()}, folder / "model.safetensors")
    return folder
