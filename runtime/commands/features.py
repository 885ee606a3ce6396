"""`tubelet features`."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import BundleError
from ..loading import load
from ..progress import StatusLine
from ..reading import Reading
from .options import bundle_argument, engine_options, json_option, print_json
from .reading_options import reading_options

Features = dict[str, NDArray[np.float32]]


@click.command()
@bundle_argument
@click.argument("videos", metavar="VIDEO...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--npz",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="Where to write the arrays: a file for one video, a folder for several.",
)
@click.option("--force", is_flag=True, help="Replace files that are there already.")
@engine_options
@reading_options
@json_option
def features(
    bundle: Path,
    videos: tuple[Path, ...],
    npz: Path | None,
    force: bool,
    backend: str,
    precision: str,
    threads: int | None,
    reading: Reading,
    as_json: bool,
) -> None:
    """Turn each VIDEO into features: the tokens that the encoder makes of it.

    Prints what there is; --npz writes the arrays themselves, float32, as numpy.load reads them:
    last_hidden_state (views, tokens, width), and what else the bundle was exported with.

    \b
    Example:
      tubelet features artifacts/videomae-base archery.mp4 --npz archery.npz
      tubelet features artifacts/videomae-base *.mp4 --npz features/
    """
    targets = _targets(videos, npz, force=force)
    documents = []
    with StatusLine() as progress:
        progress("loading")
        with load(bundle, backend=backend, precision=precision, threads=threads, reading=reading) as model:
            for video in videos:
                progress(f"reading {video}")
                found = model.features(video)
                if npz is not None:
                    _write(found, targets[video])
                documents.append({"video": str(video), "npz": str(targets[video]) if npz else None} | _describe(found))
    if as_json:
        print_json(documents if len(videos) > 1 else documents[0])
        return
    for document in documents:
        click.echo("\n".join(_lines(document)))


def _targets(videos: tuple[Path, ...], npz: Path | None, *, force: bool) -> dict[Path, Path]:
    """The file for the features of each video. Raises UsageError for two videos that would share one, BundleError for a
    file that is there."""
    if npz is None:
        return {}
    if len(videos) == 1 and not npz.is_dir():
        targets = {videos[0]: npz}
    else:
        targets = {video: npz / f"{video.stem}.npz" for video in videos}
    shared = [str(target) for target, count in Counter(targets.values()).items() if count > 1]
    if shared or len(targets) < len(videos):
        raise click.UsageError(f"several videos would be written to one file: {', '.join(shared) or npz}")
    for target in targets.values():
        if target.exists() and not force:
            raise BundleError(f"{target} exists", fix="choose another with --npz, or replace it with --force")
    return targets


def _write(found: Features, target: Path) -> None:
    """The arrays in one file, which is there whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        beside = Path(folder) / "features.npz"
        np.savez(beside, allow_pickle=False, **found)
        beside.replace(target)


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
