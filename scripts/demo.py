"""The main job on what the repository carries: a checkpoint becomes a bundle, which classifies videos.

    python scripts/demo.py

Exports the demo VideoMAE, proves it, films three generated scenes and classifies them. Then it draws the predictions
over the scene whose motion changes, and measures the bundle beside torch. About a minute, offline.
"""

from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from annotate import ScoreTrack, annotate
from motion import Scene, clip_seconds, motion_of, random_scene, render
from score_demo import frames_between

from tubelet import VideoClassifier, load
from tubelet.bench.bench import bench_bundle
from tubelet.exporter.checkpoint.load import load_checkpoint
from tubelet.exporter.export import export_bundle
from tubelet.preprocess.decode import read_frames
from tubelet.preprocess.frames import Frames
from tubelet.runtime.progress import StatusLine
from tubelet.runtime.visual.picture_files import write_gif, write_video

CHECKPOINT = Path("artifacts/demo/videomae")
BUNDLE = Path("artifacts/demo-videomae")
VIDEOS = Path("artifacts/demo-videos")
RATE = 30
GIF_RATE = 10
CHANGE_SECONDS = 1.25  # before and after the middle


def changing_scene(seed: int) -> Scene:
    """A shape that moves right, turns clockwise around the middle, and then moves down."""
    scene = random_scene("stands still", seed)
    motions = (
        replace(motion_of("moves right", pace=0.0), until_seconds=-CHANGE_SECONDS),
        replace(motion_of("turns clockwise", pace=0.5), from_seconds=-CHANGE_SECONDS, until_seconds=CHANGE_SECONDS),
        replace(motion_of("moves down", pace=0.0), from_seconds=CHANGE_SECONDS),
    )
    return replace(scene, shape=replace(scene.shape, centre=(-0.15, 0.2), radius=0.25, motions=motions), noise=1.0)


def film_samples() -> list[Path]:
    """Write three videos; the motion of the last one changes."""
    VIDEOS.mkdir(parents=True, exist_ok=True)
    samples = {
        "grows.mp4": (random_scene("grows", 4), 2.5, 120, 160),
        "turns-counter-clockwise.mp4": (random_scene("turns counter-clockwise", 7), 2.5, 120, 160),
        "changes.mp4": (changing_scene(3), 6 * CHANGE_SECONDS, 240, 320),
    }
    for name, (scene, seconds, height, width) in samples.items():
        pixels = render(scene, clip_seconds(round(seconds * RATE), 1, RATE), height, width)
        write_video(VIDEOS / name, pixels, RATE)
    return [VIDEOS / name for name in samples]


def classify_over_time(model: VideoClassifier, frames: Frames) -> ScoreTrack:
    """Classify a clip around every GIF frame of a whole video that has enough frames on both sides."""
    step = RATE // GIF_RATE
    clip = np.rint(frames_between(model.spec) * np.arange(model.spec.num_frames)).astype(int)
    starts = np.arange(0, len(frames) - int(clip[-1]), step)
    scores = []
    for first in starts:
        found = dict(model.classify(frames.take(first + clip), top_k=len(model.labels)))
        scores.append([found[label] for label in model.labels])
    return ScoreTrack(
        labels=model.labels,
        seconds=frames.seconds[starts] + clip[-1] / RATE / 2,
        scores=np.array(scores),
        clip_seconds=clip[-1] / RATE,
        duration=len(frames) / RATE,
    )


def draw_predictions(model: VideoClassifier, video: Path, path: Path) -> None:
    """Write the annotated copy of `video` to the GIF at `path`."""
    frames = read_frames(video, lambda timeline: np.arange(len(timeline)))
    track = classify_over_time(model, frames)
    shown = frames.take(np.arange(0, len(frames), RATE // GIF_RATE))
    write_gif(path, annotate(shown.pixels, shown.seconds, track), GIF_RATE)


@click.command(help=__doc__)
def main() -> None:
    with StatusLine() as progress:
        say = progress.aside(click.echo)
        say(f"Exporting {CHECKPOINT} to {BUNDLE}\n")
        checkpoint = load_checkpoint(str(CHECKPOINT), report=say)
        bundle, parity = export_bundle(checkpoint, BUNDLE, force=True, progress=progress)
        say(f"{parity.table()}\n")

        progress("filming the samples")
        videos = film_samples()
        picture = VIDEOS / "changes.gif"
        with load(BUNDLE) as model:
            for video in videos:
                lines = [f"{score:7.1%}  {label}" for label, score in model.classify(video, top_k=3)]
                say("\n".join([str(video), *lines]))
            progress("drawing predictions")
            draw_predictions(model, videos[-1], picture)
        say(f"{picture} shows the predictions over the last of them, whose motion changes\n")

        report = bench_bundle(
            bundle,
            [("onnxruntime", "fp32")],
            against=["torch-sdpa"],
            model=str(CHECKPOINT),
            video=videos[0],
            rounds=3,
            starts=1,
            progress=progress,
        )
        say(report.table())


if __name__ == "__main__":
    main()
