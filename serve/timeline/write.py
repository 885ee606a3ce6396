"""A timeline goes to a file, as its suffix says."""

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from ...preprocess.decode import OnError
from ...preprocess.errors import TubeletError
from ...preprocess.sources import Source
from ...runtime.storage.written import written_file
from .page import page
from .picture import MOST_PICTURES, check_pillow, picture
from .record import Timeline
from .tables import to_csv, to_json, to_vtt
from .thumbnails import MOST, frames_at, jpeg

TEXTS: dict[str, Callable[[Timeline], str]] = {".json": to_json, ".csv": to_csv, ".vtt": to_vtt}
SUFFIXES = (".html", ".png", *TEXTS)


def check_target(path: Path, *, force: bool) -> None:
    """Raise TubeletError where no timeline can go to `path`: it would be a pity to find out after an hour."""
    if path.suffix.lower() not in SUFFIXES:
        raise TubeletError(f"{path} must end in {', '.join(SUFFIXES)}", fix="name a .html to look at, with -o")
    if path.suffix.lower() == ".png":
        check_pillow()
    if path.is_dir():
        raise TubeletError(f"{path} is a folder", fix="name a file with -o")
    if not path.parent.is_dir():
        raise TubeletError(f"the folder {path.parent} does not exist", fix="make it, or name another with -o")
    if path.exists() and not force:
        raise TubeletError(f"{path} exists", fix="choose another file with -o, or replace it with --force")


def write_timeline(
    timeline: Timeline, video: Source, path: Path, *, rotate: bool, on_error: OnError, force: bool
) -> None:
    """Write what the suffix of `path` says: a page, a picture, or text.

    Args:
        timeline: what is written.
        video: where the pictures at its events are read.
        path: the file.
        rotate: whether pictures are turned upright.
        on_error: what to do about damage.
        force: replace a file that is there.

    Raises:
        TubeletError: as `check_target` does, and where the file cannot be written. What was there then still is.
        VideoError: where the video cannot be read again.
    """
    check_target(path, force=force)
    suffix = path.suffix.lower()
    if suffix in TEXTS:
        content = TEXTS[suffix](timeline).encode()
    else:
        chosen = best_events(timeline, MOST_PICTURES if suffix == ".png" else MOST)
        moments = [(timeline.events[number].begin + timeline.events[number].end) / 2 for number in chosen]
        frames = frames_at(video, moments, rotate=rotate, on_error=on_error) if moments else None
        shown = {} if frames is None else dict(zip(chosen, frames, strict=True))
        if suffix == ".png":
            content = picture(timeline, shown)
        else:
            jpegs = [jpeg(shown[number]) if number in shown else None for number in range(len(timeline.events))]
            content = page(timeline, jpegs, link=link_to(video, path)).encode()
    with written_file(path, follow_link=True) as beside:
        beside.write_bytes(content)


def best_events(timeline: Timeline, most: int) -> list[int]:
    """The numbers, from 0, of the events that get a picture, by their begin. Pictures go to the best of each label
    first, then to the second best of each, and so on.
    """
    by_label: dict[str, list[int]] = {}
    for number in sorted(range(len(timeline.events)), key=lambda number: -timeline.events[number].score):
        by_label.setdefault(timeline.events[number].label, []).append(number)
    rank = {number: place for numbers in by_label.values() for place, number in enumerate(numbers)}
    order = sorted(rank, key=lambda number: (rank[number], -timeline.events[number].score))
    return sorted(order[:most])


def link_to(video: Source, page_path: Path) -> str | None:
    """The address of a video relative to a page; None for one that is no file, or on another drive."""
    if not isinstance(video.content, Path):
        return None
    try:
        relative = os.path.relpath(video.content.resolve(), page_path.parent.resolve())
    except ValueError:
        return None
    return quote(Path(relative).as_posix())
