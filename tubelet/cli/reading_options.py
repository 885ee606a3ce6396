"""The options that say how videos are read."""

import functools
from typing import Any, get_args

import click

from ..preprocess.decode import OnError
from ..preprocess.sources import MAX_MB
from ..runtime.bounds import whole_number
from ..runtime.reading import MOST_MB, TRACK, Reading, ResizeName, SamplingName
from .options import Command


class Views(click.ParamType[tuple[int, int]]):
    """CLIPSxCROPS, such as 4x3."""

    name = "CLIPSxCROPS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        numbers = str(value).split("x")
        try:
            if len(numbers) != 2:
                raise ValueError("there are two numbers")
            return whole_number(numbers[0]), whole_number(numbers[1])
        except ValueError as error:
            self.fail(f"{str(value)[:40]!r} is not CLIPSxCROPS, such as 4x3 ({error})", param, ctx)


track_option = click.option(
    "--track",
    type=click.IntRange(TRACK.least, TRACK.most),
    metavar="N",
    help="Which video track to read, from 0.  [default: the best, as FFmpeg sees it]",
)
max_mb_option = click.option(
    "--max-mb",
    type=click.IntRange(MOST_MB.least, MOST_MB.most),
    default=MAX_MB,
    show_default=True,
    help="Pixels to hold while a video is read; a quarter of it for one frame.",
)
rotate_option = click.option("--no-rotate", is_flag=True, help="Leave frames as they are stored, not upright.")
on_error_option = click.option(
    "--on-error",
    type=click.Choice(get_args(OnError)),
    default="raise",
    show_default=True,
    help="Damaged packets: an error, or skipped, with the nearest good frame standing in.",
)
resize_option = click.option(
    "--resize",
    type=click.Choice(get_args(ResizeName)),
    default="exact",
    show_default=True,
    help="exact: bit for bit as the checkpoint's processor; fast: FFmpeg's scaler while it decodes.",
)
url_option = click.option("--allow-url", is_flag=True, help="Open URLs, such as https:// or rtsp://, by FFmpeg.")


def reading_options(command: Command) -> Command:
    """The options that make a Reading, passed on as `reading`."""
    views = click.option(
        "--views", type=Views(), default="1x1", show_default=True, help="Average over clips and crops, 4x3 for ViViT."
    )
    return views(one_view_options(command))


def one_view_options(command: Command) -> Command:
    """The options that make a Reading of one clip and one crop, passed on as `reading`."""

    @click.option(
        "--sampling",
        type=click.Choice(get_args(SamplingName)),
        default="eval",
        show_default=True,
        help="eval: the frames of the family's published evaluation; uniform: evenly over the file.",
    )
    @click.option(
        "--fps",
        type=float,
        help="Resample to this many frames a second by time first.",
    )
    @rotate_option
    @on_error_option
    @resize_option
    @track_option
    @max_mb_option
    @url_option
    @functools.wraps(command)
    def with_reading(
        *,
        sampling: SamplingName,
        fps: float | None,
        no_rotate: bool,
        on_error: OnError,
        resize: ResizeName,
        track: int | None,
        max_mb: int,
        allow_url: bool,
        views: tuple[int, int] = (1, 1),
        **others: Any,
    ) -> None:
        reading = Reading(
            sampling,
            fps,
            *views,
            rotate=not no_rotate,
            on_error=on_error,
            resize=resize,
            track=track,
            max_mb=max_mb,
            allow_url=allow_url,
        )
        command(reading=reading, **others)

    return with_reading


def stream_reading_options(command: Command) -> Command:
    """The options that make a Reading of a stream or a long file, passed on as `reading`."""

    @click.option(
        "--fps",
        type=float,
        help="Frames a second of the files that the model was trained on: its stride counts them.  [default: 30]",
    )
    @click.option(
        "--crops", type=click.Choice(["1", "3"]), default="1", show_default=True, help="Crops that are averaged."
    )
    @rotate_option
    @on_error_option
    @resize_option
    @track_option
    @max_mb_option
    @functools.wraps(command)
    def with_reading(
        *,
        fps: float | None,
        crops: str,
        no_rotate: bool,
        on_error: OnError,
        resize: ResizeName,
        track: int | None,
        max_mb: int,
        **others: Any,
    ) -> None:
        reading = Reading(
            fps=fps,
            crops=int(crops),
            rotate=not no_rotate,
            on_error=on_error,
            resize=resize,
            track=track,
            max_mb=max_mb,
        )
        command(reading=reading, **others)

    return with_reading
