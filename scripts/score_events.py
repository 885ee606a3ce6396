"""Whether a demo model finds every motion of a long film, when it begins and ends, and invents none.

    python scripts/score_events.py artifacts/demo-videomae --minutes 10

Films shapes that go from motion to motion, at times that are known, as H.264, and watches them. One moves sideways,
one moves up and down, one changes its size; each turns as well. Needs no torch. Exit code 1 where a motion is missed,
an event is invented, or a time is off too far. That is by more than a hop and half a window.
"""

import dataclasses
import itertools
import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import click
import numpy as np
from av.video.stream import VideoStream
from motion import LABELS, Motion, Scene, motion_of, random_scene, render
from numpy.typing import NDArray

from tubelet import Event, EventRule, VideoClassifier, find_events, load
from tubelet.preprocess.errors import BundleError, TubeletError
from tubelet.runtime.backends import BACKENDS, DEFAULT_BACKEND
from tubelet.runtime.progress import StatusLine
from tubelet.runtime.stream.windows import grid_of

RATE, HEIGHT, WIDTH = 30, 120, 160
STILL = "stands still"
TURNS = ("turns clockwise", "turns counter-clockwise")
OPPOSITES = (("moves left", "moves right"), ("moves up", "moves down"), ("grows", "shrinks"))
TRAVELS = tuple(label for pair in OPPOSITES for label in pair)
MOTIONS = TURNS + TRAVELS
# Seconds of each, at the least and at the most.
TRAVEL_SECONDS, OTHER_SECONDS = (2.1, 2.4), (3.0, 5.0)
# What travels goes from one side of the middle to the other, or from small to large, as slowly as in the training.
SIDE, SMALL, LARGE = 0.28, 0.15, 0.4
RULE = EventRule(on=0.6, off=0.4, min_seconds=1.0)


@dataclass(frozen=True)
class Truth:
    """A motion of the film: what moves how, from when until when."""

    label: str
    begin: float
    end: float


def film(seed: int, seconds: float, labels: Sequence[str]) -> tuple[Scene, list[Truth]]:
    """A scene of `seconds` in which something moves every few seconds, and what does.

    Between two motions the shape stands still, which is the background that no event is of. What travels goes from one
    end of its way to the other and back. In all else the shape is as the models were trained on.
    """
    random = np.random.default_rng(seed)
    scene = random_scene(STILL, seed)
    possible = {str(random.choice(pair)) for pair in OPPOSITES if pair[0] in labels}
    (y, x), radius = scene.shape.centre, scene.shape.radius
    if "moves up" in labels:
        y = SIDE if "moves up" in possible else -SIDE
    if "moves left" in labels:
        x = SIDE if "moves left" in possible else -SIDE
    if "grows" in labels:
        radius = SMALL if "grows" in possible else LARGE
    shape = replace(scene.shape, centre=(y, x), radius=radius)
    truths: list[Truth] = []
    motions: list[Motion] = []
    now = 0.0
    while now < seconds - TRAVEL_SECONDS[1] - 2 * OTHER_SECONDS[1]:
        now += random.uniform(*OTHER_SECONDS)
        label = str(random.choice([label for label in labels if label in possible or label in TURNS]))
        lasts = random.uniform(*(OTHER_SECONDS if label in TURNS else TRAVEL_SECONDS))
        motions.append(replace(_motion(label, lasts), from_seconds=now, until_seconds=now + lasts))
        truths.append(Truth(label, now, now + lasts))
        possible ^= {name for pair in OPPOSITES if label in pair for name in pair}  # it can only come back
        now += lasts
    return replace(scene, shape=replace(shape, motions=tuple(motions))), truths


def _motion(label: str, seconds: float) -> Motion:
    """A motion that is done after `seconds`."""
    motion = motion_of(label, pace=0.8)
    if label in TURNS:
        return motion
    y, x = (float(np.sign(speed)) * 2 * SIDE / seconds for speed in motion.velocity)
    growth = float(np.sign(motion.growth)) * math.log(LARGE / SMALL) / seconds
    return Motion(velocity=(y, x), growth=growth)


def pictures(scene: Scene, seconds: float) -> Iterator[NDArray[np.uint8]]:
    """The frames of the film, second by second, each with noise of its own."""
    for second in range(math.ceil(seconds)):
        count = min(RATE, round((seconds - second) * RATE))
        times = second + np.arange(count) / RATE
        yield from render(replace(scene, noise_seed=scene.noise_seed + second), times, HEIGHT, WIDTH)


def write_film(path: Path, scene: Scene, seconds: float) -> None:
    """Write the film as H.264, a frame at a time."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "23", "preset": "veryfast", "threads": "1"})
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for number, picture in enumerate(pictures(scene, seconds)):
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


def together(scores: Sequence[Score]) -> Score:
    """The score of several films."""
    names = ("begins", "ends", "missed", "invented", "late")
    joined = {name: tuple(itertools.chain(*(getattr(score, name) for score in scores))) for name in names}
    return Score(motions=sum(score.motions for score in scores), limit=scores[0].limit, **joined)


def _overlap(truth: Truth, event: Event) -> float:
    """Seconds; an event of a single window, which has no length, counts where it lies inside."""
    return min(truth.end, event.end) - max(truth.begin, event.begin) + 1e-9


def score_events(
    model: VideoClassifier, path: Path, truths: Sequence[Truth], *, every: float, rule: EventRule
) -> Score:
    """Watch the film at `path`, and hold the events against what happens in it."""
    grid = grid_of(model.spec, fps=None, every=every)
    events = list(find_events(model.watch(path, every=every), rule))
    return compare(truths, events, every + grid.span / 2)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--minutes", type=float, default=10.0, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--every", type=float, default=0.5, show_default=True)
@click.option("--backend", type=click.Choice(list(BACKENDS)), default=DEFAULT_BACKEND, show_default=True)
@click.option("--precision", default="fp32", show_default=True)
@click.option(
    "--no-turns", is_flag=True, help="Leave out the turns, of which the demo ViViT takes one in four for the other."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def main(
    bundle: Path, minutes: float, seed: int, every: float, backend: str, precision: str, no_turns: bool, as_json: bool
) -> None:
    """Score the events that BUNDLE finds in a film of motions with known times."""
    try:
        with (
            StatusLine() as progress,
            tempfile.TemporaryDirectory() as folder,
            load(bundle, backend=backend, precision=precision) as model,
        ):
            if model.labels != LABELS:
                raise BundleError(f"{bundle} is no demo model: its labels are {', '.join(model.labels[:3])}, ...")
            rule = replace(RULE, labels=TRAVELS if no_turns else MOTIONS)
            scores = []
            for number, pair in enumerate(OPPOSITES):
                progress(f"filming what {' and '.join(pair)}")
                path, seconds = Path(folder) / f"{number}.mp4", 60 * minutes / len(OPPOSITES)
                scene, truths = film(seed + number, seconds, pair if no_turns else pair + TURNS)
                write_film(path, scene, seconds)
                progress(f"watching what {' and '.join(pair)}")
                scores.append(score_events(model, path, truths, every=every, rule=rule))
            result = together(scores)
    except TubeletError as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(dataclasses.asdict(result), indent=2) if as_json else result.table())
    if not result.is_perfect:
        raise click.exceptions.Exit(1)


if __name__ == "__main__":
    main()
