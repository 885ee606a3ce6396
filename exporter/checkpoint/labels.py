"""What the classes of a classifier are called."""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ...preprocess.errors import CheckpointError
from ..families.family import Family
from .hub import fetch_label_file
from .small_files import parse_json, read_small_text

_MOST = 1_000_000
_PLACEHOLDER = re.compile(r"LABEL_\d+")
_ID = re.compile(r"\d{1,9}", re.ASCII)
# "0 x", "0: x" and the like; with a comma, semicolon or tab it is a table of columns.
_NUMBERED = re.compile(r"(\d{1,9})(?:\s*[:=]\s*|\s+)(\S.*)", re.ASCII)
_DELIMITERS = ("\t", ",", ";")
_ID_HEADERS = ("id", "index", "idx", "class_id", "label_id")
_FORMS = (
    "give --labels FILE one name a line, a JSON list of names, a JSON object of id to name or name to id, or a CSV of "
    "two columns, id and name, quoted where a name has a comma; ids count from 0"
)


def _wrong(problem: str) -> CheckpointError:
    return CheckpointError(problem, fix=_FORMS)


def read_labels(path: Path, expected: int) -> tuple[str, ...]:
    """Read the names of the labels, by index, from a file of the caller.

    It may hold one name a line, or a JSON list of names. A JSON object of id to name, or name to id, is read too. Or
    it has id and name in two columns, either way round, between commas, semicolons or tabs. A header may stand above.

    Raises:
        CheckpointError: For anything else, and where it does not give `expected` names.
    """
    try:
        text = read_small_text(path).strip("\r\n\t ")
    except FileNotFoundError as error:
        raise CheckpointError(f"labels cannot be read from {path}: there is no such file") from error
    where = str(path)
    content = parse_json(text, path) if path.suffix.lower() == ".json" else _json_or_none(text, path)
    if content is None:
        names = _from_lines(re.split(r"\r\n|\n|\r", text) if text else [], expected, where)
    elif isinstance(content, list):
        names = _ordered(dict(enumerate(content)), where)
    elif isinstance(content, dict):
        names = _ordered(_by_id(list(content.items()), where), where)
    else:
        raise _wrong(f"{where} holds a JSON {type(content).__name__}, which names no labels")
    if len(names) != expected:
        raise _wrong(f"{where} has {len(names)} labels, and the model has {expected}")
    return names


def _json_or_none(text: str, path: Path) -> Any:
    """The list or object that the text of a file without the suffix .json is; None where it is neither."""
    if not text.startswith(("[", "{")):
        return None
    try:
        return parse_json(text, path)
    except CheckpointError:
        return None  # a name may well begin with a bracket


def _from_lines(lines: Sequence[str], expected: int, where: str) -> tuple[str, ...]:
    """The names in a text file."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise _wrong(f"line {number} of {where} is empty, and each must name a label")
    for delimiter in _DELIMITERS:
        rows = [_columns(line, delimiter) for line in lines]
        if rows and all(len(row) == 2 for row in rows):
            pairs = _without_header(rows)
            if any(all(_is_id(row[column]) for row in pairs) for column in (0, 1)):
                header = rows[0] if len(pairs) < len(rows) else []
                return _ordered(_by_id([(row[0], row[1]) for row in pairs], where, header), where)
    matches = [match for line in lines if (match := _NUMBERED.fullmatch(line.strip()))]
    if matches and len(matches) == len(lines) and len(lines) == expected:
        ids = sorted(int(match[1]) for match in matches)
        if ids in (list(range(expected)), list(range(1, expected + 1))):
            return _ordered(_by_id([(match[1], match[2]) for match in matches], where), where)
    for delimiter in _DELIMITERS:
        rows = [_columns(line, delimiter) for line in lines]
        if rows and all(len(row) > 1 and (_is_id(row[0]) or _is_id(row[-1])) for row in _without_header(rows)):
            number, row = next((number, row) for number, row in enumerate(rows, start=1) if len(row) != 2)
            raise _wrong(f"line {number} of {where} has {len(row)} columns, expected 2: id and name")
    whole = [_columns(line, ",") for line in lines]
    if all(len(row) == 1 for row in whole):
        lines = [row[0] for row in whole]  # one quoted column
    return _ordered(dict(enumerate(lines)), where)


def _columns(line: str, delimiter: str) -> list[str]:
    """The fields of one line of a CSV; the whole line where its quotes do not match."""
    try:
        return [field.strip() for field in next(csv.reader([line], delimiter=delimiter, strict=True))]
    except csv.Error:
        return [line.strip()]


def _without_header(rows: list[list[str]]) -> list[list[str]]:
    """The rows, without the first where it alone has no id in any column."""
    has_header = len(rows) > 1 and not any(map(_is_id, rows[0])) and any(map(_is_id, rows[1]))
    return rows[1:] if has_header else rows


def _is_id(value: Any) -> bool:
    if isinstance(value, str):
        return _ID.fullmatch(value) is not None
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST


def _by_id(pairs: Sequence[tuple[Any, Any]], where: str, header: Sequence[str] = ()) -> dict[int, Any]:
    """The names by id, of pairs that are (id, name) or (name, id), whichever holds each id from 0 once."""
    turned = [(name, number) for number, name in pairs]
    wanted = list(range(len(pairs)))
    readings = [
        {int(number): name for number, name in reading}
        for reading in (pairs, turned)
        if all(_is_id(number) for number, _ in reading) and sorted(int(number) for number, _ in reading) == wanted
    ]
    if len(readings) == 2 and {i: str(name) for i, name in readings[0].items()} != {
        i: str(name) for i, name in readings[1].items()
    }:
        named = [cell.lower() in _ID_HEADERS for cell in header]
        if sum(named) != 1:
            raise _wrong(f"{where} can be read as id to name and as name to id: the names are numbers too")
        return readings[named.index(True)]
    if readings:
        return readings[0]
    for reading in (pairs, turned):
        if reading and all(_is_id(number) for number, _ in reading):
            _check_ids([int(number) for number, _ in reading], where)
    odd = next((pair for pair in pairs if not _is_id(pair[0]) and not _is_id(pair[1])), pairs[0] if pairs else None)
    raise _wrong(f"{where} must map ids to names or names to ids, got {_short(odd)}")


def _check_ids(ids: Sequence[int], where: str) -> None:
    """Raise CheckpointError where the ids are not 0 to K - 1, each once."""
    found = sorted(ids)
    wanted = list(range(len(found)))
    if found == wanted:
        return
    if found == [number + 1 for number in wanted]:
        raise _wrong(f"{where} is 1-based: its ids are 1 to {len(found)}, and a model counts from 0")
    twice = next((a for a, b in pairwise(found) if a == b), None)
    absent = next(iter(sorted(set(wanted) - set(found))))
    problem = f"has no id {absent}" if twice is None else f"has id {twice} twice"
    raise _wrong(f"{where} {problem}: {len(found)} labels have the ids 0 to {len(found) - 1}")


def _ordered(by_id: Mapping[int, Any], where: str) -> tuple[str, ...]:
    """The names in the order of their ids, which are 0 to K - 1; each must be one."""
    return tuple(_name(by_id[index], index, where) for index in range(len(by_id)))


def _name(value: Any, index: int, where: str) -> str:
    """A name, which may be a whole number."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MOST:
        return str(value)
    if value is None:
        raise _wrong(f"{where} has null for the name of label {index}")
    if not isinstance(value, str) or not value.strip():
        raise _wrong(f"{where} must name each label, got {_short(value)} for {index}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _wrong(f"{where} has a name that is no valid text for label {index}: {_short(value)}") from error
    return value.strip()


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def choose_labels(
    settings: Mapping[str, Any],
    count: int,
    file: Path | None,
    *,
    from_hub: bool,
    family: Family,
    report: Callable[[str], None],
) -> tuple[str, ...]:
    """The names in the caller's `file`; else those of config.json, `settings`.

    Where its id2label holds no names and its label2id does, those stand. A checkpoint of the Hub may name none. Then
    it gets those of its family's published checkpoints with as many labels. `report` takes a line where either is
    done, and where labels stay unnamed.
    """
    if file is not None:
        return read_labels(file, count)
    names = tuple(f"LABEL_{index}" for index in range(count))
    if settings.get("id2label"):
        names = _map_of_config(settings, "id2label")
    if not all(_PLACEHOLDER.fullmatch(name) for name in names):
        return names
    label2id = settings.get("label2id")
    if isinstance(label2id, Mapping) and not all(_PLACEHOLDER.fullmatch(str(name)) for name in label2id):
        named = _map_of_config(settings, "label2id")
        if len(named) == count:
            report("the labels are those of label2id in config.json; its id2label names none")
            return named
    why = "the checkpoint gives no others"
    if from_hub and count in family.label_files:
        try:
            path = fetch_label_file(family.label_files[count])
            published = read_labels(path, count)
        except CheckpointError as error:
            why = error.message
        else:
            report(f"config.json names no labels; they are taken from {path.name} of huggingface/label-files")
            return published
    remain = f"labels remain {names[0]} to {names[-1]}" if count > 1 else f"the label remains {names[0]}"
    report(f"{remain}: {why}; pass --labels FILE to name {'them' if count > 1 else 'it'}")
    return names


def _map_of_config(settings: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The names in id2label, which maps id to name and nothing else, or in label2id, which maps name to id."""
    content = settings[key]
    where = f"{key} of config.json"
    if not isinstance(content, Mapping):
        raise _wrong(f"{where} must be an object, got {_short(content)}")
    pairs = [(number, name) if key == "id2label" else (name, number) for number, name in content.items()]
    if not all(_is_id(number) for number, _ in pairs):
        raise _wrong(f"{where} must have whole numbers from 0 as its ids, got {_short(content)}")
    _check_ids([int(number) for number, _ in pairs], where)
    return _ordered({int(number): name for number, name in pairs}, where)
