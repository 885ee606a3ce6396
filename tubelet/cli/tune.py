"""`tubelet tune`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..runtime.backends import BACKENDS
from ..runtime.bundle.bundle import Bundle
from ..runtime.hub import HubAddress, fetch_bundle, is_on_hub
from ..runtime.precisions import BackendName
from ..runtime.progress import StatusLine
from ..runtime.tuning.auto import checksum_of
from ..runtime.tuning.machine import TunedMachine
from ..runtime.tuning.record import path_to_write
from .options import EXISTING_FILE, json_option, print_json, runnable_argument
from .subject_options import report_option, require_place, write_page


@click.command()
@runnable_argument
@click.option(
    "--min-cosine",
    type=float,
    metavar="C",
    help="What the smallest cosine to torch has to be.  [default: the limit of each precision, as for check]",
)
@click.option(
    "--video",
    "videos",
    multiple=True,
    type=EXISTING_FILE,
    metavar="FILE",
    help="Compare clips of this video too, with what fp32 answers to them; may be repeated.",
)
@click.option(
    "--labels-csv",
    type=EXISTING_FILE,
    metavar="FILE",
    help="Show how often the fastest are right as well: a video and its label on each line, as for evaluate.",
)
@click.option("--root", metavar="FOLDER|URL", help="Where those videos lie.  [default: the working directory]")
@click.option("--min-accuracy", type=float, metavar="PERCENT", help="What share of those videos has to be right.")
@click.option(
    "--backend",
    "backends",
    multiple=True,
    type=click.Choice(list(BACKENDS)),
    help="Try this one only; may be repeated.  [default: all]",
)
@report_option("the frontier of speed against accuracy")
@json_option
def tune(
    bundle: Path | str,
    min_cosine: float | None,
    videos: tuple[Path, ...],
    labels_csv: Path | None,
    root: str | None,
    min_accuracy: float | None,
    backends: tuple[BackendName, ...],
    report: Path | None,
    as_json: bool,
) -> None:
    """Find out what runs BUNDLE best on this machine, and keep it for --backend auto.

    Tries every engine that is installed, in every precision that BUNDLE has a graph for. Tries fewer threads, and
    more clips at once. Each is held against torch and measured in turn with the others. The fastest that is near enough
    is chosen, and proven as check does. The choice is written beside BUNDLE, for this kind of machine.

    \b
    Example:
      tubelet tune artifacts/vivit-b-16x2-kinetics400
      tubelet tune artifacts/vivit-b-16x2-kinetics400 --min-cosine 0.9999 --video archery.mp4 --report tune.html
      tubelet classify artifacts/vivit-b-16x2-kinetics400 archery.mp4 --backend auto
    """
    from ..bench.tuning.page import load_template, page
    from ..bench.tuning.table import table
    from ..bench.tuning.tune import Labelled, tune_bundle

    if labels_csv is None and (min_accuracy is not None or root is not None):
        raise click.UsageError("--min-accuracy and --root are about labelled videos: name them by --labels-csv")
    if report is not None:
        require_place(report)
        load_template()  # what it lacks is an error before anything is measured
    with StatusLine() as progress:
        if is_on_hub(bundle):
            opened, _ = fetch_bundle(HubAddress.parse(str(bundle)), progress=progress)
        else:
            opened = Bundle.open(bundle)
        folder = None if is_on_hub(bundle) else opened.path
        place = path_to_write(folder, checksum_of(opened), TunedMachine.here())
        found = tune_bundle(
            opened,
            address=str(bundle) if is_on_hub(bundle) else None,
            backends=backends,
            min_cosine=min_cosine,
            labelled=None if labels_csv is None else Labelled(labels_csv, root, min_accuracy),
            videos=videos,
            arguments=tuple(
                arguments_of(
                    min_cosine=min_cosine,
                    video=videos,
                    labels_csv=labels_csv,
                    root=root,
                    min_accuracy=min_accuracy,
                    backend=backends,
                )
            ),
            progress=progress,
        )
    found.write(place)
    if report is not None:
        write_page(report, page(found))
    if as_json:
        print_json(found.to_json() | {"written_to": str(place)})
    else:
        click.echo(f"{table(found)}\nwritten to {place}, for --backend auto")


def arguments_of(**given: Any) -> Iterator[str]:
    """The command line of the options that were given, by the names of their parameters."""
    for name, value in given.items():
        option = f"--{name.replace('_', '-')}"
        for one in value if isinstance(value, tuple) else (value,):
            if one is not None:
                yield from (option, str(one))
