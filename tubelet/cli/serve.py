"""`tubelet serve`."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click
from click.core import ParameterSource

from ..preprocess.errors import MissingExtra
from ..runtime.load import load
from ..runtime.progress import StatusLine
from .options import BundlePath, engine_options, note


@click.command()
@click.argument("bundles", metavar="BUNDLE...", type=BundlePath(on_hub=True), nargs=-1, required=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is all of them.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 takes one that is free."
)
@click.option("--workers", type=int, default=2, show_default=True, help="Threads that decode and prepare.")
@click.option(
    "--batch",
    type=int,
    default=8,
    help="Clips of all clients in one run of the graph.  [default: 8, or what auto is]",
)
@click.option("--delay-ms", type=float, default=5.0, show_default=True, help="How long a clip waits for others.")
@click.option("--queue", type=int, default=256, show_default=True, help="Requests taken at once; more hear 503.")
@click.option("--max-mb", type=int, default=64, show_default=True, help="MiB that the body of a request may have.")
@click.option(
    "--max-pixel-mb",
    type=int,
    default=256,
    show_default=True,
    help="MiB of pixels held while a video is read; a quarter of it for one frame.",
)
@click.option("--max-seconds", type=float, default=600.0, show_default=True, help="How long a video may last.")
@click.option(
    "--timeout-s",
    type=float,
    default=60.0,
    show_default=True,
    help="Seconds for a request to arrive, and again for its answer.",
)
@engine_options
def serve(
    bundles: tuple[Path | str, ...],
    host: str,
    port: int,
    workers: int,
    batch: int,
    delay_ms: float,
    queue: int,
    max_mb: int,
    max_pixel_mb: int,
    max_seconds: float,
    timeout_s: float,
    backend: str,
    precision: str | None,
    threads: int | None,
) -> None:
    """Serve each BUNDLE over HTTP, with a page to try it on.

    Videos of many clients are decoded in threads and go through the graph in
    batches. A BUNDLE is a folder or hf://owner/name@REV. Ctrl-C or SIGTERM ends
    it when what was taken has been answered. Only this machine can connect
    unless --host says otherwise; there is no password. Needs the extra serve.

    \b
    Example:
      tubelet serve artifacts/vivit-b-16x2-kinetics400
      curl --data-binary @archery.mp4 'http://127.0.0.1:8000/v1/classify?top_k=3'
    """
    try:
        from ..serve.http.application import create_app
        from ..serve.http.limits import Limits
        from ..serve.http.server import listening, serve_until_signal, url_of
        from ..serve.http.service import named
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("tubelet"):
            raise
        raise MissingExtra(error.name, "serve", purpose="to serve bundles over HTTP") from error
    limits = Limits(queue, workers, batch, delay_ms, max_mb, max_pixel_mb, max_seconds, timeout_s)
    with ExitStack() as opened:
        socket = opened.enter_context(listening(host, port))
        with StatusLine() as progress:
            progress("loading")
            say = progress.aside(note)
            models = [
                opened.enter_context(load(bundle, backend=backend, precision=precision, threads=threads, say=say))
                for bundle in bundles
            ]
        served = named(list(zip(map(name_of, bundles), models, strict=True)))
        tuned = [model.tuned.batch for model in models if model.tuned is not None]
        if tuned and click.get_current_context().get_parameter_source("batch") is ParameterSource.DEFAULT:
            limits = replace(limits, batch=max(tuned))
        serve_until_signal(
            create_app(served, limits),
            socket,
            timeout_s=timeout_s,
            started=lambda: click.echo(f"{', '.join(served)} on {url_of(socket)}"),
        )


def name_of(bundle: Path | str) -> str:
    """What clients call a bundle: the name of its folder, or of its repository on the Hub."""
    return bundle.rpartition("/")[2].partition("@")[0] if isinstance(bundle, str) else bundle.resolve().name
