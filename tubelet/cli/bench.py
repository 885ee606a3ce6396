"""`tubelet bench`."""

import shlex
import sys
from pathlib import Path

import click
from click.core import ParameterSource

from ..bench.baselines import BASELINES, TRANSFORMERS
from ..runtime.bounds import ROUNDS, STARTS, THREADS
from ..runtime.bundle.bundle import Bundle
from ..runtime.precisions import BackendName
from ..runtime.progress import StatusLine
from .options import EXISTING_FILE, Bounded, bundle_argument, json_option, print_json
from .subject_options import report_option, require_place, subject_options, write_page

# What has no meaning where files are measured, each a batch of one.
_OF_CLIPS = {"batches": "--batch", "video": "--video", "starts": "--starts", "report": "--report"}


def _require_for_files(against: tuple[str, ...]) -> None:
    """Raise UsageError for options that --end-to-end cannot go with."""
    context = click.get_current_context()
    for name, option in _OF_CLIPS.items():
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"{option} does not go with --end-to-end, which takes files one by one")
    if set(against) - {TRANSFORMERS}:
        raise click.UsageError(f"with --end-to-end, --against takes {TRANSFORMERS} alone, which reads files")


@click.command()
@bundle_argument
@subject_options("measure")
@click.option(
    "--batch",
    "batches",
    multiple=True,
    type=click.IntRange(min=1),
    default=(1,),
    show_default=True,
    help="Clips at once; may be repeated.",
)
@click.option("--threads", type=Bounded(THREADS), help="CPU threads of each subject.  [default: the cores there are]")
@click.option(
    "--against",
    multiple=True,
    type=click.Choice(["torch", *BASELINES]),
    help="Measure the checkpoint in torch as well, or what another tool makes of it, and compare with it; may be "
    "repeated. torch is torch-sdpa; torch-transformers and torch-int8 are the model of transformers.",
)
@click.option("--model", metavar="ID|FOLDER", help="The checkpoint for --against.  [default: the bundle's, on the Hub]")
@click.option(
    "--video",
    type=EXISTING_FILE,
    metavar="FILE",
    help="Begin the stages with decoding this video.",
)
@click.option(
    "--end-to-end",
    "files",
    multiple=True,
    type=EXISTING_FILE,
    metavar="FILE",
    help="Measure files a second from path to label instead; may be repeated. The only --against is then "
    "torch-transformers, its pipeline for videos.",
)
@click.option("--rounds", type=Bounded(ROUNDS), default=10, show_default=True, help="Visits to each subject.")
@click.option("--starts", type=Bounded(STARTS), default=3, show_default=True, help="Cold starts of each subject.")
@report_option("plots")
@json_option
def bench(
    bundle: Path,
    subjects: list[tuple[BackendName, str]],
    batches: tuple[int, ...],
    threads: int | None,
    against: tuple[str, ...],
    model: str | None,
    video: Path | None,
    files: tuple[Path, ...],
    rounds: int,
    starts: int,
    report: Path | None,
    as_json: bool,
) -> None:
    """Measure how fast BUNDLE is here: time, memory and start, beside other precisions and beside torch.

    Each subject runs in a process of its own. They are visited in turn: a machine whose speed drifts does so for all of
    them. Others are compared with the first --against, or with the first backend and precision where there is none.

    \b
    Example:
      tubelet bench artifacts/vivit-b-16x2-kinetics400 --precision fp32 --precision int8 --report bench.html
      tubelet bench artifacts/vivit-b-16x2-kinetics400 --against torch-eager --against torch-sdpa --batch 1 --batch 2
      tubelet bench artifacts/vivit-b-16x2-kinetics400 --end-to-end archery.mp4 --end-to-end dancing.mp4
    """
    from ..bench.bench import bench_bundle
    from ..bench.end_to_end import bench_files
    from ..bench.page import load_template, page

    command = shlex.join(["tubelet", *sys.argv[1:]])
    if files:
        _require_for_files(against)
        with StatusLine() as progress:
            of_files = bench_files(
                Bundle.open(bundle),
                subjects,
                files,
                against_transformers=TRANSFORMERS in against,
                threads=threads,
                rounds=rounds,
                model=model,
                command=command,
                progress=progress,
            )
        print_json(of_files.to_json()) if as_json else click.echo(of_files.table())
        return
    if report is not None:
        require_place(report)
        load_template()  # what it lacks is an error before anything is measured
    opened = Bundle.open(bundle)
    with StatusLine() as progress:
        found = bench_bundle(
            opened,
            subjects,
            against=["torch-sdpa" if name == "torch" else name for name in against],
            batches=batches,
            threads=threads,
            rounds=rounds,
            starts=starts,
            video=video,
            model=model,
            command=command,
            progress=progress,
        )
    if report is not None:
        write_page(report, page(found))
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(found.table())
