"""`tubelet bench`."""

import shlex
import sys
from pathlib import Path

import click

from ..bench.baselines import BASELINES
from ..runtime.backends import BACKENDS, DEFAULT_BACKEND
from ..runtime.bounds import ROUNDS, STARTS, THREADS
from ..runtime.bundle.bundle import Bundle
from ..runtime.progress import StatusLine
from ..runtime.storage.written import written_file
from .options import Bounded, bundle_argument, json_option, print_json


@click.command()
@bundle_argument
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
    help="A precision to measure with each backend; may be repeated.",
)
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
    "repeated. torch is torch-sdpa; torch-transformers is the model of transformers.",
)
@click.option("--model", metavar="ID|FOLDER", help="The checkpoint for --against.  [default: the bundle's, on the Hub]")
@click.option(
    "--video",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Begin the stages with decoding this video.",
)
@click.option("--rounds", type=Bounded(ROUNDS), default=10, show_default=True, help="Visits to each subject.")
@click.option("--starts", type=Bounded(STARTS), default=3, show_default=True, help="Cold starts of each subject.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write a page with plots, an HTML file that needs nothing else.",
)
@json_option
def bench(
    bundle: Path,
    backends: tuple[str, ...],
    precisions: tuple[str, ...],
    batches: tuple[int, ...],
    threads: int | None,
    against: tuple[str, ...],
    model: str | None,
    video: Path | None,
    rounds: int,
    starts: int,
    report: Path | None,
    as_json: bool,
) -> None:
    """Measure how fast BUNDLE is here: time, memory and start, beside other precisions and beside torch.

    Each subject runs in a process of its own, and they are visited in turn, so that a machine whose speed
    drifts does so for all of them. The first --against is what the others are compared with, or the first
    backend and precision where there is none.

    \b
    Example:
      tubelet bench artifacts/vivit-b-16x2-kinetics400 --precision fp32 --precision int8 --report bench.html
      tubelet bench artifacts/vivit-b-16x2-kinetics400 --against torch-eager --against torch-sdpa --batch 1 --batch 2
    """
    from ..bench.bench import bench_bundle
    from ..bench.page import load_template, page

    if report is not None and not report.parent.is_dir():
        raise click.BadParameter(f"the folder {report.parent} does not exist", param_hint="--report")
    if report is not None:
        load_template()  # what it lacks is an error before anything is measured
    opened = Bundle.open(bundle)
    with StatusLine() as progress:
        found = bench_bundle(
            opened,
            [(backend, precision) for backend in backends for precision in precisions],
            against=["torch-sdpa" if name == "torch" else name for name in against],
            batches=batches,
            threads=threads,
            rounds=rounds,
            starts=starts,
            video=video,
            model=model,
            command=shlex.join(["tubelet", *sys.argv[1:]]),
            progress=progress,
        )
    if report is not None:
        with written_file(report, follow_link=True) as beside:
            beside.write_text(page(found), encoding="utf-8")
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(found.table())
