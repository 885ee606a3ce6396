"""`tubelet evaluate`."""

from pathlib import Path

import click

from ..runtime.archive.loading import Loading
from ..runtime.precisions import BackendName
from ..runtime.progress import StatusLine
from ..runtime.reading import Reading
from .options import (
    EXISTING_FILE,
    batch_option,
    bundle_argument,
    json_option,
    note,
    print_json,
    threads_option,
    workers_option,
)
from .reading_options import reading_options
from .subject_options import report_option, require_place, subject_options, write_page


@click.command()
@bundle_argument
@click.option(
    "--labels-csv",
    required=True,
    type=EXISTING_FILE,
    metavar="FILE",
    help="A video and its label on each line, or the columns that the first line names.",
)
@click.option("--root", metavar="FOLDER|URL", help="Where the videos lie.  [default: the working directory]")
@subject_options("evaluate")
@threads_option
@reading_options
@batch_option
@workers_option
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Keep what is said of every video here, BACKEND-PRECISION.jsonl.",
)
@click.option("--resume", is_flag=True, help="Go on with the rows that are in FOLDER.")
@report_option("confusion matrices")
@json_option
def evaluate(
    bundle: Path,
    labels_csv: Path,
    root: str | None,
    subjects: list[tuple[BackendName, str]],
    threads: int | None,
    reading: Reading,
    batch: int,
    workers: int,
    output: Path | None,
    resume: bool,
    report: Path | None,
    as_json: bool,
) -> None:
    """Say how often BUNDLE is right on a labelled set: top-1, top-5, mean per class.

    Each backend and precision sees the same videos, and is compared with the first. Videos that cannot be read are
    left out, and counted. A run that was killed goes on with -o FOLDER --resume.

    \b
    Example:
      tubelet evaluate artifacts/videomae-base-finetuned-kinetics --labels-csv val.csv --root k400/ --views 5x3
      tubelet evaluate artifacts/demo-videomae --labels-csv val.csv --precision fp32 --precision int8 --report val.html
    """
    from ..runtime.evaluation.page import load_template, page
    from ..runtime.evaluation.run import evaluate as evaluate_bundle

    if resume and output is None:
        raise click.UsageError("--resume goes on with the rows of a folder: name it by -o")
    if report is not None:
        require_place(report)
        load_template()  # what it lacks is an error before anything is evaluated
    with StatusLine() as progress:
        found = evaluate_bundle(
            Loading(bundle, threads=threads, reading=reading),
            labels_csv,
            root=root,
            subjects=subjects,
            rows=output,
            resume=resume,
            batch=batch,
            workers=workers,
            progress=progress,
            say=progress.aside(note),
        )
    if report is not None:
        write_page(report, page(found))
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(found.table())
