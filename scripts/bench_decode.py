"""What it costs to read a clip from a long file, to resize frames while reading, and to prepare them.

    python scripts/bench_decode.py [--minutes 60] [--folder build/decode]

Makes a 1280x720 H.264 video of that length, as MP4 and as Matroska, and a tenth of it. Every reading runs in a
process of its own, of which Linux tells the peak memory. The time to decode the whole file is that of the tenth,
times ten. Preparing is timed beside the processor of transformers, in turn, on the same frames.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from tubelet.exporter.checkpoint.processor import spec_from_hub
from tubelet.exporter.families.vivit import FAMILY, VivitConfig
from tubelet.preprocess.convert import Scaling
from tubelet.preprocess.decode import probe, read_frames
from tubelet.preprocess.frames import Frames, Timeline
from tubelet.preprocess.prepare import prepare
from tubelet.preprocess.resize import resize, resized_size
from tubelet.preprocess.spec import ShortestEdge

RATE = 30
SCENE = 10 * RATE  # frames that are encoded; longer files repeat their packets
WIDTH, HEIGHT = 1280, 720
VIVIT: dict[str, Any] = {  # the preprocessing of google/vivit-b-16x2-kinetics400
    "crop_size": {"height": 224, "width": 224},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "rescale_factor": 1 / 127.5,
    "size": {"shortest_edge": 224},
}
SCALING = Scaling(ShortestEdge(224), "bilinear")


def draw(number: int) -> NDArray[np.uint8]:
    """Picture (H, W, 3) of one scene: moving waves, some of them fine, and a bright disc."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    phase = 2 * np.pi * number / SCENE
    disc = (x - WIDTH * (0.5 + 0.4 * np.cos(phase))) ** 2 + (y - HEIGHT * (0.5 + 0.3 * np.sin(phase))) ** 2 < 90**2
    waves = [np.sin(x / scale + 8 * phase) * np.sin(y / (scale + 3)) for scale in (60, 9, 25)]
    return np.stack([np.where(disc, 240, 128 + 90 * wave) for wave in waves], axis=-1).astype(np.uint8)


def encode_scene(path: Path) -> Path:
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "30"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH, HEIGHT, "yuv420p", SCENE // 2
        for number in range(SCENE):
            frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def repeat_scene(scene: Path, path: Path, minutes: float) -> Path:
    """Write the packets of `scene` again and again, each time later, until the file is so long."""
    with av.open(scene) as source, av.open(path, "w") as target:
        stream = source.streams.video[0]
        copy: VideoStream = target.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.size]
        duration = sum(packet.duration or 0 for packet in packets)
        for turn in range(round(minutes * 60 * RATE / SCENE)):
            for packet in packets:
                assert packet.pts is not None
                assert packet.dts is not None
                later = Packet(bytes(packet))
                later.pts, later.dts = packet.pts + turn * duration, packet.dts + turn * duration
                later.duration, later.time_base = packet.duration, packet.time_base
                later.is_keyframe, later.stream = packet.is_keyframe, copy
                target.mux(later)
    return path


# --- What is measured ---


def spread(timeline: Timeline) -> NDArray[np.int64]:
    return np.linspace(0, len(timeline) - 1, 32).astype(np.int64)


def late_clip(timeline: Timeline) -> NDArray[np.int64]:
    return min(len(timeline) * 5 // 6, len(timeline) - 64) + 2 * np.arange(32)


def decode_whole(path: Path) -> None:
    with av.open(path) as container:
        for _ in container.decode(video=0):
            pass


READINGS: dict[str, Callable[[Path], Any]] = {
    "probe": probe,
    "clip of 32 at 5/6": lambda path: read_frames(path, late_clip),
    "32 spread over it": lambda path: read_frames(path, spread),
    "32 spread, resized": lambda path: read_frames(path, spread, scale_to=SCALING),
    "whole, decoded": decode_whole,
}


def run_reading(name: str, path: Path) -> dict[str, float]:
    """Seconds and peak memory in MB of one reading, in a process of its own."""
    command = [sys.executable, __file__, "--reading", name, "--folder", str(path)]
    measured: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return measured


def measure_reading(name: str, path: Path) -> dict[str, float]:
    started = time.perf_counter()
    READINGS[name](path)
    seconds = time.perf_counter() - started
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {"seconds": seconds, "peak_mb": int(status["VmHWM"].split()[0]) / 1e3}


def bench_files(folder: Path, minutes: float) -> None:
    scene = encode_scene(folder / "scene.mp4")
    for suffix in ("mp4", "mkv"):
        long = repeat_scene(scene, folder / f"long.{suffix}", minutes)
        short = repeat_scene(scene, folder / f"short.{suffix}", minutes / 10)
        whole = run_reading("whole, decoded", short)
        print(f"\n{suffix}: {minutes:g} minutes, {long.stat().st_size / 1e6:.0f} MB; a tenth of it in the last column")
        print(f"{'':20}{'seconds':>9}{'of whole':>10}{'peak MB':>9}{'tenth MB':>10}")
        for name in READINGS:
            if name == "whole, decoded":
                print(f"{name:20}{10 * whole['seconds']:9.1f}{1:10.1%}{'':9}{whole['peak_mb']:10.0f}")
                continue
            reading, tenth = run_reading(name, long), run_reading(name, short)
            share = reading["seconds"] / (10 * whole["seconds"])
            print(f"{name:20}{reading['seconds']:9.2f}{share:10.2%}{reading['peak_mb']:9.0f}{tenth['peak_mb']:10.0f}")


def bench_scaling(paths: list[Path]) -> None:
    """Resizing exactly after reading against resizing while reading: seconds of CPU, and the pixels."""
    print(f"\n{'resize to short side 224':30}{'size':>11}{'exact s':>9}{'fast s':>8}{'mean':>7}{'99 %':>6}{'max':>5}")
    for path in paths:

        def first(timeline: Timeline) -> NDArray[np.int64]:
            return np.arange(min(len(timeline), 32))

        started = time.process_time()
        pixels = read_frames(path, first).pixels
        _, height, width, _ = pixels.shape
        exact = resize(pixels, resized_size(height, width, SCALING.rule), SCALING.resample, "pillow")
        between = time.process_time()
        fast = read_frames(path, first, scale_to=SCALING).pixels
        ended = time.process_time()
        off = np.abs(exact.astype(np.int16) - fast)
        print(
            f"{path.name[:29]:30}{f'{width}x{height}':>11}{between - started:9.2f}"
            f"{ended - between:8.2f}{off.mean():7.2f}{np.percentile(off, 99):6.0f}{off.max():5d}"
        )


def bench_prepare() -> None:
    """32 frames to what ViViT eats: ours beside VivitImageProcessor, medians of runs in turn; equal bit for bit."""
    from transformers.models.vivit.image_processing_vivit import VivitImageProcessor  # not in every reading's process

    processor = VivitImageProcessor(**VIVIT)
    spec = spec_from_hub(
        VIVIT, family=FAMILY, num_frames=32, evaluation=FAMILY.evaluation(VivitConfig()), arithmetic="pillow"
    )
    print(f"\n{'prepare 32 frames':20}{'ours s':>9}{'theirs s':>10}")
    for width, height in ((340, 256), (WIDTH, HEIGHT)):
        pixels = np.random.default_rng(0).integers(0, 256, (32, height, width, 3), np.uint8)
        frames, images = Frames.from_array(pixels), list(pixels)
        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(5):
            started = time.perf_counter()
            ours = prepare(frames, spec)
            between = time.perf_counter()
            theirs = processor(images, return_tensors="np", input_data_format="channels_last")["pixel_values"][0]
            seconds["ours"].append(between - started)
            seconds["theirs"].append(time.perf_counter() - between)
            np.testing.assert_array_equal(ours, theirs)
        print(f"{f'{width}x{height}':20}{median(seconds['ours']):9.3f}{median(seconds['theirs']):10.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--folder", type=Path, default=Path("build/decode"), help="where the videos are made")
    parser.add_argument("--reading", choices=READINGS, help=argparse.SUPPRESS)
    parser.add_argument("videos", type=Path, nargs="*", help="more videos to resize")
    given = parser.parse_args()
    if given.reading:
        print(json.dumps(measure_reading(given.reading, given.folder)))
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    bench_files(given.folder, given.minutes)
    bench_prepare()
    bench_scaling([given.folder / "scene.mp4", *given.videos])


if __name__ == "__main__":
    main()
