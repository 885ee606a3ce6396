"""Whether a demo model finds every motion of a long film, when it begins and ends, and invents none.

    python scripts/score_events.py artifacts/demo-videomae --minutes 10

Films shapes as H.264. Each appears, rests, makes a motion, rests and vanishes, at times that are known. Then it watches
the film. Needs no torch. Exit code 1 where a motion is missed, an event is invented, or a time is off too far. That is
by more than a hop and half a window.
"""

import dataclasses
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import click
import numpy as np
from av.video.stream import VideoStream
from motion import LABELS, MOTIONS, STILL, Motion, Shape, motion_of, random_scene, render
from numpy.typing import NDArray

from tubelet import Event, EventRule, VideoClassifier, find_events, load
from tubelet.preprocess.errors import BundleError, OutOfBounds, TubeletError
from tubelet.runtime.backends import BACKENDS, DEFAULT_BACKEND
from tubelet.runtime.progress import StatusLine
from tubelet.runtime.stream.grid import grid_of

RATE, HEIGHT, WIDTH = 30, 120, 160
TURNS = ("turns clockwise", "turns counter-clockwise")
GROWTH = ("grows", "shrinks")
# About as slowly as in training, so that a long motion stays in the picture.
WAY = 0.95  # short sides, from one side of the middle to the other
GROWTH_SPEED, SMALL = 0.4, 0.16  # of the logarithm of the radius in a second; the radius that growth begins at
REST_SECONDS = 2.0  # that a shape may stand still for longer than it must
TRAVEL_SECONDS, TURN_SECONDS = 0.3, 2.0  # likewise of motions


@dataclass(frozen=True)
class Truth:
    """A motion of the film: what moves how, from when until when."""

    label: str
    begin: float
    end: float


@dataclass(frozen=True)
class Take:
    """A shape, until it has gone. truths: of the motions that it makes"""

    shape: Shape
    truths: tuple[Truth, ...]

    @property
    def end(self) -> float:
        return self.shape.visible[1]


def film(seed: int, seconds: float, *, window: float, least: float) -> list[Take]:
    """Shapes that come one after the other, each of which makes a motion between two rests.

    Shapes, motions and all times are drawn at random, within what the models were trained on. They saw one shape, which
    makes one motion, appears or vanishes. So a window sees one shape at most, and never none: one appears as long after
    another has vanished as a window spans. A rest is as long as a window at least. No shape is large when it appears or
    vanishes: what grows shrinks again.

    Args:
        seed: of the film.
        seconds: that it lasts at most.
        window: seconds from the first frame of a window to its last.
        least: seconds that a motion takes, or more.

    Returns:
        The takes, in order.
    """
    random = np.random.default_rng(seed)
    takes: list[Take] = []
    while True:
        appears = window + (takes[-1].end if takes else 0.0)
        shape, label, pace = Shape.at_random(random), str(random.choice(MOTIONS)), random.uniform()
        motions, now = [], appears
        for one in GROWTH if label in GROWTH else (label,):
            begin = now + window + random.uniform(0, REST_SECONDS)
            now = begin + least + random.uniform(0, TURN_SECONDS if label in TURNS else TRAVEL_SECONDS)
            motions.append((Truth(one, begin, now), _motion(one, pace, begin, now)))
        vanishes = now + window + random.uniform(0, REST_SECONDS)
        if vanishes > seconds:
            return takes
        truths, moved = zip(*motions, strict=True)
        shape = replace(_before(shape, moved[0]), motions=moved, visible=(appears, vanishes))
        takes.append(Take(shape, truths))


def _motion(label: str, pace: float, begin: float, end: float) -> Motion:
    """A turn of that pace, or what goes its whole way from `begin` to `end`."""
    motion = motion_of(label, pace)
    if label not in TURNS:
        y, x = (float(np.sign(speed)) * WAY / (end - begin) for speed in motion.velocity)
        motion = Motion(velocity=(y, x), growth=float(np.sign(motion.growth)) * GROWTH_SPEED)
    return replace(motion, from_seconds=begin, until_seconds=end)


def _before(shape: Shape, motion: Motion) -> Shape:
    """The shape before a motion: on one side of the middle, or small."""
    y, x = (
        -float(np.sign(speed)) * WAY / 2 if speed else place
        for speed, place in zip(motion.velocity, shape.centre, strict=True)
    )
    return replace(shape, centre=(y, x), radius=SMALL if motion.growth else shape.radius)


def pictures(seed: int, takes: Sequence[Take]) -> Iterator[NDArray[np.uint8]]:
    """The frames of the film, about a second at a time, each with noise of its own."""
    look = random_scene(STILL, seed)  # whose background and camera all shapes share
    done = 0
    for take in takes:
        until = round(take.end * RATE)
        for first in range(done, until, RATE):
            frames = np.arange(first, min(first + RATE, until))
            scene = replace(look, shape=take.shape, noise_seed=look.noise_seed + first)
            yield from render(scene, frames / RATE, HEIGHT, WIDTH)
        done = until


def write_film(path: Path, seed: int, takes: Sequence[Take]) -> None:
    """Write the film as H.264, a frame at a time."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "23", "preset": "veryfast", "threads": "1"})
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for number, picture in enumerate(pictures(seed, takes)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@dataclass(frozen=True)
class Score:
    """Events beside the truth.

    limit:    seconds that a begin or end may be off, a hop and half a window
    begins:   how far each begin that was found is from the true one
    missed:   motions that no event of their label has
    invented: events that are no motion
    late:     motions whose begin or end is off by more than the limit
    """

    motions: int
    limit: float
    begins: tuple[float, ...]
    ends: tuple[float, ...]
    missed: tuple[Truth, ...]
    invented: tuple[Event, ...]
    late: tuple[Truth, ...]

    @property
    def is_perfect(self) -> bool:
        return not (self.missed or self.invented or self.late)

    def table(self) -> str:
        lines = [f"{self.motions} motions: {len(self.missed)} missed, {len(self.invented)} invented"]
        for name, off in (("begins", self.begins), ("ends", self.ends)):
            if off:
                sizes = np.abs(off)
                lines.append(
                    f"{name} off by {np.mean(off):+.2f} s on average, {np.mean(sizes):.2f} s without sign, "
                    f"{sizes.max():.2f} s at most; {self.limit:.2f} s allowed"
                )
        lines += [f"missed   {truth.label}, {truth.begin:.2f} to {truth.end:.2f}" for truth in self.missed]
        lines += [f"late     {truth.label}, {truth.begin:.2f} to {truth.end:.2f}" for truth in self.late]
        lines += [f"invented {e.label}, {e.begin:.2f} to {e.end:.2f}, {e.score:.0%}" for e in self.invented]
        return "\n".join(lines)


def compare(truths: Sequence[Truth], events: Sequence[Event], limit: float) -> Score:
    """Hold closed events against the truth. Each motion takes the event of its label that overlaps it most; no event
    counts twice.
    """
    left = [event for event in events if not event.open]
    begins, ends, missed, late = [], [], [], []
    for truth in truths:
        own = [event for event in left if event.label == truth.label and _overlap(truth, event) > 0]
        if not own:
            missed.append(truth)
            continue
        best = max(own, key=lambda event: _overlap(truth, event))
        left.remove(best)
        begins.append(best.begin - truth.begin)
        ends.append(best.end - truth.end)
        if max(abs(begins[-1]), abs(ends[-1])) > limit:
            late.append(truth)
    return Score(len(truths), limit, tuple(begins), tuple(ends), tuple(missed), tuple(left), tuple(late))


def _overlap(truth: Truth, event: Event) -> float:
    """Seconds; an event of a single window, which has no length, counts where it lies inside."""
    return min(truth.end, event.end) - max(truth.begin, event.begin) + 1e-9


def score_events(model: VideoClassifier, folder: Path, *, seed: int, seconds: float, every: float) -> Score:
    """Write a film of motions into `folder`, watch it, and hold the events against what happens in it.

    Events are those of the default rule. A motion fills windows for as long as the rule asks of an event.
    """
    rule, grid = EventRule(labels=MOTIONS), grid_of(model.spec, fps=None, every=every)
    takes = film(seed, seconds, window=grid.span, least=rule.min_seconds + every + grid.span)
    if not takes:
        raise OutOfBounds(f"a film of {seconds:g} s with a window every {every:g} s has no time for a motion")
    path = folder / f"{seed}.mp4"
    write_film(path, seed, takes)
    events = list(find_events(model.watch(path, every=every), rule))
    return compare([truth for take in takes for truth in take.truths], events, every + grid.span / 2)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--minutes", type=click.FloatRange(1, 1440), default=10.0, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--every", type=float, default=0.5, show_default=True)
@click.option("--backend", type=click.Choice(list(BACKENDS)), default=DEFAULT_BACKEND, show_default=True)
@click.option("--precision", default="fp32", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def main(bundle: Path, minutes: float, seed: int, every: float, backend: str, precision: str, as_json: bool) -> None:
    """Score the events that BUNDLE finds in a film of motions with known times."""
    try:
        with (
            StatusLine() as progress,
            tempfile.TemporaryDirectory() as folder,
            load(bundle, backend=backend, precision=precision) as model,
        ):
            if model.labels != LABELS:
                raise BundleError(f"{bundle} is no demo model: its labels are {', '.join(model.labels[:3])}, ...")
            progress("filming and watching")
            score = score_events(model, Path(folder), seed=seed, seconds=60 * minutes, every=every)
    except TubeletError as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(dataclasses.asdict(score), indent=2) if as_json else score.table())
    if not score.is_perfect:
        raise click.exceptions.Exit(1)


if __name__ == "__main__":
    main()
