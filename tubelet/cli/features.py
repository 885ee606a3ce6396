"""`tubelet features`."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import numpy as np
from numpy.typing import NDArray

from ..preprocess.errors import BundleError, VideoError
from ..preprocess.redaction import HIDDEN, redacted_url
from ..preprocess.sources import Source, is_url, name_of
from ..runtime.encoder import VideoEncoder
from ..runtime.load import load
from ..runtime.progress import StatusLine
from ..runtime.reading import Reading
from ..runtime.storage.written import naming, written_file
from .options import check_no_video, engine_options, json_option, note, print_json, runnable_argument
from .reading_options import reading_options
from .standard_input import STANDARD_INPUT, with_standard_input

Features = dict[str, NDArray[np.float32]]


@click.command()
@runnable_argument
@click.argument("videos", metavar="VIDEO...", nargs=-1, required=True)
@click.option(
    "--npz",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="Where to write the arrays: FILE.npz for one video, or a folder, in which each is named after its video.",
)
@click.option("--force", is_flag=True, help="Replace files that are there already.")
@engine_options
@reading_options
@json_option
def features(
    bundle: Path | str,
    videos: tuple[str, ...],
    npz: Path | None,
    force: bool,
    backend: str,
    precision: str | None,
    threads: int | None,
    reading: Reading,
    as_json: bool,
) -> None:
    """Turn each VIDEO into features: the tokens that the encoder makes of it.

    Prints what there is; --npz writes the arrays themselves, float32, as numpy.load reads them. They are
    last_hidden_state (views, tokens, width), and what else the bundle was exported with. A video that cannot be read is
    reported in its place, and the exit code is 1.

    \b
    Example:
      tubelet features artifacts/videomae-base archery.mp4 --npz archery.npz
      tubelet features artifacts/videomae-base *.mp4 --npz features/
    """
    targets = _targets(videos, npz, force=force)
    documents: list[dict[str, Any]] = []
    with StatusLine() as progress, with_standard_input(videos) as given:
        progress("loading")
        with load(
            bundle,
            task="feature-extraction",
            backend=backend,
            precision=precision,
            threads=threads,
            reading=reading,
            say=progress.aside(note),
        ) as model:
            for named, video in zip(videos, given, strict=True):
                progress(f"reading {video}")
                documents.append(_document(model, video, targets.get(named)))
                progress.clear()
                if "error" in documents[-1]:
                    click.echo(f"Error: {documents[-1]['error']}", err=True)
                elif not as_json:
                    click.echo("\n".join(_lines(documents[-1])))
    if as_json:
        print_json(documents if len(videos) > 1 else documents[0])
    if any("error" in document for document in documents):
        raise click.exceptions.Exit(1)


def _document(model: VideoEncoder, video: str | Source, target: Path | None) -> dict[str, Any]:
    """What there is of a video, written to `target`; or the error in its place."""
    try:
        found = model.features(video)
    except VideoError as error:
        return {"video": name_of(video), "error": str(error)}
    if target is not None:
        _write(found, target)
    return {"video": name_of(video), "npz": None if target is None else str(target)} | _describe(found)


def _targets(videos: tuple[str, ...], npz: Path | None, *, force: bool) -> dict[str, Path]:
    """The file for the features of each video. Raises UsageError for one file for several, BundleError for a file that
    is there."""
    if npz is None:
        return {}
    is_file = npz.suffix == ".npz" and not npz.is_dir()
    if is_file and len(videos) > 1:
        raise click.UsageError(
            f"--npz takes a folder for several videos, got the file {npz}: name a folder, such as {npz.with_suffix('')}"
        )
    video_of: dict[Path, str] = {}
    for video in videos:
        target = npz if is_file else npz / f"{_stem(video)}.npz"
        if target in video_of:
            raise click.UsageError(
                f"the features of {video_of[target]} and {video} would both be written to {target}: give one of them a "
                "run of its own, with --npz and the name of a file"
            )
        video_of[target] = video
    check_no_video(video_of, videos)
    for target in video_of:
        if target.exists() and not force:
            raise BundleError(f"{target} exists", fix="choose another with --npz, or replace it with --force")
    return {video: target for target, video in video_of.items()}


def _stem(video: str) -> str:
    """What the features of a video are named after."""
    if video == STANDARD_INPUT:
        return "standard-input"
    if is_url(video):
        return Path(urlsplit(redacted_url(video)).path).stem.replace(HIDDEN, "hidden") or "video"
    return Path(video).stem or "video"


def _write(found: Features, target: Path) -> None:
    """The arrays in one file, which is there whole or not at all."""
    with naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with written_file(target, follow_link=True) as beside:
        np.savez(beside, allow_pickle=False, **found)


def _describe(found: Features) -> dict[str, Any]:
    return {
        "features": {
            name: {
                "shape": list(array.shape),
                "mean": float(array.mean(dtype=np.float64)),
                "standard_deviation": float(array.std(dtype=np.float64)),
            }
            for name, array in found.items()
        }
    }


def _lines(document: dict[str, Any]) -> list[str]:
    rows = [
        f"  {name:<20} {'x'.join(map(str, values['shape'])):<16} mean {values['mean']:.4g}, "
        f"standard deviation {values['standard_deviation']:.4g}"
        for name, values in document["features"].items()
    ]
    return [document["video"], *rows, *([f"  written to {document['npz']}"] if document["npz"] else [])]
