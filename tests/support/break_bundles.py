"""Tampered bundles, whose checksums are right, looked at, checked and used."""

import random
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import breaking
from breaking import Case
from tampered import tamper
from videos import make_video

NEEDS = ("onnxruntime", "onnx")
MEMORY = 512 << 20  # a reference of the tests is 2 MB


def prepare(shared: Path) -> None:
    breaking.write_bundle(shared)
    make_video(shared / "video.mp4")


def cases(seed: int, shared: Path) -> Iterator[Case]:
    video = str(shared / "video.mp4")
    ways = (["info", "bundle"], ["check", "bundle"], ["classify", "bundle", video], ["check", "bundle", "--json"])
    number = 0
    while True:
        chance = random.Random(f"bundles {seed} {number}")
        way = chance.choice(ways)
        yield Case(f"bundle {number}, {way[0]}", partial(_make, shared / "bundle", way, chance), memory=MEMORY)
        number += 1


def _make(bundle: Path, way: Sequence[str], chance: random.Random, folder: Path) -> list[str]:
    tamper(Path(shutil.copytree(bundle, folder / "bundle")), chance)
    return list(way)
