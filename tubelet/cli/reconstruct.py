"""`tubelet reconstruct`."""

from pathlib import Path

import click

from ..preprocess.sources import name_of
from ..runtime.load import load
from ..runtime.progress import StatusLine
from ..runtime.reading import Reading
from ..runtime.visual.picture_files import check_picture, write_panels
from .options import check_no_video, engine_options, json_option, note, print_json, runnable_argument
from .picture_options import picture_options
from .reading_options import one_view_options
from .standard_input import with_standard_input


@click.command()
@runnable_argument
@click.argument("video", metavar="VIDEO")
@picture_options
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which tokens are hidden.")
@one_view_options
@engine_options
@json_option
def reconstruct(
    bundle: Path | str,
    video: str,
    output: Path,
    shown: int,
    force: bool,
    seed: int,
    reading: Reading,
    backend: str,
    precision: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Hide most of VIDEO from a pretrained VideoMAE, and show what it makes of the rest.

    Original, masked and reconstructed frames, above one another in a .png, side by side in an .mp4 or .gif. How many
    tokens are hidden is fixed in BUNDLE. The places are drawn from --seed, the same at all times of the clip.

    \b
    Example:
      tubelet reconstruct artifacts/videomae-base archery.mp4 -o archery.png
      tubelet reconstruct artifacts/videomae-base archery.mp4 -o archery.mp4 --seed 7
    """
    check_no_video([output], [video])
    check_picture(output, force=force)
    with StatusLine() as progress, with_standard_input([video]) as (given,):
        progress("loading")
        with load(
            bundle,
            task="masked-modeling",
            backend=backend,
            precision=precision,
            threads=threads,
            reading=reading,
            say=progress.aside(note),
        ) as model:
            progress(f"reconstructing {video}")
            found = model.reconstruct(given, seed=seed)
        progress(f"writing {output}")
        panels = [found.original, found.masked, found.reconstructed]
        write_panels(output, panels, found.seconds, shown=shown, force=force)
    masked, tokens = found.mask.masked.size, found.mask.masked.size + found.mask.visible.size
    if as_json:
        print_json(
            {
                "video": name_of(video),
                "picture": str(output),
                "tokens": tokens,
                "masked": masked,
                "loss": round(found.loss, 6),
            }
        )
    else:
        click.echo(f"{masked} of {tokens} tokens masked, loss {found.loss:.4f}\n{output} is ready")
