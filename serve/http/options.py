"""Options of a request: the query of its URL, and what OpenAPI says of it, from one table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from ...preprocess.decode import OnError
from ...preprocess.errors import OutOfBounds
from ...runtime.bounds import CLIPS, MOST_FPS, whole_number
from ...runtime.reading import TRACK, Reading, ResizeName, SamplingName
from .limits import MOST_VIEWS, Limits
from .refusal import Refusal

MOST_LABELS = 10_000


@dataclass(frozen=True)
class Option:
    """One name of a query. schema: its value as OpenAPI has it; parse: its text to the value, or ValueError."""

    name: str
    describe: str
    schema: dict[str, Any]
    parse: Callable[[str], Any]


def number(name: str, describe: str, least: int, most: int, default: int | None) -> Option:
    """An option that is a whole number."""

    def parse(text: str) -> int:
        number = whole_number(text)
        if not least <= number <= most:
            raise ValueError(f"it must be from {least} to {most}")
        return number

    schema: dict[str, Any] = {"type": "integer", "minimum": least, "maximum": most}
    return Option(name, describe, schema if default is None else schema | {"default": default}, parse)


def choice(name: str, describe: str, choices: tuple[str, ...], default: str) -> Option:
    """An option that is one of a few words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"it must be {' or '.join(choices)}")
        return text

    return Option(name, describe, {"type": "string", "enum": list(choices), "default": default}, parse)


def flag(name: str, describe: str, *, default: bool = False) -> Option:
    """An option that is true or false."""

    def parse(text: str) -> bool:
        if text not in ("true", "false"):
            raise ValueError("it must be true or false")
        return text == "true"

    return Option(name, describe, {"type": "boolean", "default": default}, parse)


def _fps(text: str) -> float:
    value = float(text)
    if not 0 < value <= MOST_FPS:
        raise ValueError(f"it must be above 0 and at most {MOST_FPS}")
    return value


MODEL = Option("model", "Which of the models, where the server has several.", {"type": "string"}, str)
TOP_K = number("top_k", "How many labels.", 1, MOST_LABELS, 5)
CLIPS_AND_CROPS = (
    number("clips", "How many clips of the video are averaged over.", 1, min(CLIPS.most, MOST_VIEWS), 1),
    number("crops", "How many crops of each clip: 1 or 3.", 1, 3, 1),
    choice(
        "sampling",
        "eval: the frames of the family's published evaluation; uniform: evenly over the file.",
        get_args(SamplingName),
        "eval",
    ),
    choice(
        "resize",
        "exact: bit for bit as the checkpoint's processor; fast: FFmpeg's scaler.",
        get_args(ResizeName),
        "exact",
    ),
)
READING = (
    Option(
        "fps",
        "Resample to this many frames a second by time first.",
        {"type": "number", "exclusiveMinimum": 0, "maximum": MOST_FPS},
        _fps,
    ),
    flag("rotate", "Turn frames upright, as the file asks.", default=True),
    choice(
        "on_error",
        "Damaged packets: an error, or skipped, with the nearest good frame standing in.",
        get_args(OnError),
        "raise",
    ),
    number("track", "Which video track, from 0. Without it, the best.", TRACK.least, TRACK.most, None),
)
_OF_READING = {option.name for option in (*CLIPS_AND_CROPS, *READING)}


def parse_query(query: Mapping[str, str], options: tuple[Option, ...]) -> dict[str, Any]:
    """Read the query of a request.

    Args:
        query: names and values as they came.
        options: what there is.

    Returns:
        The values that were given.

    Raises:
        Refusal: for a name that is no option, and for a value that it cannot have.
    """
    known = {option.name: option for option in options}
    found = {}
    for name, text in query.items():
        if name not in known:
            raise Refusal(400, f"there is no option {name[:40]!r}; there are {', '.join(known)}")
        try:
            found[name] = known[name].parse(text)
        except ValueError as error:
            raise Refusal(400, f"{name} is {text[:40]!r}: {error}") from error
    return found


def reading_of(given: Mapping[str, Any], limits: Limits) -> Reading:
    """Make a Reading of the options that were given, within the limits of the server.

    Raises:
        Refusal: for options that do not go together.
    """
    values = {name: value for name, value in given.items() if name in _OF_READING}
    if values.get("clips", 1) * values.get("crops", 1) > MOST_VIEWS:
        raise Refusal(400, f"clips x crops must be at most {MOST_VIEWS}")
    try:
        return Reading(
            **values,
            max_mb=limits.max_pixel_mb,
            max_seconds=limits.max_seconds,
            timeout_seconds=limits.timeout_s,
        )
    except (OutOfBounds, ValueError) as error:
        raise Refusal(400, str(error)) from error
