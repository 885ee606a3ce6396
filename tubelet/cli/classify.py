"""`tubelet classify`."""

import json
from pathlib import Path

import click

from ..runtime.bounds import WORKERS
from ..runtime.classifier import Classification
from ..runtime.load import load
from ..runtime.predictions import Value
from ..runtime.progress import StatusLine
from ..runtime.reading import Reading
from .options import Bounded, bundle_argument, engine_options, json_option, print_json
from .reading_options import reading_options
from .standard_input import with_standard_input


@click.command()
@bundle_argument
@click.argument("videos", metavar="VIDEO...", nargs=-1, required=True)
@engine_options
@click.option("--top-k", type=click.IntRange(min=1), default=5, show_default=True, help="Labels to show.")
@reading_options
@click.option(
    "--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Clips in one run of the graph."
)
@click.option(
    "--workers", type=Bounded(WORKERS), default=2, show_default=True, help="Threads that read ahead of the model."
)
@json_option
@click.option("--json-lines", is_flag=True, help="One JSON object a video, each on its line as soon as it is known.")
def classify(
    bundle: Path,
    videos: tuple[str, ...],
    backend: str,
    precision: str,
    threads: int | None,
    top_k: int,
    reading: Reading,
    batch: int,
    workers: int,
    as_json: bool,
    json_lines: bool,
) -> None:
    """Say what happens in each VIDEO.

    A VIDEO is a file, - for standard input, or a URL with --allow-url. Videos are read ahead of the model, in
    threads of their own. One that cannot be read is reported in its place, the others are classified, and the
    exit code is 1.

    \b
    Example:
      tubelet classify artifacts/vivit-b-16x2-kinetics400 archery.mp4 --top-k 3
      tubelet classify artifacts/vivit-b-16x2-kinetics400 archery.mp4 --views 4x3
      tubelet classify artifacts/vivit-b-16x2-kinetics400 *.mp4 --json-lines > results.jsonl
    """
    if as_json and json_lines:
        raise click.UsageError("--json is one document, --json-lines one a line: take one of them")
    documents = []
    failed = False
    with StatusLine() as progress, with_standard_input(videos) as given:
        progress("loading")
        with load(bundle, backend=backend, precision=precision, threads=threads, reading=reading) as model:
            progress(f"classifying {videos[0]}")
            results = model.classify_many(given, top_k=top_k, batch=batch, workers=workers)
            for number, result in enumerate(results, start=1):
                progress.clear()
                failed = failed or result.error is not None
                if result.error is not None:
                    click.echo(f"Error: {result.error}", err=True)
                if json_lines:
                    click.echo(json.dumps(result.to_json(reading)))
                elif as_json:
                    documents.append(result.to_json(reading))
                elif result.error is None:
                    print_predictions(result, name_video=len(videos) > 1)
                if number < len(videos):
                    progress(f"classifying {videos[number]} ({number + 1} of {len(videos)})")
    if as_json:
        print_json(documents if len(videos) > 1 else documents[0])
    if failed:
        raise click.exceptions.Exit(1)


def print_predictions(result: Classification, *, name_video: bool) -> None:
    if name_video:
        click.echo(result.name)
    for said in result.predictions:
        number = f"{said.value:10.6g}" if isinstance(said, Value) else f"{said.score:7.2%}"
        click.echo(f"{number}  {said.label}")
    if result.clips is not None and result.clips.frames.skipped_packets:
        found = result.clips.damage()
        click.echo(
            f"note: {result.name}: {found['skipped_packets']} damaged packets skipped, another frame stood in for "
            f"{found['stood_in']}",
            err=True,
        )
