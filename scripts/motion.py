"""Procedurally generated videos of one shape that moves, for models whose task only motion can solve.

A scene is a two-coloured shape on a patterned background, seen by a camera that shakes a little. It is a
function of time: any frame rate, clip length and picture size can be rendered.

No single frame gives the label away. Time 0 is the middle of a clip. `random_scene` draws the look of a scene before
it asks for the label. So the middle frames of one seed are equal under all labels. Only, a shape that appears or
vanishes does so as often before the middle as after it. So half of these frames are empty. Whether the shape is still
to come or has gone they cannot tell.

Lengths are in short sides of the picture, from its centre; x to the right, y down; angles are clockwise.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

LABELS = (
    "moves left",
    "moves right",
    "moves up",
    "moves down",
    "grows",
    "shrinks",
    "turns clockwise",
    "turns counter-clockwise",
    "stands still",
    "appears",
    "vanishes",
)

MOTIONS = LABELS[:8]  # in which a shape moves
STILL = "stands still"

# Seeds below are for scoring only; training takes those from here on, and goes on with those from the second.
FIRST_TRAINING_SEED, FIRST_FURTHER_SEED = 1_000_000, 2_000_000

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Motion:
    """Constant rates from one moment to another, per second; the end is exclusive.

    velocity: (y, x) in short sides; growth: of the logarithm of the radius; turn: radians, clockwise.
    """

    velocity: tuple[float, float] = (0.0, 0.0)
    growth: float = 0.0
    turn: float = 0.0
    from_seconds: float = -math.inf
    until_seconds: float = math.inf

    def duration(self, seconds: FloatArray) -> FloatArray:
        """How long this motion has lasted between time 0 and each of `seconds` (T,); negative before 0."""
        start, end = self.from_seconds, self.until_seconds
        return np.clip(seconds, start, end) - np.float32(min(max(0.0, start), end))


@dataclass(frozen=True)
class Shape:
    """A regular polygon, or an ellipse where `sides` is 0, as it is at time 0, and its motions.

    aspect:    of its height to its width before it is turned
    colours:   RGB of its left half and of its right half, 0 to 255, before it is turned
    steepness: of the change from one colour to the other; 2 is clear-cut
    visible:   the seconds from which, and until which, it is there
    """

    sides: int
    aspect: float
    steepness: float
    colours: tuple[tuple[float, ...], tuple[float, ...]]
    centre: tuple[float, float]
    radius: float
    angle: float
    motions: tuple[Motion, ...] = ()
    visible: tuple[float, float] = (-math.inf, math.inf)

    @classmethod
    def at_random(cls, random: np.random.Generator) -> Self:
        """A shape that stands still near the centre. One half is dark and one is light, so that it shows on
        every background."""
        return cls(
            sides=int(random.choice([0, 3, 4, 5])),
            aspect=random.uniform(0.7, 1.0),
            steepness=random.uniform(1.2, 2.0),
            colours=(tuple(random.uniform(0, 95, 3)), tuple(random.uniform(160, 255, 3))),
            centre=(random.uniform(-0.2, 0.2), random.uniform(-0.2, 0.2)),
            radius=random.uniform(0.19, 0.27),
            angle=random.uniform(-math.pi, math.pi),
        )


@dataclass(frozen=True)
class Background:
    """A colour and plane waves of other colours. waves: (n, 2), radians in a short side along y and x;
    phases: (n,); amplitudes: (n, 3), RGB; colour: (3,), RGB."""

    colour: FloatArray
    waves: FloatArray
    phases: FloatArray
    amplitudes: FloatArray

    @classmethod
    def at_random(cls, random: np.random.Generator) -> Self:
        count = 4
        return cls(
            colour=random.uniform(85, 170, 3).astype(np.float32),
            waves=random.uniform(-16, 16, (count, 2)).astype(np.float32),
            phases=random.uniform(-math.pi, math.pi, count).astype(np.float32),
            amplitudes=random.uniform(-20, 20, (count, 3)).astype(np.float32),
        )


@dataclass(frozen=True)
class Shake:
    """The camera's wobble: a sine along y and one along x. hertz, phases, amplitudes: (2,) each."""

    hertz: FloatArray
    phases: FloatArray
    amplitudes: FloatArray

    @classmethod
    def at_random(cls, random: np.random.Generator) -> Self:
        return cls(
            hertz=random.uniform(0.5, 4.0, 2).astype(np.float32),
            phases=random.uniform(-math.pi, math.pi, 2).astype(np.float32),
            amplitudes=random.uniform(0.0, 0.01, 2).astype(np.float32),
        )

    def offsets(self, seconds: FloatArray) -> FloatArray:
        """Where the camera looks at `seconds` (T,): (2, T), y and x."""
        turns = 2 * math.pi * self.hertz[:, np.newaxis] * seconds + self.phases[:, np.newaxis]  # (2, T)
        offsets: FloatArray = self.amplitudes[:, np.newaxis] * np.sin(turns)
        return offsets


@dataclass(frozen=True)
class Scene:
    """What `render` draws. noise: standard deviation of a pixel value, 0 to 255."""

    background: Background
    shape: Shape
    shake: Shake
    noise: float
    noise_seed: int


def label_of(seed: int) -> str:
    """Seeds go through the labels in turn, so that any run of them is balanced."""
    return LABELS[seed % len(LABELS)]


def random_scene(label: str, seed: int) -> Scene:
    """The scene of that label and seed. Raises ValueError for an unknown label.

    Everything is drawn in the same order whatever the label is, which only decides what is made of it.
    """
    if label not in LABELS:
        raise ValueError(f"label must be one of {', '.join(LABELS)}, got {label!r}")
    random = np.random.default_rng(seed)
    background = Background.at_random(random)
    shake = Shake.at_random(random)
    shape = Shape.at_random(random)
    noise = random.uniform(0.0, 6.0)
    pace = random.uniform(0.0, 1.0)
    change_seconds = random.uniform(-0.35, 0.35)

    shape = replace(shape, motions=(motion_of(label, pace),))
    if label == "appears":
        shape = replace(shape, visible=(change_seconds, math.inf))
    if label == "vanishes":
        shape = replace(shape, visible=(-math.inf, change_seconds))
    return Scene(background, shape, shake, noise, noise_seed=seed)


def motion_of(label: str, pace: float) -> Motion:
    """How a shape of that label moves, from slow (pace 0) to fast (pace 1)."""
    speed, growth, turn = 0.25 + 0.25 * pace, 0.5 + 0.4 * pace, 1.0 + 1.0 * pace
    motions = {
        "moves left": Motion(velocity=(0.0, -speed)),
        "moves right": Motion(velocity=(0.0, speed)),
        "moves up": Motion(velocity=(-speed, 0.0)),
        "moves down": Motion(velocity=(speed, 0.0)),
        "grows": Motion(growth=growth),
        "shrinks": Motion(growth=-growth),
        "turns clockwise": Motion(turn=turn),
        "turns counter-clockwise": Motion(turn=-turn),
    }
    return motions.get(label, Motion())


def clip_seconds(num_frames: int, stride: float, rate: float = 30.0) -> NDArray[np.float64]:
    """Times (T,) of every `stride`-th frame of a video of `rate` frames a second, with time 0 in the middle."""
    frames = np.arange(num_frames, dtype=np.float64) - (num_frames - 1) / 2
    return frames * stride / rate


def render(scene: Scene, seconds: NDArray[np.floating], height: int, width: int) -> NDArray[np.uint8]:
    """Pictures of the scene at `seconds` (T,): uint8 (T, H, W, 3), RGB, edges antialiased.

    The short side of the picture is 1, so a wide picture shows more at its sides. The noise is that of this
    scene and this number of pictures: the same call gives the same bytes.
    """
    times = np.asarray(seconds, np.float32)
    side = min(height, width)
    shift_y, shift_x = scene.shake.offsets(times)  # (T,) each
    rows = _pixel_centres(height, side) + shift_y[:, np.newaxis]  # (T, H)
    columns = _pixel_centres(width, side) + shift_x[:, np.newaxis]  # (T, W)

    canvas = _draw_background(scene.background, rows, columns)  # (C, T, H, W)
    _draw_shape(canvas, scene.shape, times, rows, columns, side)
    noise = np.random.default_rng(scene.noise_seed).standard_normal(canvas.shape[1:], np.float32)
    canvas += np.float32(scene.noise) * noise  # the same in all channels
    pixels = np.clip(canvas + np.float32(0.5), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 3, 0))  # (C, T, H, W) -> (T, H, W, C)


def _pixel_centres(length: int, side: int) -> FloatArray:
    return ((np.arange(length) + 0.5 - length / 2) / side).astype(np.float32)


def _draw_background(background: Background, rows: FloatArray, columns: FloatArray) -> FloatArray:
    """(C, T, H, W). sin(a + b) = sin a cos b + cos a sin b. So a plane wave is a product of rows and columns."""
    along_rows = rows[..., np.newaxis] * background.waves[:, 0] + background.phases  # (T, H, n)
    along_columns = columns[..., np.newaxis] * background.waves[:, 1]  # (T, W, n)
    left = np.concatenate([np.sin(along_rows), np.cos(along_rows)], axis=-1)  # (T, H, 2n)
    right = np.concatenate([np.cos(along_columns), np.sin(along_columns)], axis=-1)  # (T, W, 2n)
    weights = np.concatenate([background.amplitudes, background.amplitudes]).T  # (C, 2n)
    canvas: FloatArray = (left * weights[:, np.newaxis, np.newaxis]) @ right.swapaxes(1, 2)  # (C, T, H, W)
    canvas += background.colour[:, np.newaxis, np.newaxis, np.newaxis]
    return canvas


def _draw_shape(
    canvas: FloatArray, shape: Shape, times: FloatArray, rows: FloatArray, columns: FloatArray, side: int
) -> None:
    """Draw the shape at `times` (T,) into canvas (C, T, H, W)."""
    y, x, log_radius, angle = pose(shape, times)
    radius = np.exp(log_radius)[:, np.newaxis]  # (T, 1)
    down = ((rows - y[:, np.newaxis]) / radius)[:, :, np.newaxis]  # (T, H, 1)
    across = ((columns - x[:, np.newaxis]) / radius)[:, np.newaxis, :]  # (T, 1, W)
    cosine, sine = (f(angle)[:, np.newaxis, np.newaxis] for f in (np.cos, np.sin))  # (T, 1, 1) each
    u = cosine * across + sine * down  # (T, H, W), from the left half to the right one; 1 is the radius
    v = (cosine * down - sine * across) / np.float32(shape.aspect)

    if shape.sides:
        turns = 2 * math.pi * np.arange(shape.sides) / shape.sides
        beyond = np.max([np.float32(math.cos(t)) * u + np.float32(math.sin(t)) * v for t in turns], axis=0)
        beyond -= np.float32(0.75)  # a polygon whose area is about that of the disc
    else:
        beyond = np.hypot(u, v) - np.float32(1)
    coverage = np.clip(0.5 - beyond * (radius[..., np.newaxis] * side), 0, 1)  # (T, H, W)
    coverage *= ((times >= shape.visible[0]) & (times < shape.visible[1]))[:, np.newaxis, np.newaxis]

    light = np.clip(0.5 + np.sin(np.float32(shape.steepness) * u), 0, 1)
    shade = 1 - np.float32(0.35) * np.clip(0.5 + 0.5 * v, 0, 1)
    for channel, dark_value, light_value in zip(canvas, *shape.colours, strict=True):
        colour = (np.float32(dark_value) + np.float32(light_value - dark_value) * light) * shade
        channel += coverage * (colour - channel)


def pose(shape: Shape, times: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """y, x, logarithm of the radius, and angle of the shape at `times` (T,), (T,) each."""
    y, x, log_radius, angle = (
        np.full(len(times), start, np.float32) for start in (*shape.centre, math.log(shape.radius), shape.angle)
    )
    for motion in shape.motions:
        lasted = motion.duration(times)
        y += np.float32(motion.velocity[0]) * lasted
        x += np.float32(motion.velocity[1]) * lasted
        log_radius += np.float32(motion.growth) * lasted
        angle += np.float32(motion.turn) * lasted
    return y, x, log_radius, angle
