"""`tubelet evaluate`."""

from pathlib import Path

import click

from ..runtime.archive.loading import Loading
from ..runtime.backends import BACKENDS, DEFAULT_BACKEND
from ..runtime.bounds import THREADS, WORKERS
from ..runtime.precisions import BackendName
from ..runtime.progress import StatusLine
from ..runtime.reading import Reading
from ..runtime.storage.written import written_file
from .options import Bounded, bundle_argument, json_option, note, print_json
from .reading_options import reading_options


@click.command()
@bundle_argument
@click.option(
    "--labels-csv",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A video and its label on each line, or the columns that the first line names.",
)
@click.option("--root", metavar="FOLDER|URL", help="Where the videos lie.  [default: the working directory]")
@click.option(
    "--backend",
    "backends",
    multiple=True,
    type=click.Choice(list(BACKENDS)),
    default=(DEFAULT_BACKEND,),
    show_default=True,
    help="What executes the graphs; may be repeated.",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    default=("fp32",),
    show_default=True,
    help="A precision to evaluate with each backend; may be repeated.",
)
@click.option("--threads", type=Bounded(THREADS), help="CPU threads that compute one batch.  [default: the engine's]")
@reading_options
@click.option(
    "--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Clips in one run of the graph."
)
@click.option(
    "--workers", type=Bounded(WORKERS), default=2, show_default=True, help="Threads that read ahead of the model."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Keep what is said of every video here, BACKEND-PRECISION.jsonl.",
)
@click.option("--resume", is_flag=True, help="Go on with the rows that are in FOLDER.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write a page with confusion matrices, an HTML file that needs nothing else.",
)
@json_option
def evaluate(
    bundle: Path,
    labels_csv: Path,
    root: str | None,
    backends: tuple[BackendName, ...],
    precisions: tuple[str, ...],
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
    if report is not None and not report.parent.is_dir():
        raise click.BadParameter(f"the folder {report.parent} does not exist", param_hint="--report")
    if report is not None:
        load_template()  # what it lacks is an error before anything is evaluated
    with StatusLine() as progress:
        found = evaluate_bundle(
            Loading(bundle, threads=threads, reading=reading),
            labels_csv,
            root=root,
            subjects=[(backend, precision) for backend in backends for precision in precisions],
            rows=output,
            resume=resume,
            batch=batch,
            workers=workers,
            progress=progress,
            say=progress.aside(note),
        )
    if report is not None:
        with written_file(report, follow_link=True) as beside:
            beside.write_text(page(found), encoding="utf-8")
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(found.table())
