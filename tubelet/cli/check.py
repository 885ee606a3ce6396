"""`tubelet check`."""

import dataclasses
from pathlib import Path

import click

from ..runtime.bundle.parity_report import ParityReport
from ..runtime.locate import locate
from ..runtime.progress import StatusLine
from ..runtime.proof.check import check as check_bundle
from ..runtime.proof.check import check_videos
from ..runtime.proof.video_check import StageReport
from ..runtime.reading import Reading
from .exits import EXIT_PARITY
from .options import engine_options, json_option, note, print_json, runnable_argument
from .reading_options import max_mb_option, track_option


@click.command()
@runnable_argument
@engine_options
@click.option(
    "--video",
    "videos",
    multiple=True,
    metavar="FILE",
    help="Check every stage of a video that was named at the export, instead; may be repeated.",
)
@track_option
@max_mb_option
@json_option
def check(
    bundle: Path | str,
    backend: str,
    precision: str | None,
    threads: int | None,
    videos: tuple[str, ...],
    track: int | None,
    max_mb: int,
    as_json: bool,
) -> None:
    """Prove that BUNDLE computes here what torch computed.

    Prepares the bundle's reference clips and runs them at several batch sizes. Compares with the logits that torch gave
    when the bundle was made. With --video, compares stage by stage what the exporting machine recorded for that file.
    The stages are the frames taken, their pixels, the model input and the logits. Exits with 3 when anything is outside
    tolerance.

    \b
    Example:
      tubelet check artifacts/vivit-b-16x2-kinetics400
      tubelet check artifacts/vivit-b-16x2-kinetics400 --video archery.mp4
    """
    reports: list[ParityReport] | list[StageReport]
    with StatusLine() as progress:
        if videos:
            reading = Reading(track=track, max_mb=max_mb)
            reports = check_videos(
                bundle,
                videos,
                backend=backend,
                precision=precision,
                threads=threads,
                reading=reading,
                progress=progress,
                say=progress.aside(note),
            )
        else:
            parity = check_bundle(
                bundle,
                backend=backend,
                precision=precision,
                threads=threads,
                progress=progress,
                say=progress.aside(note),
            )
            reports = [parity]
        merging = locate(bundle, reports[0].backend, reports[0].precision, progress=progress).open().merging
    if as_json:
        merged = {"merging": None if merging is None else dataclasses.asdict(merging)}
        documents = [report.to_json() | merged for report in reports]
        print_json(documents if len(videos) > 1 else documents[0])
    else:
        lines = () if merging is None else ("\n".join(f"merging: {line}" for line in merging.lines()),)
        click.echo("\n\n".join([*(report.table() for report in reports), *lines]))
    if not all(report.passed for report in reports):
        raise click.exceptions.Exit(EXIT_PARITY)
