"""The clips that a bundle is proven on, and what torch answers for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from ...preprocess.frames import Frames
from ...preprocess.prepare import normalise, prepare
from ...preprocess.spec import ClipSpec
from ...runtime.bundle.reference import Reference, input_sha256, kept_values
from ...runtime.progress import Progress, silent
from ...runtime.proof.parity import Run
from .tasks import ExportedModel, mask

# (height, width): landscape as in Kinetics, portrait, small enough to be enlarged, odd in both.
FRAME_SIZES = ((256, 340), (352, 198), (120, 160), (263, 275))


@dataclass(frozen=True)
class Disc:
    """A striped disc that drifts, grows and turns. Lengths are in short sides of the frame, times in clips."""

    centre: NDArray[np.float64]  # (y, x)
    velocity: NDArray[np.float64]  # (y, x)
    radius: float
    growth: float
    turn: float  # radians
    colours: NDArray[np.uint8]  # (2, 3), RGB of the two stripes

    @classmethod
    def at_random(cls, random: np.random.Generator, extent: tuple[float, float], colours: NDArray[np.uint8]) -> Self:
        return cls(
            centre=random.uniform(0.2, 0.8, 2) * extent,
            velocity=random.uniform(-0.6, 0.6, 2),
            radius=random.uniform(0.1, 0.3),
            growth=random.uniform(-0.5, 1.0),
            turn=random.uniform(-6, 6),
            colours=colours,
        )

    def draw(
        self, frame: NDArray[np.uint8], rows: NDArray[np.float64], columns: NDArray[np.float64], time: float
    ) -> None:
        """Draw the disc at `time` into frame (H, W, 3), whose pixels lie at rows and columns (H, W)."""
        y, x = self.centre + self.velocity * time
        angle = self.turn * time
        inside = np.hypot(rows - y, columns - x) < self.radius * (1 + self.growth * time)
        across = (rows[inside] - y) * np.cos(angle) + (columns[inside] - x) * np.sin(angle)
        frame[inside] = self.colours[(np.sin(40 * across) > 0).astype(np.intp)]


def moving_clip(num_frames: int, height: int, width: int, *, seed: int) -> NDArray[np.uint8]:
    """Draw a clip that moves: four discs over a panning gradient, one of them black and white.

    Its frames differ in time and in space and fill the range of values.

    Returns:
        uint8 (T, H, W, 3).
    """
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width] / min(height, width)  # (H, W) each
    pan, tint = random.uniform(-1, 1, 2), random.uniform(0.2, 1, 3)
    colours = random.integers(0, 256, (4, 2, 3)).astype(np.uint8)
    colours[-1] = [[0, 0, 0], [255, 255, 255]]
    discs = [Disc.at_random(random, (rows.max(), columns.max()), pair) for pair in colours]
    pixels = np.empty((num_frames, height, width, 3), np.uint8)
    for frame, time in zip(pixels, np.linspace(0, 1, num_frames), strict=True):
        gradient = 0.5 + 0.25 * np.sin(3 * (rows + pan[0] * time)) + 0.25 * np.cos(3 * (columns + pan[1] * time))
        frame[:] = 255 * gradient[..., np.newaxis] * tint  # (H, W, 1) * (3,)
        for disc in discs:
            disc.draw(frame, rows, columns, time)
    return pixels


def torch_run(asked: ExportedModel, spec: ClipSpec) -> Run:
    """Make the function that computes, by torch in float32 on the CPU, what the graph of `asked` computes.

    Frames in uint8 are normalised before the model sees them.

    Returns:
        A function of inputs by name, clips as `spec` prepares them (B, ...), to outputs by name, float32 (B, ...).
    """

    def run(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        clips, *indices = (inputs[name] for name in (spec.input_name, *asked.model.input_names))
        pixel_values = clips if spec.layout == "TCHW" else normalise(clips, spec)
        with torch.inference_mode():
            outputs = asked(torch.from_numpy(pixel_values), *map(torch.from_numpy, indices))
        return {name: output.numpy() for name, output in zip(asked.names, outputs, strict=True)}

    return run


def record_reference(
    asked: ExportedModel,
    spec: ClipSpec,
    *,
    seeds: Sequence[int] = range(len(FRAME_SIZES)),
    progress: Progress = silent,
) -> Reference:
    """Ask torch about one moving clip of each of FRAME_SIZES, drawn from that many seeds, one by one."""
    run = torch_run(asked, spec)
    clips, checksums, masks, answers = [], [], [], []
    for number, (seed, (height, width)) in enumerate(zip(seeds, FRAME_SIZES, strict=True)):
        progress(f"asking torch, clip {number + 1} of {len(FRAME_SIZES)}")
        clip = moving_clip(spec.num_frames, height, width, seed=seed)
        prepared = prepare(Frames.from_array(clip), spec)
        hidden = mask(asked.model, seed=seed)
        outputs = run({spec.input_name: prepared[np.newaxis], **hidden})
        # Taken out of what can be gigabytes, which are then free for the next clip.
        answers.append({name: kept_values(output).copy() for name, output in outputs.items()})
        checksums.append(input_sha256(prepared))
        masks.append(hidden)
        clips.append(clip)
    return Reference(
        clips=tuple(clips),
        input_sha256=tuple(checksums),
        outputs={name: np.concatenate([answer[name] for answer in answers]) for name in asked.names},
        inputs={name: np.concatenate([hidden[name] for hidden in masks]) for name in masks[0]},
    )
