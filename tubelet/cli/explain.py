"""`tubelet explain`."""

from pathlib import Path
from typing import get_args

import click

from ..preprocess.sources import name_of
from ..runtime.load import load
from ..runtime.progress import StatusLine
from ..runtime.reading import Reading
from ..runtime.visual.picture_files import check_picture, write_panels
from ..runtime.visual.rollout import Method
from .options import check_no_video, engine_options, json_option, note, print_json, runnable_argument
from .picture_options import picture_options
from .reading_options import one_view_options
from .standard_input import with_standard_input


@click.command()
@runnable_argument
@click.argument("video", metavar="VIDEO")
@picture_options
@click.option(
    "--method",
    type=click.Choice(get_args(Method)),
    default="rollout",
    show_default=True,
    help="rollout: attention followed through all layers; last: that of the last layer.",
)
@one_view_options
@engine_options
@json_option
def explain(
    bundle: Path | str,
    video: str,
    output: Path,
    shown: int,
    force: bool,
    method: Method,
    reading: Reading,
    backend: str,
    precision: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Show where in VIDEO the model looked.

    Draws the clip that the model sees, and the same under a map of its attention. Bright is where much of the answer
    came from. Needs a bundle that was exported with attentions.

    \b
    Example:
      tubelet explain artifacts/vivit-b-16x2-kinetics400 archery.mp4 -o archery-attention.mp4
      tubelet explain artifacts/vivit-b-16x2-kinetics400 archery.mp4 -o archery-attention.png --method last
    """
    check_no_video([output], [video])
    check_picture(output, force=force)
    with StatusLine() as progress, with_standard_input([video]) as (given,):
        progress("loading")
        with load(
            bundle,
            task=None,
            backend=backend,
            precision=precision,
            threads=threads,
            reading=reading,
            say=progress.aside(note),
        ) as model:
            progress(f"explaining {video}")
            found = model.explain(given, method=method)
        progress(f"writing {output}")
        write_panels(output, [found.frames, found.overlay()], found.seconds, shown=shown, force=force)
    if as_json:
        slices = [round(share, 6) for share in found.heat.sum(axis=(1, 2)).tolist()]  # (T', H', W') -> (T')
        print_json({"video": name_of(video), "picture": str(output), "method": method, "attention_over_time": slices})
    else:
        click.echo(f"{output} is ready")
