"""Damaged videos of every kind of container, codec and pixel format, classified and looked at in all ways."""

import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import breaking
from breaking import Case
from fuzz import damaged
from videos import VARIANTS, make_video

NEEDS = ("onnxruntime",)

WAYS: tuple[list[str], ...] = (
    [],
    ["--on-error", "skip"],
    ["--sampling", "uniform"],
    ["--views", "2x3", "--batch", "4"],
    ["--fps", "5", "--on-error", "skip"],
    ["--resize", "fast", "--no-rotate"],
)


def prepare(shared: Path) -> None:
    breaking.write_bundle(shared)
    (shared / "videos").mkdir()
    for name, options in VARIANTS.items():
        make_video(shared / "videos" / name, **options)


def cases(seed: int, shared: Path) -> Iterator[Case]:
    sources = sorted((shared / "videos").iterdir())
    number = 0
    while True:
        chance = random.Random(f"videos {seed} {number}")
        source = chance.choice(sources)
        way = ["info"] if chance.random() < 0.2 else ["classify", str(shared / "bundle"), *chance.choice(WAYS)]
        yield Case(f"{source.name}, {' '.join(way)}", partial(_make, source, way, chance))
        number += 1


def _make(source: Path, way: Sequence[str], chance: random.Random, folder: Path) -> list[str]:
    copy = folder / source.name
    copy.write_bytes(damaged(source.read_bytes(), chance))
    return [*way, copy.name]
