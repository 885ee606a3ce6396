"""`tubelet triton`."""

import shlex
from pathlib import Path
from typing import Any

import click

from ..runtime.bounds import THREADS, Bound
from ..runtime.progress import StatusLine
from .options import Bounded, BundlePath, json_option, note, print_json

INSTANCES = Bound("instances", 1, 1000, "each is a process, or takes its own memory")
BATCH = Bound("batch", 1, 1024, "an engine is at its fastest long before")


@click.command()
@click.argument("bundles", metavar="BUNDLE...", type=BundlePath(), nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="REPO",
    help="The folder for tritonserver --model-repository; it may hold other models.",
)
@click.option(
    "--input",
    "input",
    type=click.Choice(["video", "clips", "frames"]),
    default="video",
    show_default=True,
    help="What clients send: the bytes of a file, clips as the graph takes them, or RGB frames of any size.",
)
@click.option(
    "--backend",
    type=click.Choice(["python", "onnxruntime", "tensorrt", "openvino"]),
    default="python",
    show_default=True,
    help="Triton's own; behind another than python a model in front prepares videos and frames.",
)
@click.option("--precision", default="fp32", show_default=True, help="What the backend computes in.")
@click.option("--instances", type=Bounded(INSTANCES), default=1, show_default=True, help="How many of each model.")
@click.option("--batch", type=Bounded(BATCH), default=8, show_default=True, help="Clips in one run at most.")
@click.option(
    "--delay-ms",
    type=float,
    default=2.0,
    show_default=True,
    help="How long the first request of a batch waits for others.",
)
@click.option(
    "--threads", type=Bounded(THREADS), help="CPU threads of each instance.  [default: the cores, shared among them]"
)
@click.option("--force", is_flag=True, help="Replace models of the same names that were written here before.")
@json_option
def triton(bundles: tuple[Path, ...], output: Path, force: bool, as_json: bool, **options: Any) -> None:
    """Write a model repository of Triton that serves each BUNDLE.

    A model has the name of its bundle's folder. It holds all that it needs, so the repository can be
    moved. README.md in it says how the server is started and asked.

    \b
    Example:
      tubelet triton artifacts/vivit-b-16x2-kinetics400 -o models
      tubelet triton artifacts/gestures -o models --precision int8 --instances 4 --threads 2
      tubelet triton artifacts/gestures -o models --backend onnxruntime --batch 16 --delay-ms 5
    """
    from ..serve.triton.planned import TritonOptions
    from ..serve.triton.repository import write_models

    with StatusLine() as progress:
        names = write_models(
            bundles, output, TritonOptions(**options), force=force, progress=progress, say=progress.aside(note)
        )
    if as_json:
        print_json({"repository": str(output), "models": names})
        return
    click.echo(
        f"{output} serves {', '.join(names)}; {output / 'README.md'} says how it is started and asked\n"
        f"  tritonserver --model-repository={shlex.quote(str(output))}"
    )
