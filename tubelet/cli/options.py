"""What several commands share: options, and ways to speak."""

import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import click

from ..preprocess.errors import BundleError, OutOfBounds
from ..preprocess.redaction import redacted
from ..runtime.backends import BACKENDS, DEFAULT_BACKEND, DEFAULT_PRECISION
from ..runtime.bounds import IMAGE_SIDE, MERGED_TOKENS, THREADS, WORKERS, Bound, whole_number
from ..runtime.hub import SCHEME, HubAddress, is_on_hub
from ..runtime.storage.exchange import restored
from ..runtime.tuning.auto import AUTO

EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

Command = Callable[..., None]


class BundlePath(click.Path):
    """The folder of a bundle, put back where a process died while it was replacing it.

    on_hub: whether its address on the Hub may stand in its place.
    """

    def __init__(self, *, on_hub: bool = False) -> None:
        super().__init__(path_type=Path)
        self.on_hub = on_hub

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        if isinstance(value, str) and is_on_hub(value):
            if not self.on_hub:
                self.fail(
                    f"{value} is on the Hub, and a folder is needed here: "
                    f"tubelet pull {value.removeprefix(SCHEME)} -o BUNDLE fetches it",
                    param,
                    ctx,
                )
            return value
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        restored(path, say=note)
        return path


bundle_argument = click.argument("bundle", type=BundlePath())
# For commands that do nothing but run a bundle.
runnable_argument = click.argument("bundle", type=BundlePath(on_hub=True))
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


class HubAddressOption(click.ParamType[HubAddress]):
    """owner/name or owner/name@REV, with or without hf:// in front."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> HubAddress:
        try:
            return value if isinstance(value, HubAddress) else HubAddress.parse(str(value))
        except BundleError as error:
            self.fail(error.message + "; give owner/name or owner/name@REVISION", param, ctx)


class Bounded(click.ParamType[int]):
    """A whole number within a bound that Python has as well."""

    name = "integer"

    def __init__(self, bound: Bound) -> None:
        self.bound = bound

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return self.bound.check(int(value) if re.fullmatch(r"-?[0-9]{1,30}", str(value)) else value)
        except OutOfBounds as error:
            self.fail(error.message, param, ctx)


threads_option = click.option(
    "--threads",
    type=Bounded(THREADS),
    help="CPU threads that compute one batch.  [default: the engine's, or what auto is]",
)
batch_option = click.option(
    "--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Clips in one run of the graph."
)
workers_option = click.option(
    "--workers", type=Bounded(WORKERS), default=2, show_default=True, help="Threads that read ahead of the model."
)


def engine_options(command: Command) -> Command:
    """--backend, --precision and --threads, the same for every command that runs one graph."""
    command = threads_option(command)
    command = click.option(
        "--precision",
        help=f"Which of the bundle's graphs to run.  [default: {DEFAULT_PRECISION}, or what auto is]",
    )(command)
    return click.option(
        "--backend",
        type=click.Choice([*BACKENDS, AUTO]),
        default=DEFAULT_BACKEND,
        show_default=True,
        help="What executes the graph; auto is what `tubelet tune` chose for this machine.",
    )(command)


Name = TypeVar("Name", bound=str)


class NameList(click.ParamType[tuple[Name, ...]], Generic[Name]):
    """Some of a few names, separated by commas; each once."""

    name = "names"

    def __init__(self, names: tuple[Name, ...]) -> None:
        self.names = names

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Name, ...]:
        found: list[Name] = []
        for name in value.split(","):
            known = [known for known in self.names if known == name.strip()]
            if not known:
                self.fail(f"{name.strip()!r} is none of {', '.join(self.names)}", param, ctx)
            found += known
        return tuple(dict.fromkeys(found))


def each_once(_ctx: click.Context, _param: click.Parameter, lists: tuple[tuple[Name, ...], ...]) -> tuple[Name, ...]:
    """The names of all lists of an option that was given several times."""
    return tuple(dict.fromkeys(itertools.chain.from_iterable(lists)))


class LayerList(click.ParamType[tuple[int, ...]]):
    """Numbers of layers from 0 on, separated by commas, in rising order; each once."""

    name = "layers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        try:
            return tuple(sorted({whole_number(number) for number in value.split(",")}))
        except ValueError:
            self.fail(f"{value[:40]!r} is no list of layers, such as 17,19,21,23", param, ctx)


class MergedTokens(click.ParamType[int | str]):
    """A number of tokens, or "auto"."""

    name = "tokens"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        return "auto" if value == "auto" else Bounded(MERGED_TOKENS).convert(value, param, ctx)


class ImageSize(click.ParamType[tuple[int, int]]):
    """(height, width) in pixels, as N for both or HxW."""

    name = "image size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        sides = value.lower().split("x")
        try:
            if len(sides) > 2:
                raise ValueError("there are two sides")
            numbers = [IMAGE_SIDE.check(whole_number(side)) for side in sides]
        except ValueError as error:
            self.fail(
                f"{value[:40]!r} is neither a number of pixels nor HEIGHTxWIDTH, such as 288 or 288x512 ({error})",
                param,
                ctx,
            )
        return numbers[0], numbers[-1]


calibrate_option = click.option(
    "--calibrate",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="FOLDER|FILE",
    help="Videos to observe activations on, for all but int8; of a folder, all that are in it. May be repeated.  "
    "[default: the reference clips]",
)


def check_no_video(outputs: Iterable[Path], videos: Sequence[str]) -> None:
    """Raise UsageError for an output that is one of the videos, by whichever name: --force would replace it."""
    own = {_identity(video) for video in videos} - {None}
    for output in outputs:
        if _identity(output) in own:
            raise click.UsageError(f"{output} is the video itself: name another file")


def _identity(path: str | Path) -> tuple[int, int] | None:
    """What tells a file from every other, by whichever name; None where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))  # in ASCII, which every stdout can carry


def note(message: str) -> None:
    """Say something once that the user should know, beside the result."""
    click.echo(redacted(f"note: {message}"), err=True)
