"""How often demo models are right when they merge tokens, and how fast they are: docs/export.md has the table and plot.

    python scripts/score_merging.py --clips 1000 --svg docs/assets/merging.svg

Each model is exported anew for each number of merged tokens, and proven. Then all of them see the same held-out clips.
They take turns on each batch, so that what else the machine does is shared out. Needs torch.
"""

import dataclasses
import json
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from motion import FIRST_TRAINING_SEED, LABELS
from score_demo import rendered_frames
from svg import svg

from tubelet import load
from tubelet.bench.plots import WIDTH, Dot, Plot, Rule, Scale, Shape, Text, number
from tubelet.bench.plots import Path as Line
from tubelet.exporter.checkpoint.load import load_checkpoint
from tubelet.exporter.export import export_bundle
from tubelet.exporter.options import ExportOptions
from tubelet.preprocess.errors import TubeletError
from tubelet.preprocess.prepare import prepare
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.evaluation.accuracy import wilson_interval
from tubelet.runtime.progress import Progress, StatusLine

DEMO = Path(__file__).parents[1] / "artifacts" / "demo"
FAMILIES = ("vivit", "videomae")
REMOVED = (0, 4, 8, 12, 16, 24, 32, 48)
BATCH = 8
HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 300, 64, 120, 14, 46
COLOURS = ("#3366cc", "#cc5522")


@dataclass(frozen=True)
class Score:
    """One model that merges `removed` tokens a layer, 0 for as published.

    products: matrix products of a clip, as a share of those without merging. speed: times as fast as without, the
    median of batches. same: the share of clips with the best label that they have without merging.
    """

    family: str
    removed: int
    last_tokens: int | None
    right: int
    clips: int
    products: float
    speed: float
    same: float

    @property
    def top1(self) -> float:
        return self.right / self.clips

    def row(self) -> str:
        low, high = wilson_interval(self.top1, self.clips)
        return (
            f"{self.family:<10} {self.removed:>3} {'-' if self.last_tokens is None else self.last_tokens:>6}   "
            f"{self.top1:6.1%} ({low:.1%} to {high:.1%})   {self.same:6.1%}   {self.products:8.0%}   {self.speed:.2f}x"
        )


def export_all(family: str, removed: Sequence[int], folder: Path, progress: Progress) -> list[Bundle]:
    """Export the demo model of a family for each number of merged tokens."""
    checkpoint = load_checkpoint(str(DEMO / family), report=lambda _: None)
    made = []
    for count in removed:
        progress(f"exporting {family} with {count} tokens merged a layer")
        options = ExportOptions(merge=count or None)
        made.append(export_bundle(checkpoint, folder / f"{family}-{count}", options)[0])
    return made


def score(
    family: str, bundles: Sequence[Bundle], removed: Sequence[int], clips: int, progress: Progress
) -> list[Score]:
    """Run all bundles on the held-out clips 0 to `clips` - 1, in turn on each batch."""
    labels: list[list[int]] = [[] for _ in bundles]
    seconds: list[list[float]] = [[] for _ in bundles]
    with ExitStack() as stack:
        models = [stack.enter_context(load(bundle.path)) for bundle in bundles]
        for first in range(0, clips, BATCH):
            progress(f"{family}: clip {first + 1} of {clips}")
            seeds = range(first, min(first + BATCH, clips))
            batch = np.stack([prepare(rendered_frames(bundles[0].spec, seed), bundles[0].spec) for seed in seeds])
            for model, best, took in zip(models, labels, seconds, strict=True):
                start = time.perf_counter()
                logits = model.logits(batch)
                took.append(time.perf_counter() - start)
                best += logits.argmax(axis=1).tolist()
    truth = np.arange(clips) % len(LABELS)
    macs = [sum(product.macs for product in bundle.products) for bundle in bundles]
    return [
        Score(
            family,
            count,
            None if bundle.merging is None else bundle.merging.tokens[-1],
            int((np.array(best) == truth).sum()),
            clips,
            macs[i] / macs[0],
            float(np.median(np.array(seconds[0]) / np.array(seconds[i]))),
            float((np.array(best) == np.array(labels[0])).mean()),
        )
        for i, (count, bundle, best) in enumerate(zip(removed, bundles, labels, strict=True))
    ]


def draw(scores: Sequence[Score]) -> Plot:
    """Accuracy over speed, a line for each family and a dot for each number of merged tokens."""
    speeds, shares = [one.speed for one in scores], [100 * one.top1 for one in scores]
    across = Scale(min(speeds) - 0.05, max(speeds) + 0.05, LEFT, WIDTH - RIGHT)
    up = Scale(min(shares) - 1, 100.0, HEIGHT - BOTTOM, TOP)
    parts: list[Shape] = []
    for value in across.ticks():
        parts.append(Rule(across.at(value), TOP, across.at(value), up.start, "grid"))
        parts.append(Text(across.at(value), up.start + 18, f"{number(value)}x", "tick", "middle"))
    for share in range(math.ceil(up.low / 2) * 2, 101, 2):
        parts.append(Rule(LEFT, up.at(share), across.end, up.at(share), "grid"))
        parts.append(Text(LEFT - 8, up.at(share) + 4, f"{share} %", "tick", "end"))
    parts.append(Text(across.end, up.start + 36, "times as fast as without merging", "tick", "end"))
    for family, colour in zip(FAMILIES, COLOURS, strict=True):
        ones = [one for one in scores if one.family == family]
        places = [(across.at(one.speed), up.at(100 * one.top1)) for one in ones]
        parts.append(Line(tuple(places), colour))
        for i, (one, (x, y)) in enumerate(zip(ones, places, strict=True)):
            parts.append(Dot(x, y, 4, colour, f"{family}, {one.removed} a layer: {one.top1:.1%}, {one.speed:.2f}x"))
            parts.append(Text(x, y + (18 if i % 2 else -9), str(one.removed), "tick", "middle"))
        parts.append(Text(places[-1][0] + 10, places[-1][1] + 4, family, "name"))
    return Plot(HEIGHT, "Accuracy of the demo models over speed, by tokens merged in each layer", tuple(parts))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--clips", type=click.IntRange(1, FIRST_TRAINING_SEED), default=1000, show_default=True)
@click.option("--svg", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw the curves to this file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def main(clips: int, picture: Path | None, as_json: bool) -> None:
    """Score demo models that merge tokens, at several numbers of tokens a layer."""
    found: list[Score] = []
    try:
        with StatusLine() as progress, TemporaryDirectory() as folder:
            for family in FAMILIES:
                bundles = export_all(family, REMOVED, Path(folder), progress)
                found += score(family, bundles, REMOVED, clips, progress)
    except TubeletError as error:
        raise click.ClickException(str(error)) from error
    if picture is not None:
        picture.write_text(svg(draw(found)), encoding="utf-8")
    if as_json:
        document: list[dict[str, Any]] = [dataclasses.asdict(one) | {"top1": one.top1} for one in found]
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo("model        R  tokens    right                         as before   products   speed")
        click.echo("\n".join(one.row() for one in found))


if __name__ == "__main__":
    main()
