"""`tubelet timeline`."""

from dataclasses import replace
from pathlib import Path

import click

from ..preprocess.sources import Source
from ..runtime.load import load
from ..runtime.progress import StatusLine
from ..runtime.reading import Reading
from ..runtime.stream.events import EventRule
from .event_options import event_options, no_event
from .options import bundle_argument, check_no_video, engine_options, note
from .reading_options import stream_reading_options, url_option
from .standard_input import with_standard_input


@click.command()
@bundle_argument
@click.argument("video", metavar="VIDEO")
@click.option(
    "-o",
    "--output",
    "outputs",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A .html or .png to look at, a .vtt of subtitles, a .csv of events, a .json of everything. May be repeated.",
)
@click.option("--every", type=float, default=0.5, show_default=True, help="Seconds from one window to the next.")
@event_options
@stream_reading_options
@url_option
@engine_options
@click.option("--force", is_flag=True, help="Replace a file that is there already.")
def timeline(
    bundle: Path,
    video: str,
    outputs: tuple[Path, ...],
    every: float,
    rule: EventRule,
    reading: Reading,
    allow_url: bool,
    backend: str,
    precision: str | None,
    threads: int | None,
    force: bool,
) -> None:
    """Show what happens when in a long VIDEO.

    A VIDEO is a file, - for standard input, or a URL with --allow-url. A page shows the scores over time, the events
    and a picture of each. It is one file that needs nothing else.

    \b
    Example:
      tubelet timeline artifacts/demo-videomae artifacts/demo-videos/changes.mp4 -o changes.html
      tubelet timeline artifacts/vivit-b-16x2-kinetics400 match.mp4 -o match.html -o match.vtt --labels archery
    """
    from ..serve.timeline.record import record
    from ..serve.timeline.times import clock
    from ..serve.timeline.write import check_target, write_timeline

    check_no_video(outputs, [video])
    for number, output in enumerate(outputs):
        check_target(output, force=force)
        if output.resolve() in (other.resolve() for other in outputs[:number]):
            raise click.UsageError(f"{output} is given twice")
    with StatusLine() as progress, with_standard_input([video]) as (given,):
        source = replace(Source.of(given, allow_url=allow_url), track=reading.track, max_mb=reading.max_mb)
        progress("loading")
        with load(
            bundle,
            backend=backend,
            precision=precision,
            threads=threads,
            reading=reading,
            say=progress.aside(note),
        ) as model:
            found = record(model, source, every=every, rule=rule, say=progress)
        for output in outputs:
            progress(f"writing {output}")
            write_timeline(found, source, output, rotate=reading.rotate, on_error=reading.on_error, force=force)
    events, answers = len(found.events), found.answers
    if events:
        click.echo(f"{events} event{'' if events == 1 else 's'} in {len(answers.seconds)} windows")
    else:
        numbers = rule.numbers(found.labels)
        scores = found.steps.scores[:, numbers]
        step, place = divmod(int(scores.argmax()), len(numbers))
        label, at = found.labels[numbers[place]], clock(float(found.steps.seconds[step]), tenths=True)
        note(no_event(rule, len(answers.seconds), score=float(scores[step, place]), label=label, at=at))
    for output in outputs:
        click.echo(f"{output} is ready")
