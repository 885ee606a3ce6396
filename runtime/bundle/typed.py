"""JSON that anyone may have written, as the dataclasses that it stands for.

The one place where types are checked. Each field is what its dataclass declares, none is missing and there is none too
many. What a type cannot say, such as that a number is above 0, each dataclass checks for itself in `__post_init__`.
What it computes there, such as whether a report passed, must be what the JSON says.
"""

import dataclasses
import json
import re
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from ...preprocess.errors import BundleError
from ...preprocess.small_files import read_small_file
from ...preprocess.spec import ExactSize, ResizeRule, ShortestEdge
from ..limits import CosineLimit, ElementLimit, Limit, ValueLimit

Kind = TypeVar("Kind")

_AGAIN = "export the bundle again"
_MOST_SHOWN = 60  # characters of a value in a message


def read_json_object(path: Path) -> dict[str, Any]:
    """Read the object in a small JSON file. Raises BundleError for anything else, FileNotFoundError for nothing."""
    content = read_small_file(path, BundleError)
    try:
        values = msgspec.json.decode(content)
    except RecursionError as error:
        raise BundleError(f"{path} is damaged: it is nested without end") from error
    except msgspec.MsgspecError as error:
        raise BundleError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise BundleError(f"{path} is damaged: it must hold an object, got {_shown(values)}")
    return values


def typed(values: Any, kind: type[Kind], where: str) -> Kind:
    """Make the dataclass `kind` of parsed JSON.

    Args:
        values: What `json` or `msgspec` parsed; strings, numbers and booleans are not taken for one another.
        kind: A dataclass, whose fields may be dataclasses, named tuples, literals, tuples and dicts.
        where: The name of the file, for messages.

    Raises:
        BundleError: For a field of another type or value, a missing or an unknown one; it names the field.
    """
    try:
        made = msgspec.convert(values, kind, dec_hook=_made_by_hand)
    except RecursionError as error:
        raise BundleError(f"{where}: it is nested without end", fix=_AGAIN) from error
    except msgspec.ValidationError as error:
        raise BundleError(f"{where}: {_in_our_words(str(error), values, kind)}", fix=_AGAIN) from error
    # In a dataclass msgspec passes over unknown fields, and fills in those that have a default.
    if difference := _difference(values, dataclasses.asdict(cast(Any, made)), ""):
        raise BundleError(f"{where}: {difference}", fix=_AGAIN)
    return made


def _made_by_hand(kind: type, value: Any) -> Any:
    """What msgspec has no notion of: a folder, which stands in no file, and a choice between dataclasses."""
    names = value.keys() if isinstance(value, dict) else ()
    chosen: type
    if kind is ResizeRule:
        chosen = ShortestEdge if "edge" in names else ExactSize
    elif kind is Limit:
        chosen = CosineLimit if "cosine" in names else ValueLimit if "share" in names else ElementLimit
    else:
        return value
    try:
        return msgspec.convert(value, chosen, dec_hook=_made_by_hand)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error  # which msgspec adds the outer place to


def _difference(given: Any, known: Any, at: str) -> str | None:
    """Where `given` is not what `known`, which was made of it, says: the first such field, in words.

    It is one too many, or one too few, or of another value than its dataclass computes.
    """
    if isinstance(given, dict):
        for what, names in (("unknown", given.keys() - known.keys()), ("missing", known.keys() - given.keys())):
            if names:
                return f"{f'{at}.{min(names)}'.lstrip('.')} is {what}"
        inner = [(value, known[name], f"{at}.{name}") for name, value in given.items()]
    elif isinstance(given, list):
        inner = [(*pair, f"{at}[{i}]") for i, pair in enumerate(zip(given, known, strict=True))]
    else:
        return None if given == known else f"{at.lstrip('.')} must be {_shown(known)}, got {_shown(given)}"
    return next((found for pair in inner if (found := _difference(*pair))), None)


def _in_our_words(message: str, values: Any, kind: Any) -> str:
    """msgspec's "Expected `int`, got `str` - at `$.graphs[0].opset`", with the field first and the value behind it.

    Where a conversion was called inside another there are several places, the innermost first.
    """
    what, *places = message.split(" - at `$")
    path = "".join(place.removesuffix("`") for place in reversed(places)).lstrip(".")
    if found := re.fullmatch(r"Object missing required field `(.*)`", what):
        return f"{path}.{found[1]} is missing".lstrip(".")
    if found := re.fullmatch(r"Expected (.*?)(?:, got (.*))?", what):
        given = found[2].replace("`", "") if "[...]" in path else _shown(_value_at(values, path))
        return f"{path} must be {found[1].replace('`', '')}, got {given}"
    if what.startswith("Invalid enum value"):
        choices = ", ".join(map(str, get_args(_type_at(kind, path))))
        return f"{path} must be one of {choices}, got {_shown(_value_at(values, path))}"
    return f"{path}: {what}" if path else what


def _steps(path: str) -> list[str | int]:
    return [name or int(index) for name, index in re.findall(r"(\w+)|\[(\d+)\]", path)]


def _value_at(values: Any, path: str) -> Any:
    for step in _steps(path):
        values = values[step]
    return values


def _type_at(kind: Any, path: str) -> Any:
    """The type of the field at that path, through tuples of one type. An optional one is given without its None."""
    for step in _steps(path):
        kind = get_args(kind)[0] if isinstance(step, int) else get_type_hints(kind)[step]
        options = [option for option in get_args(kind) if option is not NoneType]
        if get_origin(kind) in (Union, UnionType) and len(options) == 1:
            (kind,) = options
    return kind


def _shown(value: Any) -> str:
    """As JSON has it, or what of it fits into a line."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'an array'} of {len(value)}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
