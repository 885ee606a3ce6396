"""`tubelet classify`."""

import math
from pathlib import Path
from typing import Any, get_args

import click

from ...preprocess.errors import VideoError
from ..backends import open_backend
from ..bundle import Bundle
from ..classifier import SamplingName, VideoClassifier
from ..progress import StatusLine
from .options import bundle_argument, engine_options, json_option, print_json


@click.command()
@bundle_argument
@click.argument("videos", metavar="VIDEO...", nargs=-1, required=True)
@engine_options
@click.option("--top-k", type=click.IntRange(min=1), default=5, show_default=True, help="Labels to show.")
@click.option(
    "--sampling",
    type=click.Choice(get_args(SamplingName)),
    default="eval",
    show_default=True,
    help="eval: the frames of the family's published evaluation, centre view; uniform: evenly over the file.",
)
@json_option
def classify(
    bundle: Path,
    videos: tuple[str, ...],
    backend: str,
    precision: str,
    top_k: int,
    sampling: SamplingName,
    as_json: bool,
) -> None:
    """Say what happens in each VIDEO.

    A video that cannot be read is reported, the others are classified, and the exit code is 1.

    \b
    Example:
      tubelet classify artifacts/vivit-b-16x2-kinetics400 archery.mp4 --top-k 3
    """
    opened = Bundle.open(bundle)
    results = []
    failed = False
    with StatusLine() as progress:
        progress("loading")
        with VideoClassifier(opened, open_backend(backend, opened, precision), sampling=sampling) as model:
            for video in videos:
                progress(f"classifying {video}")
                try:
                    result = classify_one(model, video, top_k)
                except VideoError as error:
                    failed = True
                    progress.clear()
                    click.echo(f"Error: {error}", err=True)
                    results.append({"video": video, "error": error.message})
                    continue
                results.append(result)
                if not as_json:
                    progress.clear()
                    print_predictions(result, name_video=len(videos) > 1)
    if as_json:
        print_json(results if len(videos) > 1 else results[0])
    if failed:
        raise click.exceptions.Exit(1)


def classify_one(model: VideoClassifier, video: str, top_k: int) -> dict[str, Any]:
    """The result of one video as JSON has it; seconds are null where the file has no timestamps."""
    frames = model.read(video)
    return {
        "video": video,
        "predictions": [prediction._asdict() for prediction in model.classify(frames, top_k=top_k)],
        "frames": frames.indices.tolist(),
        "seconds": [None if math.isnan(second) else round(second, 6) for second in frames.seconds.tolist()],
    }


def print_predictions(result: dict[str, Any], *, name_video: bool) -> None:
    if name_video:
        click.echo(result["video"])
    for prediction in result["predictions"]:
        click.echo(f"{prediction['score']:7.2%}  {prediction['label']}")
