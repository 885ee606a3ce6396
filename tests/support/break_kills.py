"""Kills at random moments: `export --force` over a bundle, and `quantize` into one.

After each kill there must be a whole bundle at the path, and no litter once the command has run again. Kills at every
single step of the writing are in killed.py.
"""

import random
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import breaking
from breaking import Case, Kill
from killed import litter, whole

from tubelet.preprocess.errors import BundleError

NEEDS = ("onnxruntime", "tubelet.exporter.export", "torch._dynamo", "networkx", "torch.onnx._internal.exporter._core")


def prepare(shared: Path) -> None:
    breaking.write_bundle(shared)


def commands(shared: Path, path: Path) -> dict[str, list[str]]:
    return {
        "export": ["export", "--model", str(shared / "tiny"), "-o", str(path), "--force"],
        "quantize": ["quantize", str(path), "--precision", "fp16", "--force"],
    }


def make(shared: Path, name: str, folder: Path) -> list[str]:
    shutil.copytree(shared / "bundle", folder / "bundle")
    return commands(shared, folder / "bundle")[name]


def wrong(shared: Path, name: str, folder: Path) -> str | None:
    """What a kill did to the bundle, and what is left when the command has run again undisturbed."""
    path = folder / "bundle"
    try:
        whole(path)
        again = breaking.judge(Case("again", lambda _: commands(shared, path)[name]), folder.parent / "again")
        if again.verdict != "fine":
            return f"run again: {again.verdict}\n{again.said}"
        whole(path)
    except BundleError as error:
        return f"not whole: {error}"
    left = litter(path)
    return f"left behind: {', '.join(left)}" if left else None


def cases(seed: int, shared: Path) -> Iterator[Case]:
    chance = random.Random(seed)
    seconds = {}
    for name in commands(shared, shared):
        undisturbed = breaking.judge(Case(name, partial(make, shared, name)), shared / name)
        assert undisturbed.verdict == "fine", undisturbed.said
        seconds[name] = undisturbed.seconds
    while True:
        name = chance.choice(list(seconds))
        number = chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        kill = Kill(number, chance.uniform(0, seconds[name]))
        yield Case(
            f"{name}, {number.name} after {kill.seconds:.3f} s",
            partial(make, shared, name),
            kill=kill,
            wrong=partial(wrong, shared, name),
        )
