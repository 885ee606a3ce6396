"""`tubelet quantize`: needs onnx, which is imported when it runs, and no torch."""

import importlib.util
from pathlib import Path

import click

from ..preprocess.errors import MissingExtra, TubeletError
from ..runtime.bundle.bundle import Bundle
from ..runtime.bundle.parity_report import ParityReport
from ..runtime.precisions import GRAPH_PRECISIONS, GraphPrecision
from ..runtime.progress import StatusLine
from .options import NameList, bundle_argument, calibrate_option, each_once, json_option, note, print_json


def require_quantize_packages() -> None:
    """Raise MissingExtra for the first package that a graph of lower precision would miss."""
    for package, extra in (("onnx", "quantize"), ("onnx_ir", "quantize"), ("onnxruntime", "cpu")):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, extra, purpose="to make a graph of lower precision")


@click.command()
@bundle_argument
@click.option(
    "--precision",
    "precisions",
    required=True,
    multiple=True,
    callback=each_once,
    type=NameList(GRAPH_PRECISIONS),
    metavar="P[,P...]",
    help="The graphs to add: fp16, int8, int8-static, fp8.",
)
@calibrate_option
@click.option("--force", is_flag=True, help="Replace graphs that are there already.")
@json_option
def quantize(
    bundle: Path, precisions: tuple[GraphPrecision, ...], calibrate: tuple[Path, ...], force: bool, as_json: bool
) -> None:
    """Add graphs of lower precision to BUNDLE, each proven before it is kept.

    Exits with 3 when one is outside its limit; BUNDLE then has those that were proven before it.

    \b
    Example:
      tubelet quantize artifacts/vivit-b-16x2-kinetics400 --precision fp16,int8
      tubelet quantize artifacts/gestures --precision int8-static --calibrate clips/
    """
    require_quantize_packages()
    from ..exporter.lower.calibration import calibration_videos
    from ..exporter.lower.search import add_graph

    opened = Bundle.open(bundle)
    reports: list[ParityReport] = []
    with StatusLine() as progress:
        say = progress.aside(note)
        videos = calibration_videos(calibrate, say=say)
        for precision in precisions:
            try:
                opened, report = add_graph(opened, precision, calibrate=videos, force=force, progress=progress, say=say)
            except TubeletError:
                if reports:
                    say(f"{bundle} has {_precisions_of(opened)} by now")
                raise
            reports.append(report)
    if as_json:
        print_json({"bundle": str(bundle), "parity": [report.to_json() for report in reports]})
        return
    for report in reports:
        graph = opened.graph(report.precision)
        click.echo("\n".join([report.table(), *(f"note: {note}" for note in graph.notes), ""]))
    if opened.merging is not None:
        click.echo("\n".join([*(f"merging: {line}" for line in opened.merging.lines()), ""]))
    click.echo(f"{bundle} has {_precisions_of(opened)}")


def _precisions_of(bundle: Bundle) -> str:
    return ", ".join(graph.precision for graph in bundle.graphs)
