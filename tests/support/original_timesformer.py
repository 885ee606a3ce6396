"""TimeSformer under its authors' names and in plain torch: what .pyth files of theirs hold, and what they compute.

Written after the paper (arXiv:2102.05095) and the layout of their state_dict: clips (B, C, T, H, W), tokens place by
place, one matrix for query, key and value.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn

EPS = 1e-6


class OriginalAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part.unflatten(-1, (self.heads, -1)) for part in self.qkv(x).tensor_split(3, dim=-1))
        scores = torch.einsum("bnhd,bmhd->bhnm", query, key) / math.sqrt(query.shape[-1])
        return cast(Tensor, self.proj(torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), value).flatten(2)))


class OriginalMlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(nn.functional.gelu(self.fc1(x))))


class OriginalBlock(nn.Module):
    def __init__(self, kind: str, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = OriginalAttention(width, heads)
        self.is_divided = kind == "divided_space_time"
        if self.is_divided:
            self.temporal_norm1 = nn.LayerNorm(width, eps=EPS)
            self.temporal_attn = OriginalAttention(width, heads)
            self.temporal_fc = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = OriginalMlp(width, hidden)

    def forward(self, x: Tensor, times: int) -> Tensor:
        """One clip after the other, and each place and frame of it by itself."""
        if not self.is_divided:
            x = x + self.attn(self.norm1(x))
            return cast(Tensor, x + self.mlp(self.norm2(x)))
        clips = []
        for cls_token, patches in zip(
            x[:, :1], torch.unflatten(x[:, 1:], 1, (-1, times)), strict=True
        ):  # (1, D), (P, T, D)
            patches = patches + self.temporal_fc(self.temporal_attn(self.temporal_norm1(patches)))
            frames = [torch.cat([cls_token, patches[:, time]])[None] for time in range(times)]  # (1, 1 + P, D) each
            taken = torch.cat([self.attn(self.norm1(frame)) for frame in frames])  # (T, 1 + P, D)
            cls_token = cls_token + taken[:, 0].mean(0)
            patches = patches + taken[:, 1:].transpose(0, 1)
            clips.append(torch.cat([cls_token, patches.flatten(0, 1)]))
        x = torch.stack(clips)
        return cast(Tensor, x + self.mlp(self.norm2(x)))


class OriginalPatches(nn.Module):
    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)


class OriginalTimesformer(nn.Module):
    def __init__(
        self,
        kind: str = "divided_space_time",
        *,
        width: int = 64,
        depth: int = 2,
        heads: int = 1,
        hidden: int = 48,
        size: int = 32,
        patch: int = 8,
        frames: int = 4,
        classes: int = 5,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.patch_embed = OriginalPatches(width, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (size // patch) ** 2, width))
        if kind != "space_only":
            self.time_embed = nn.Parameter(torch.zeros(1, frames, width))
        self.blocks = nn.ModuleList(OriginalBlock(kind, width, heads, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.head = nn.Linear(width, classes)

    def forward(self, clips: Tensor) -> Tensor:
        """(B, C, T, H, W) to logits (B, K)."""
        batch, _, times = clips.shape[:3]
        frames = self.patch_embed.proj(clips.transpose(1, 2).flatten(0, 1)).flatten(2).mT  # (B * T, P, D)
        cls_token = self.cls_token + self.pos_embed[:, :1]
        patches = (frames + self.pos_embed[:, 1:]).unflatten(0, (batch, times))  # (B, T, P, D)
        if self.kind == "space_only":
            x = torch.cat([cls_token.expand(batch * times, -1, -1), patches.flatten(0, 1)], dim=1)
            for block in self.blocks:
                x = block(x, times)
            by_clip = torch.unflatten(x, 0, (batch, times))
            return cast(Tensor, self.head(self.norm(by_clip.mean(1))[:, 0]))
        patches = patches.transpose(1, 2) + self.time_embed[0]  # (B, P, T, D)
        x = torch.cat([cls_token.expand(batch, -1, -1), patches.flatten(1, 2)], dim=1)
        for block in self.blocks:
            x = block(x, times)
        return cast(Tensor, self.head(self.norm(x)[:, 0]))
