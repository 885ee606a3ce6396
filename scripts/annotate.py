"""A video with its predictions drawn over it, and a time line of every label's score below.

Text is drawn from a small bitmap font of our own, so that numpy is all that is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]

# Glyphs are 5 wide and 9 high, the last two rows below the line; the sheet holds them in the order of ALPHABET.
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789%.-"
GLYPH_HEIGHT, GLYPHS_IN_A_ROW = 9, 13
GLYPH_SHEET = """
..... #.... ..... ....# ..... ..##. ..... #.... ..#.. ...#. #.... .##.. .....
..... #.... ..... ....# ..... .#... ..... #.... ..... ..... #.... ..#.. .....
.###. ####. .#### .#### .###. ####. .#### ####. .##.. ..##. #..#. ..#.. ####.
....# #...# #.... #...# #...# .#... #...# #...# ..#.. ...#. #.#.. ..#.. #.#.#
.#### #...# #.... #...# ##### .#... #...# #...# ..#.. ...#. ##... ..#.. #.#.#
#...# #...# #.... #...# #.... .#... #...# #...# ..#.. ...#. #.#.. ..#.. #.#.#
.#### ####. .#### .#### .#### .#... .#### #...# .###. ...#. #..#. .###. #.#.#
..... ..... ..... ..... ..... ..... ....# ..... ..... #..#. ..... ..... .....
..... ..... ..... ..... ..... ..... .###. ..... ..... .##.. ..... ..... .....

..... ..... ..... ..... ..... ..... .#... ..... ..... ..... ..... ..... .....
..... ..... ..... ..... ..... ..... .#... ..... ..... ..... ..... ..... .....
####. .###. ####. .#### #.##. .#### ####. #...# #...# #...# #...# #...# #####
#...# #...# #...# #...# ##..# #.... .#... #...# #...# #...# .#.#. #...# ...#.
#...# #...# #...# #...# #.... .###. .#... #...# #...# #.#.# ..#.. #...# ..#..
#...# #...# #...# #...# #.... ....# .#..# #...# .#.#. #.#.# .#.#. #...# .#...
#...# .###. ####. .#### #.... ####. ..##. .#### ..#.. .#.#. #...# .#### #####
..... ..... #.... ....# ..... ..... ..... ..... ..... ..... ..... ....# .....
..... ..... #.... ....# ..... ..... ..... ..... ..... ..... ..... .###. .....

.###. ..#.. .###. .###. ...#. ##### .###. ##### .###. .###. ##..# ..... .....
#...# .##.. #...# #...# ..##. #.... #.... ....# #...# #...# ##..# ..... .....
#..## ..#.. ....# ....# .#.#. ####. #.... ...#. #...# #...# ...#. ..... .....
#.#.# ..#.. ...#. ..##. #..#. ....# ####. ..#.. .###. .#### ..#.. ..... .....
##..# ..#.. ..#.. ....# ##### ....# #...# ..#.. #...# ....# .#... ..... .###.
#...# ..#.. .#... #...# ...#. #...# #...# .#... #...# ....# #..## .##.. .....
.###. .###. ##### .###. ...#. .###. .###. .#... .###. .###. #..## .##.. .....
..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... .....
..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... .....
"""

BACKGROUND: Colour = (15, 20, 28)
TRACK: Colour = (32, 40, 52)
ACCENT: Colour = (64, 200, 190)
BRIGHT: Colour = (240, 244, 248)
MUTED: Colour = (136, 148, 164)

MARGIN = 16
SCALE = 2
ROW_HEIGHT = 20
PANEL_WIDTH = 272
LABEL_WIDTH = 268
SHOWN = 3


@dataclass(frozen=True)
class ScoreTrack:
    """Scores of one video over time.

    seconds:      (n,), the middle of each clip that was classified, rising
    scores:       (n, K), from 0 to 1
    clip_seconds: from the first frame of a clip to its last
    duration:     of the video, in seconds
    """

    labels: Sequence[str]
    seconds: NDArray[np.float64]
    scores: NDArray[np.float64]
    clip_seconds: float
    duration: float

    def __post_init__(self) -> None:
        if self.scores.size and not (self.scores.min() >= 0 and self.scores.max() <= 1):
            raise ValueError(
                f"scores must be from 0 to 1 to be drawn as shares of a bar, got {self.scores.min():g} to "
                f"{self.scores.max():g}: the values of a regression are not"
            )


@cache
def glyph(character: str) -> NDArray[np.bool_]:
    """Its ink (9, width). Letters are as wide as they are, digits all alike so that numbers stand still."""
    if character == " ":
        return np.zeros((GLYPH_HEIGHT, 3), bool)
    band, column = divmod(ALPHABET.index(character), GLYPHS_IN_A_ROW)
    lines = GLYPH_SHEET.strip("\n").split("\n")[band * (GLYPH_HEIGHT + 1) :][:GLYPH_HEIGHT]
    ink = np.array([[mark == "#" for mark in line[column * 6 : column * 6 + 5]] for line in lines])
    if character.isdigit():
        return ink
    used = np.flatnonzero(ink.any(axis=0))
    return ink[:, used[0] : used[-1] + 1]


@cache
def text_ink(text: str) -> NDArray[np.bool_]:
    """The ink of a line of text (9 * SCALE, width). Raises ValueError for a character that the font lacks."""
    gap = np.zeros((GLYPH_HEIGHT, 1), bool)
    parts = [part for character in text for part in (glyph(character), gap)][:-1]
    return np.concatenate(parts, axis=1).repeat(SCALE, axis=0).repeat(SCALE, axis=1)


def draw_text(canvas: Pixels, text: str, *, x: int, y: int, colour: Colour, right: bool = False) -> None:
    """Draw text into canvas (H, W, 3) with its upper left corner, or upper right, at x and y."""
    ink = text_ink(text)
    left = x - ink.shape[1] if right else x
    canvas[y : y + ink.shape[0], left : left + ink.shape[1]][ink] = colour


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """`share` of the second colour over the first."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def annotate(pixels: Pixels, seconds: NDArray[np.float64], track: ScoreTrack) -> Pixels:
    """Each frame of pixels (T, H, W, 3), shown at `seconds` (T,), with what was predicted around that time.

    Returns uint8 (T, H', W', 3), both sides even.
    """
    height, width = pixels.shape[1:3]
    top = 2 * MARGIN + height
    canvas_height = top + len(track.labels) * ROW_HEIGHT + ROW_HEIGHT + MARGIN
    base = np.full((canvas_height, 3 * MARGIN + width + PANEL_WIDTH, 3), BACKGROUND, np.uint8)
    draw_timeline(base, track, top)

    frames = np.repeat(base[np.newaxis], len(pixels), axis=0)
    for canvas, picture, now in zip(frames, pixels, seconds, strict=True):
        canvas[MARGIN : MARGIN + height, MARGIN : MARGIN + width] = picture
        scores = track.scores[np.abs(track.seconds - now).argmin()]  # (K,)
        best = np.argsort(-scores, kind="stable")[:SHOWN]
        draw_caption(canvas[MARGIN : MARGIN + height, MARGIN : MARGIN + width], track.labels[best[0]])
        draw_panel(canvas, track, scores, best, left=2 * MARGIN + width)
        draw_text(canvas, f"{now:.1f} s", x=canvas.shape[1] - MARGIN, y=MARGIN, colour=MUTED, right=True)
        draw_now(canvas, track, now, int(best[0]), top)
    return frames


def draw_caption(picture: Pixels, label: str) -> None:
    """The label on a dark band at the lower edge of picture (H, W, 3)."""
    height = GLYPH_HEIGHT * SCALE + 10
    band = picture[-height:]
    band[:] = band // 4
    draw_text(band, label, x=10, y=6, colour=BRIGHT)


def draw_panel(
    canvas: Pixels, track: ScoreTrack, scores: NDArray[np.float64], best: NDArray[np.intp], *, left: int
) -> None:
    """The best labels beside the video, each with its score as a number and a bar."""
    draw_text(canvas, "now", x=left, y=MARGIN, colour=MUTED)
    for place, index in enumerate(best):
        y = MARGIN + 40 + place * 56
        colour = BRIGHT if place == 0 else MUTED
        draw_text(canvas, track.labels[index], x=left, y=y, colour=colour)
        bar = canvas[y + 24 : y + 36, left : left + PANEL_WIDTH - 60]
        bar[:] = TRACK
        bar[:, : round(scores[index] * bar.shape[1])] = ACCENT
        draw_text(canvas, f"{scores[index]:.0%}", x=left + PANEL_WIDTH, y=y + 23, colour=colour, right=True)


def draw_timeline(canvas: Pixels, track: ScoreTrack, top: int) -> None:
    """A row for every label, lit where its score is high, over a ruler of seconds."""
    left, right = MARGIN + LABEL_WIDTH, canvas.shape[1] - MARGIN
    columns = (np.arange(right - left) + 0.5) / (right - left) * track.duration  # seconds
    inside = (columns >= track.seconds[0]) & (columns <= track.seconds[-1])
    for row, label in enumerate(track.labels):
        y = top + row * ROW_HEIGHT
        draw_text(canvas, label, x=MARGIN, y=y, colour=MUTED)
        lit = np.interp(columns, track.seconds, track.scores[:, row]) * inside  # (columns,)
        colours = [mixed(TRACK, ACCENT, share) for share in lit]
        canvas[y + 1 : y + ROW_HEIGHT - 3, left:right] = np.array(colours, np.uint8)
    for second in range(1, int(track.duration)):
        x = left + round(second / track.duration * (right - left))
        y = top + len(track.labels) * ROW_HEIGHT
        canvas[y - 2 : y + 2, x] = MUTED
        text = f"{second} s"
        draw_text(canvas, text, x=x - text_ink(text).shape[1] // 2, y=y + 4, colour=MUTED)


def draw_now(canvas: Pixels, track: ScoreTrack, now: float, best: int, top: int) -> None:
    """A line at time `now`, the clip around it as a thin bar above the rows, the best label bright."""
    left = MARGIN + LABEL_WIDTH
    width: int = canvas.shape[1] - MARGIN - left
    bottom = top + len(track.labels) * ROW_HEIGHT

    def x_of(second: float) -> int:
        return left + round(min(max(second / track.duration, 0.0), 1.0) * width)

    half = track.clip_seconds / 2
    canvas[top - 6 : top - 2, x_of(now - half) : x_of(now + half)] = MUTED
    canvas[top - 6 : bottom, x_of(now) - 1 : x_of(now) + 1] = BRIGHT
    draw_text(canvas, track.labels[best], x=MARGIN, y=top + best * ROW_HEIGHT, colour=BRIGHT)
