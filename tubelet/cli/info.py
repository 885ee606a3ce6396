"""`tubelet info`."""

from dataclasses import replace
from pathlib import Path

import click

from ..preprocess.decode import probe
from ..preprocess.sources import Source, is_url
from ..preprocess.video_info import VideoInfo
from ..runtime.bundle.bundle import Bundle
from ..runtime.bundle.origin import Origin
from ..runtime.hub import is_on_hub
from .options import BundlePath, json_option, print_json
from .reading_options import max_mb_option, track_option, url_option
from .standard_input import STANDARD_INPUT, with_standard_input


@click.command()
@click.argument("path", metavar="BUNDLE|VIDEO")
@track_option
@max_mb_option
@url_option
@json_option
def info(path: str, track: int | None, max_mb: int, allow_url: bool, as_json: bool) -> None:
    """Show what a bundle is, or what a video holds.

    \b
    Example:
      tubelet info artifacts/vivit-b-16x2-kinetics400
      tubelet info archery.mp4
    """
    described = _describe(path, track=track, max_mb=max_mb, allow_url=allow_url)
    if as_json:
        print_json(described.to_json())
        return
    click.echo(described.summary())
    if isinstance(described, Bundle) and (origin := Origin.read(described.path)) is not None:
        changed = "" if origin.bundle_sha256 == described.sha256 else ", and changed since"
        click.echo(f"{'pulled':<10} {origin}{changed}")


def _describe(path: str, *, track: int | None, max_mb: int, allow_url: bool) -> Bundle | VideoInfo:
    if is_on_hub(path):
        BundlePath().convert(path, None, None)  # says how to fetch it
    if path != STANDARD_INPUT and not is_url(path) and (Path(path).is_dir() or not Path(path).exists()):
        if track is not None:
            raise click.UsageError(f"--track is for videos; {path} is no video file")
        return Bundle.open(BundlePath().convert(path, None, None))
    with with_standard_input([path]) as (video,):
        return probe(replace(Source.of(video, allow_url=allow_url), track=track, max_mb=max_mb))
