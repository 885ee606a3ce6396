"""`tubelet classify`."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ..preprocess.errors import OutOfBounds
from ..runtime.archive.loading import Loading
from ..runtime.archive.names import Shard, names_of
from ..runtime.classifier import Classification
from ..runtime.predictions import Value
from ..runtime.progress import StatusLine
from ..runtime.reading import Reading
from ..runtime.tuning.auto import AUTO, settle
from .options import (
    engine_options,
    json_option,
    note,
    print_json,
    runnable_argument,
    workers_option,
)
from .reading_options import reading_options
from .standard_input import with_standard_input

if TYPE_CHECKING:  # imported where there is an archive
    from ..runtime.archive.run import Classify


class ShardOf(click.ParamType[Shard]):
    """I/N, such as 2/8."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shard:
        try:
            return value if isinstance(value, Shard) else Shard.parse(value)
        except OutOfBounds as error:
            self.fail(error.message, param, ctx)


@click.command()
@runnable_argument
@click.argument("videos", metavar="[VIDEO]...", nargs=-1)
@engine_options
@click.option("--top-k", type=click.IntRange(min=1), default=5, show_default=True, help="Labels to show.")
@reading_options
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    help="Clips in one run of the graph.  [default: 1, or what auto is]",
)
@workers_option
@json_option
@click.option("--json-lines", is_flag=True, help="One JSON object a video, each on its line as soon as it is known.")
@click.option(
    "--files",
    metavar="LIST|GLOB|-",
    help="An archive in place of VIDEO: a file with a name a line, a quoted pattern, or names on standard input. "
    "Names may be URLs of fsspec: s3://, gs://, hf://.",
)
@click.option("--shard", type=ShardOf(), metavar="I/N", help="Only the I-th of N parts of --files, from 1.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where the rows of --files go: FILE.jsonl or FILE.parquet.",
)
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Classify --files on a Ray cluster: its address, auto for the one that runs here, local to start one.",
)
@click.option(
    "--models",
    type=click.IntRange(min=1),
    help="Models on the cluster of --ray.  [default: one for each GPU, or half of the cores]",
)
@click.option("--resume", is_flag=True, help="Go on with the rows that are in FILE.")
def classify(
    bundle: Path | str,
    videos: tuple[str, ...],
    backend: str,
    precision: str | None,
    threads: int | None,
    top_k: int,
    reading: Reading,
    batch: int | None,
    workers: int,
    as_json: bool,
    json_lines: bool,
    files: str | None,
    shard: Shard | None,
    output: Path | None,
    ray: str | None,
    models: int | None,
    resume: bool,
) -> None:
    """Say what happens in each VIDEO, or in the videos of an archive.

    A VIDEO is a file, - for standard input, or a URL with --allow-url. Videos are read ahead of the model, in
    threads of their own. One that cannot be read is reported in its place, the others are classified, and the
    exit code is 1.

    With --files each video becomes a row of FILE, or its error does, and the exit code is 0. A run that
    was killed goes on with --resume.

    \b
    Example:
      tubelet classify artifacts/vivit-b-16x2-kinetics400 archery.mp4 --top-k 3
      tubelet classify artifacts/vivit-b-16x2-kinetics400 archery.mp4 --views 4x3
      tubelet classify artifacts/vivit-b-16x2-kinetics400 *.mp4 --json-lines > results.jsonl
      tubelet classify artifacts/vivit-b-16x2-kinetics400 --files list.txt --shard 2/8 --resume -o 2.jsonl
    """
    if backend == AUTO and ray is not None:
        raise click.UsageError("--backend auto is what was tuned on this machine, and --ray may have others")
    asked = settle(bundle, backend, precision, threads, say=note)
    loading = Loading(asked.path, asked.backend, asked.precision, asked.threads, reading)
    batch = batch or (1 if asked.tuned is None else asked.tuned.batch)
    if files is None:
        if not videos:
            raise click.UsageError("name a VIDEO, or an archive by --files")
        if shard is not None or output is not None or resume or ray is not None or models is not None:
            raise click.UsageError("--shard, -o, --resume, --ray and --models are for an archive: name it by --files")
        if as_json and json_lines:
            raise click.UsageError("--json is one document, --json-lines one a line: take one of them")
        classify_videos(loading, videos, top_k, batch, workers, as_json=as_json, json_lines=json_lines)
        return
    if videos or as_json or json_lines:
        raise click.UsageError("--files stands in place of VIDEO, --json and --json-lines")
    if output is None:
        raise click.UsageError("--files needs -o FILE, where its rows go")
    if models is not None and ray is None:
        raise click.UsageError("--models is how many a cluster has: name it by --ray")
    asked_for = click.get_current_context().get_parameter_source("workers")
    if ray is not None and asked_for is not ParameterSource.DEFAULT:
        raise click.UsageError("--workers are threads of this machine; readers on --ray come and go by themselves")
    rows_of = rows_here(loading, top_k, batch, workers) if ray is None else rows_on(ray, models, loading, top_k, batch)
    classify_archive(loading, files, shard or Shard(), output, rows_of, resume=resume, top_k=top_k)


def rows_here(loading: Loading, top_k: int, batch: int, workers: int) -> "Classify":
    from ..runtime.archive.run import classify_here

    return partial(classify_here, loading, top_k=top_k, batch=batch, workers=workers)


def rows_on(ray: str, models: int | None, loading: Loading, top_k: int, batch: int) -> "Classify":
    from ..serve.batch.on_ray import classify_on_ray

    return partial(classify_on_ray, loading, address=ray, models=models, top_k=top_k, batch=batch)


def classify_videos(
    loading: Loading,
    videos: tuple[str, ...],
    top_k: int,
    batch: int,
    workers: int,
    *,
    as_json: bool,
    json_lines: bool,
) -> None:
    """Print what happens in each video. Raises Exit(1) where one could not be read."""
    documents = []
    failed = False
    with StatusLine() as progress, with_standard_input(videos) as given:
        progress("loading")
        with loading.load() as model:
            progress(f"classifying {videos[0]}")
            results = model.classify_many(given, top_k=top_k, batch=batch, workers=workers)
            for number, result in enumerate(results, start=1):
                progress.clear()
                failed = failed or result.error is not None
                if result.error is not None:
                    click.echo(f"Error: {result.error}", err=True)
                if json_lines:
                    click.echo(json.dumps(result.to_json(loading.reading)))
                elif as_json:
                    documents.append(result.to_json(loading.reading))
                elif result.error is None:
                    print_predictions(result, name_video=len(videos) > 1)
                if number < len(videos):
                    progress(f"classifying {videos[number]} ({number + 1} of {len(videos)})")
    if as_json:
        print_json(documents if len(videos) > 1 else documents[0])
    if failed:
        raise click.exceptions.Exit(1)


def classify_archive(
    loading: Loading,
    files: str,
    shard: Shard,
    output: Path,
    rows_of: "Classify",
    *,
    resume: bool,
    top_k: int,
) -> None:
    """Write a row for each video of an archive, and print how many there were."""
    from ..runtime.archive.run import classify_files

    with StatusLine() as progress:
        progress(f"listing {files}")
        names = names_of(files, shard)
        progress("loading")
        count = classify_files(
            loading,
            names,
            output,
            shard=shard,
            resume=resume,
            top_k=top_k,
            classify=rows_of,
            progress=progress,
            say=progress.aside(note),
        )
    click.echo(count.summary(output))


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
