"""A labelled set: which videos there are, and what happens in each."""

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from ...preprocess.errors import BundleError, VideoError
from ...preprocess.sources import is_url

_VIDEO_COLUMNS = ("video", "path")
_LABEL_COLUMN = "label"
_KINETICS_COLUMNS = ("youtube_id", "time_start", "time_end")

# The fields of a line -> the video's name and its label.
Fields = Callable[[Sequence[str]], tuple[str, str]]


@dataclass(frozen=True)
class Truth:
    """A labelled set.

    Attributes:
        labels: K names, as the bundle has them.
        classes: the name of each video -> which of the labels is its own.
    """

    labels: tuple[str, ...]
    classes: dict[str, int]


def read_truth(path: Path, labels: Sequence[str], *, root: str | None = None) -> Truth:
    """Read a labelled set from a file of lines.

    A line is a video and its label, which a comma, a tab or spaces part. A first line of names says which columns they
    are in: `video` or `path`, and `label`. Or it has those of Kinetics' own files: `label`, `youtube_id`, `time_start`
    and `time_end`. Their videos are called ID_START_END.mp4, with six digits each.

    Args:
        path: the file.
        labels: the names that the bundle has. A label is one of them, or its number from 0.
        root: a folder, or a URL of fsspec, that the videos lie in.

    Raises:
        VideoError: for a line or a label that is none, and for a video that has two.
        BundleError: for two labels of one name.
    """
    twice = {label for label in labels if labels.count(label) > 1}
    if twice:
        raise BundleError(f"two labels of the bundle are called {min(twice)!r}, so answers cannot be told apart")
    numbers = {label: number for number, label in enumerate(labels)}
    classes: dict[str, int] = {}
    for line, video, label in _pairs(path):
        number = numbers.get(label)
        if number is None and label.isascii() and label.isdigit() and int(label) < len(labels):
            number = int(label)
        if number is None:
            raise _no_label(path, line, label, labels)
        name = video if root is None else f"{root.rstrip('/')}/{video}" if is_url(root) else os.path.join(root, video)
        if classes.setdefault(name, number) != number:
            raise VideoError(f"{path}, line {line}: {video} had another label before, {labels[classes[name]]!r}")
    if not classes:
        raise VideoError(f"{path} names no video", fix="give a file with a video and its label on each line")
    return Truth(tuple(labels), classes)


def _no_label(path: Path, line: int, label: str, labels: Sequence[str]) -> VideoError:
    near = get_close_matches(label, labels, n=1)
    meant = f"did you mean {near[0]!r}?" if near else "see tubelet info BUNDLE --json"
    return VideoError(
        f"{path}, line {line}: {label[:60]!r} is neither a label of the bundle nor a number from 0 to "
        f"{len(labels) - 1}",
        fix=f"write labels as the bundle has them; {meant}",
    )


def _pairs(path: Path) -> Iterator[tuple[int, str, str]]:
    """The number of each line, its video and its label."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise VideoError(f"{path} is no text in UTF-8 ({error})") from error
    split = _splitting(lines[0] if lines else "")
    fields: Fields = _two_fields
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        found = [field.strip() for field in split(line)]
        if number == 1 and (named := _columns(found)) is not None:
            fields = named
            continue
        try:
            yield number, *fields(found)
        except (ValueError, IndexError) as error:
            raise VideoError(
                f"{path}, line {number}, is no video and its label: {line[:80]!r}",
                fix="write VIDEO,LABEL on each line, or name the columns in the first",
            ) from error


def _splitting(first: str) -> Callable[[str], list[str]]:
    """How a file's lines are split, by its first one."""
    for mark in ",\t":
        if mark in first:
            return lambda line: next(csv.reader([line], delimiter=mark))
    return lambda line: line.rsplit(maxsplit=1)  # names of videos may hold spaces


def _two_fields(fields: Sequence[str]) -> tuple[str, str]:
    video, label = fields
    if not video:
        raise ValueError("no video")
    return video, label


def _columns(names: Sequence[str]) -> Fields | None:
    """How the lines below a line of names are read; None where it is no such line."""
    places = {name.lower(): place for place, name in enumerate(names)}
    if _LABEL_COLUMN not in places:
        return None
    label = places[_LABEL_COLUMN]
    for column in _VIDEO_COLUMNS:
        if column in places:
            video = places[column]
            return lambda fields: _two_fields((fields[video], fields[label]))
    if not all(column in places for column in _KINETICS_COLUMNS):
        return None
    youtube, start, end = (places[column] for column in _KINETICS_COLUMNS)
    return lambda fields: (f"{fields[youtube]}_{int(fields[start]):06d}_{int(fields[end]):06d}.mp4", fields[label])
