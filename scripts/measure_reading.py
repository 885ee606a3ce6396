"""Which share of a file's time is reading, by size and codec, and what its threads do beside the model's.

    python scripts/measure_reading.py share BUNDLE... --precision int8 --rounds 3
    python scripts/measure_reading.py threads BUNDLE --precision int8 --size 1080p --codec h264

Makes a film of four seconds for each size and codec, once. Bit rates are those of films on the web. A keyframe comes
every two seconds. share takes one clip of each, as `tubelet classify` does, and goes round all of them in turn. The
steps: decoding alone, with frame threads of FFmpeg as well; decoding and conversion to RGB; all of the reading, with
the exact resize and the fast one; the model. threads has files classified with readers ahead of the model. It compares
numbers of threads of the model, and of readers.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Literal, cast

import av
import click
import numpy as np
from about_machine import about_the_machine
from av.filter import Graph
from av.video.frame import PictureType
from av.video.stream import VideoStream
from numpy.typing import NDArray

from tubelet import Reading, VideoClassifier, load
from tubelet.preprocess.decode import read_fitted
from tubelet.preprocess.frames import Timeline
from tubelet.preprocess.sampling import clip_views, distinct
from tubelet.runtime.progress import Progress, StatusLine
from tubelet.runtime.reading import prepare_crops, read_crops
from tubelet.runtime.storage.written import written_file

RATE = 30
KEYFRAMES = 2 * RATE  # frames from one to the next
SIZES = {"360p": (640, 360), "720p": (1280, 720), "1080p": (1920, 1080), "4K": (3840, 2160)}
MEGABITS = {"360p": 0.8, "720p": 3.0, "1080p": 6.0, "4K": 24.0}  # a second, of H.264


@dataclass(frozen=True)
class Codec:
    """An encoder, its options, and the bits that it is given beside H.264."""

    encoder: str
    options: dict[str, str]
    bits: float


CODECS = {
    "h264": Codec("libx264", {"preset": "veryfast"}, 1.0),
    "hevc": Codec("libx265", {"preset": "ultrafast", "x265-params": f"log-level=none:keyint={KEYFRAMES}"}, 0.6),
    "av1": Codec("libsvtav1", {"preset": "10"}, 0.5),
}
# How FFmpeg's decoder uses threads: within a frame, as tubelet has it, or several frames at once as well.
Threading = Literal["SLICE", "AUTO"]


def missing_encoders() -> list[str]:
    """The codecs whose encoder this build of FFmpeg lacks."""
    found = []
    for name, codec in CODECS.items():
        try:
            av.codec.Codec(codec.encoder, "w")
        except av.codec.codec.UnknownCodecError:
            found.append(name)
    return found


def encode(path: Path, size: str, codec: Codec) -> None:
    """Shapes that move, and grain, so that the bits are spent on every frame."""
    width, height = SIZES[size]
    graph = Graph()
    source = graph.add("testsrc2", f"size={width}x{height}:rate={RATE}")
    grain = graph.add("noise", "alls=8:allf=t")
    form, sink = graph.add("format", "yuv420p"), graph.add("buffersink")
    graph.link_nodes(source, grain, form, sink).configure()
    with av.open(path, "w") as container:
        stream = cast("VideoStream", container.add_stream(codec.encoder, rate=RATE, options=codec.options))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.gop_size, stream.bit_rate = KEYFRAMES, int(MEGABITS[size] * codec.bits * 1e6)
        for number in range(2 * KEYFRAMES):
            frame = graph.vpull()
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            frame.pict_type = PictureType.NONE  # the filters mark each as a keyframe, and encoders obey
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def film(folder: Path, size: str, name: str) -> Path:
    """The film of a size and codec, made where it is not there yet."""
    path = folder / f"{size}-{name}.mp4"
    if not path.exists():
        with written_file(path) as beside:
            encode(beside, size, CODECS[name])
    return path


# --- One file, step by step ---


def decode_alone(path: Path, frames: Sequence[int], threading: Threading) -> None:
    """Decode from the keyframe before the first of `frames` to the last of them."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = threading
        assert stream.time_base is not None
        container.seek(round(frames[0] / RATE / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if frame.time is not None and round(frame.time * RATE) >= frames[-1]:
                return


def steps(model: VideoClassifier, path: Path) -> dict[str, Callable[[], object]]:
    """What is timed of one file."""
    wanted: list[int] = []

    def choose(timeline: Timeline) -> NDArray[np.int64]:
        views = clip_views(
            model.spec.evaluation.sampling, num_frames=model.spec.num_frames, available=len(timeline), clips=1
        )
        wanted[:] = distinct(views).tolist()
        return distinct(views)

    def in_rgb() -> object:
        return read_fitted(path, choose, lambda pixels: [pixels[:, :1, :1]])

    def read(reading: Reading) -> NDArray[np.float32]:
        return prepare_crops(read_crops(path, model.spec, reading), model.spec)

    in_rgb()
    clip, fast = read(model.reading), replace(model.reading, resize="fast")
    return {
        "decode": lambda: decode_alone(path, wanted, "SLICE"),
        "frame threads": lambda: decode_alone(path, wanted, "AUTO"),
        "in RGB": in_rgb,
        "exact": lambda: read(model.reading),
        "fast": lambda: read(fast),
        "model": lambda: model.logits(clip),
    }


def milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def row(name: str, path: Path, taken: dict[str, list[float]]) -> str:
    """Medians of the rounds, in ms, and which share of a file's time is reading: exactly, and fast."""
    ms = {step: statistics.median(values) for step, values in taken.items()}
    with av.open(path) as container:
        megabits = (container.bit_rate or 0) / 1e6
    shares = [ms[way] / (ms[way] + ms["model"]) for way in ("exact", "fast")]
    return (
        f"{name:<12}{megabits:>8.1f}"
        + "".join(f"{value:>15.0f}" for value in ms.values())
        + ("".join(f"{share:>8.0%}" for share in shares))
    )


def head() -> str:
    titles = ("decode", "frame threads", "in RGB", "exact", "fast", "model")
    return f"{'ms':<12}{'Mbit/s':>8}" + "".join(f"{title:>15}" for title in titles) + f"{'share':>8}{'fast':>8}"


def measure_share(
    models: dict[str, VideoClassifier], films: dict[str, Path], rounds: int, progress: Progress
) -> dict[str, list[str]]:
    """A row for each film, by model. All films of all models are taken in each round, a step after the other."""
    subjects = {(name, film): steps(model, path) for name, model in models.items() for film, path in films.items()}
    taken: dict[tuple[str, str], dict[str, list[float]]] = {
        subject: {step: [] for step in todo} for subject, todo in subjects.items()
    }
    for number in range(1, rounds + 1):
        for (name, film), todo in subjects.items():
            progress(f"round {number} of {rounds}: {name}, {film}")
            for step, work in todo.items():
                taken[name, film][step].append(milliseconds(work))
    return {name: [row(film, path, taken[name, film]) for film, path in films.items()] for name in models}


# --- Several files, readers ahead of the model ---


def measure_threads(
    bundle: Path, precision: str, path: Path, counts: Sequence[int], files: int, rounds: int, progress: Progress
) -> list[str]:
    """Files a second by threads of the model and readers, beside the model alone with as many threads."""
    rates: dict[tuple[int, int], list[float]] = {pair: [] for pair in product(counts, (0, *counts))}
    with ExitStack() as stack:
        models = {count: stack.enter_context(load(bundle, precision=precision, threads=count)) for count in counts}
        clip = models[counts[0]].prepare(models[counts[0]].read(path))
        for number in range(rounds + 1):  # the first one warms up
            for threads, readers in rates:
                progress(f"round {number} of {rounds}: {threads} threads of the model, {readers} readers")
                model = models[threads]

                def classify(model: VideoClassifier = model, readers: int = readers) -> None:
                    if readers:
                        list(model.classify_many([path] * files, workers=readers))
                    else:
                        for _ in range(files):
                            model.logits(clip)

                rate = 1000 * files / milliseconds(classify)
                rates[threads, readers] += [rate] if number else []
    lines = [f"{'files a second':<24}{'model alone':>14}" + "".join(f"{f'{count} readers':>14}" for count in counts)]
    for threads in counts:
        alone, *beside = (statistics.median(rates[threads, readers]) for readers in (0, *counts))
        cells = "".join(f"{f'{rate:.2f} ({rate / alone:.2f})':>14}" for rate in beside)
        lines.append(f"{f'{threads} threads of the model':<24}{alone:>14.2f}" + cells)
    return lines


folder_option = click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("build/reading"), help="Where the films are made."
)
rounds_option = click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
precision_option = click.option("--precision", default="int8", show_default=True)
bundle_type = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure how long reading takes, beside the model."""


@main.command()
@click.argument("bundles", type=bundle_type, nargs=-1, required=True)
@precision_option
@click.option("--size", "sizes", multiple=True, type=click.Choice(list(SIZES)), default=list(SIZES))
@click.option("--codec", "codecs", multiple=True, type=click.Choice(list(CODECS)), default=list(CODECS))
@rounds_option
@folder_option
def share(
    bundles: tuple[Path, ...],
    precision: str,
    sizes: tuple[str, ...],
    codecs: tuple[str, ...],
    rounds: int,
    folder: Path,
) -> None:
    """Take one clip of each film, step by step."""
    click.echo(about_the_machine())
    folder.mkdir(parents=True, exist_ok=True)
    lacking = missing_encoders()
    with StatusLine() as progress, ExitStack() as stack:
        models = {str(path): stack.enter_context(load(path, precision=precision)) for path in bundles}
        films: dict[str, Path] = {}
        for size, codec in product(sizes, codecs):
            if codec not in lacking:
                progress(f"making {size} {codec}")
                films[f"{size} {codec}"] = film(folder, size, codec)
        rows = measure_share(models, films, rounds, progress)
    if lacking:
        click.echo(f"this build of FFmpeg has no encoder for {', '.join(lacking)}")
    for name, lines in rows.items():
        click.echo("\n".join(["", f"{name} {precision}, medians of {rounds} rounds", head(), *lines]))


@main.command()
@click.argument("bundle", type=bundle_type)
@precision_option
@click.option("--size", type=click.Choice(list(SIZES)), default="1080p", show_default=True)
@click.option("--codec", type=click.Choice(list(CODECS)), default="h264", show_default=True)
@click.option("--count", "counts", multiple=True, type=click.IntRange(min=1), default=[1, 2], show_default=True)
@click.option("--files", type=click.IntRange(min=1), default=6, show_default=True, help="Files in each round.")
@rounds_option
@folder_option
def threads(
    bundle: Path, precision: str, size: str, codec: str, counts: tuple[int, ...], files: int, rounds: int, folder: Path
) -> None:
    """Classify copies of a film by threads of the model and readers ahead of it."""
    click.echo(about_the_machine())
    folder.mkdir(parents=True, exist_ok=True)
    with StatusLine() as progress:
        lines = measure_threads(bundle, precision, film(folder, size, codec), counts, files, rounds, progress)
    click.echo("\n".join([f"{bundle.name} {precision}, {size} {codec}", *lines]))


if __name__ == "__main__":
    main()
