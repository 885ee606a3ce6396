"""Checkpoints that nobody should have made, looked at and exported."""

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import breaking
from breaking import Case
from hostile_checkpoints import write_hostile

NEEDS = ("onnxruntime", "tubelet.exporter.export", "torch._dynamo", "torch.onnx._internal.exporter._core")
MEMORY = 768 << 20  # a tiny checkpoint takes 300 MB to export, most of it torch's own


def prepare(shared: Path) -> None:
    """Nothing: each case writes its own checkpoint."""


def cases(seed: int, _shared: Path) -> Iterator[Case]:
    number = 0
    while True:
        chance = random.Random(f"checkpoints {seed} {number}")
        dry = [] if chance.random() < 0.1 else ["--dry-run"]
        yield Case(
            f"checkpoint {number}{' whole' * (not dry)}", partial(_make, chance.getrandbits(32), dry), memory=MEMORY
        )
        number += 1


def _make(seed: int, dry: list[str], folder: Path) -> list[str]:
    # torch's threads, once started, do not outlive a fork, and the case is one.
    def write() -> None:
        write_hostile(folder / "checkpoint", seed)

    breaking.in_child(write)
    return ["export", "--model", "checkpoint", "-o", "bundle", *dry]
