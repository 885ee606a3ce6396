"""How often a bundle of a demo model is right, on generated clips that training never saw.

    python scripts/score_demo.py artifacts/demo-videomae --clips 1000

Needs no torch.
"""

import dataclasses
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from motion import FIRST_TRAINING_SEED, LABELS, clip_seconds, label_of, random_scene, render
from numpy.typing import NDArray

from tubelet import load
from tubelet.preprocess.errors import BundleError, TubeletError
from tubelet.preprocess.frames import Frames
from tubelet.preprocess.prepare import prepare
from tubelet.preprocess.spec import ClipSpec
from tubelet.runtime.backends import BACKENDS, DEFAULT_BACKEND
from tubelet.runtime.evaluation.accuracy import wilson_interval
from tubelet.runtime.progress import Progress, StatusLine, silent
from tubelet.runtime.reading import Reading, ResizeName, read_clips
from tubelet.runtime.visual.picture_files import write_video

BATCH = 16
# The files that are written to be scored: what a small camera would give.
FILE_SECONDS, FILE_RATE, FILE_HEIGHT, FILE_WIDTH = 2.4, 30, 120, 160

Infer = Callable[[NDArray[Any]], NDArray[np.float32]]


@dataclass(frozen=True)
class Score:
    """Top-1 over generated clips. counts: (K, K), of clips by true label and by predicted label."""

    counts: tuple[tuple[int, ...], ...]

    @property
    def clips(self) -> int:
        return sum(map(sum, self.counts))

    @property
    def right(self) -> int:
        return sum(row[label] for label, row in enumerate(self.counts))

    @property
    def top1(self) -> float:
        return self.right / self.clips

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.top1, self.clips)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.top1:.1%} of {self.clips} clips (95 % interval {low:.1%} to {high:.1%})"

    def to_json(self) -> dict[str, Any]:
        low, high = self.interval
        found = {"top1": self.top1, "low": low, "high": high, "right": self.right, "clips": self.clips}
        return found | {"labels": LABELS} | dataclasses.asdict(self)

    def table(self) -> str:
        """One line a label: how many, how many right, and what the others were most often taken for."""
        lines = [f"{'label':<24} clips   right   most often taken for"]
        for label, row in enumerate(self.counts):
            mistakes = [(count, name) for name, count in zip(LABELS, row, strict=True) if name != LABELS[label]]
            worst, name = max(mistakes)
            share = f"{row[label] / sum(row):.1%}" if sum(row) else "-"
            lines.append(f"{LABELS[label]:<24} {sum(row):>5}  {share:>6}   {f'{name} ({worst})' if worst else ''}")
        return "\n".join([line.rstrip() for line in lines])


def frames_between(spec: ClipSpec) -> float:
    """How many frames of a file that is scored lie from one of a clip to the next."""
    sampling = spec.evaluation.sampling
    if sampling.policy == "segment-middles":  # which looks at the whole of it
        return FILE_SECONDS * FILE_RATE / spec.num_frames
    return sampling.stride


def rendered_frames(spec: ClipSpec, seed: int, *, single_frame: bool = False) -> Frames:
    """The clip that the spec would take from a video of that seed's scene, drawn at the model's size.

    single_frame: the middle frame, repeated, in which no motion is left.
    """
    if spec.size is None:
        raise BundleError("demo clips are drawn at the model's size, and this one takes frames of any width")
    times = clip_seconds(spec.num_frames, frames_between(spec))
    if single_frame:
        times = np.zeros(1)
    pixels = render(random_scene(label_of(seed), seed), times, *spec.size)
    return Frames.from_array(np.repeat(pixels, spec.num_frames // len(pixels), axis=0))


def filmed_frames(spec: ClipSpec, seed: int, *, folder: Path, resize: ResizeName = "exact") -> Frames:
    """The clip that is read from an H.264 file of that scene, which is written into `folder` and removed."""
    times = clip_seconds(round(FILE_SECONDS * FILE_RATE), 1, FILE_RATE)
    path = folder / f"{seed}.mp4"
    write_video(path, render(random_scene(label_of(seed), seed), times, FILE_HEIGHT, FILE_WIDTH), FILE_RATE)
    frames = read_clips(path, spec, Reading(resize=resize)).clip(0)
    path.unlink()
    return frames


def fast_effect(infer: Infer, spec: ClipSpec, *, clips: int, folder: Path) -> str:
    """What the fast resize does to the logits of filmed clips, beside the exact one."""
    logits = {}
    for resize in ("exact", "fast"):
        read = partial(filmed_frames, spec, folder=folder, resize=resize)
        logits[resize] = np.concatenate([infer(prepare(read(seed), spec)[np.newaxis]) for seed in range(clips)])
    differences = np.abs(logits["fast"] - logits["exact"])
    same = (logits["fast"].argmax(axis=1) == logits["exact"].argmax(axis=1)).mean()
    return (
        f"fast beside exact on {clips} clips: logits of {np.abs(logits['exact']).mean():.2f} on average differ by "
        f"{differences.mean():.3f} on average and {differences.max():.2f} at most; "
        f"the best label is the same in {same:.1%}"
    )


def score(
    infer: Infer,
    spec: ClipSpec,
    read: Callable[[int], Frames],
    *,
    clips: int,
    progress: Progress = silent,
) -> Score:
    """Score the held-out clips 0 to `clips` - 1.

    infer: prepared clips (B, ...) -> logits float32 (B, K)
    read:  a seed -> the frames of its clip
    """
    if not 1 <= clips <= FIRST_TRAINING_SEED:
        raise ValueError(f"clips must be from 1 to {FIRST_TRAINING_SEED}, where training begins, got {clips}")
    counts = np.zeros((len(LABELS), len(LABELS)), int)
    for first in range(0, clips, BATCH):
        seeds = range(first, min(first + BATCH, clips))
        progress(f"scoring clip {first + 1} of {clips}")
        logits = infer(np.stack([prepare(read(seed), spec) for seed in seeds]))  # (B, K)
        for seed, predicted in zip(seeds, logits.argmax(axis=1), strict=True):
            counts[seed % len(LABELS), predicted] += 1
    return Score(tuple(tuple(row) for row in counts.tolist()))


def reader(spec: ClipSpec, how: str | None, folder: Path) -> Callable[[int], Frames]:
    """What `score` reads clips with: drawn unless `how` says otherwise; `folder` is for files."""
    if how in ("files", "fast-files"):
        return partial(filmed_frames, spec, folder=folder, resize="exact" if how == "files" else "fast")
    return partial(rendered_frames, spec, single_frame=how == "single-frame")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--clips", type=click.IntRange(1, FIRST_TRAINING_SEED), default=1000, show_default=True)
@click.option("--backend", type=click.Choice(list(BACKENDS)), default=DEFAULT_BACKEND, show_default=True)
@click.option("--precision", default="fp32", show_default=True)
@click.option("--single-frame", "how", flag_value="single-frame", help="Control: the middle frame, repeated.")
@click.option("--files", "how", flag_value="files", help="Each clip through an H.264 file of 160x120.")
@click.option("--fast-files", "how", flag_value="fast-files", help="The same, resized by FFmpeg while it decodes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def main(bundle: Path, clips: int, backend: str, precision: str, how: str | None, as_json: bool) -> None:
    """Score BUNDLE on generated clips that training never saw."""
    try:
        with (
            load(bundle, backend=backend, precision=precision) as model,
            StatusLine() as progress,
            tempfile.TemporaryDirectory() as folder,
        ):
            if model.labels != LABELS:
                raise BundleError(f"{bundle} is no demo model: its labels are {', '.join(model.labels[:3])}, ...")
            read = reader(model.spec, how, Path(folder))
            result = score(model.logits, model.spec, read, clips=clips, progress=progress)
            if how == "fast-files":
                progress.clear()
                click.echo(fast_effect(model.logits, model.spec, clips=clips, folder=Path(folder)), err=as_json)
    except TubeletError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(result.to_json(), indent=2))
    else:
        click.echo(f"{result.table()}\n\n{backend} {precision}, top-1: {result}")


if __name__ == "__main__":
    main()
