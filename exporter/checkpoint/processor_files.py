"""How to prepare a clip: which of the files beside a checkpoint says it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...preprocess.errors import CheckpointError
from .small_files import read_json_object

# Since its version 5 transformers writes the processors that make up one for several kinds of input into the first.
PROCESSOR_FILES = ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json")
# (file, key of the object in it), best first: as transformers 5 looks for a video processor, and then for an image
# processor. Without a key the whole file is the processor.
_PLACES = (
    ("processor_config.json", "video_processor"),
    ("video_preprocessor_config.json", None),
    ("processor_config.json", "image_processor"),
    ("preprocessor_config.json", None),
)


@dataclass(frozen=True)
class ProcessorFile:
    """How to prepare a clip, as a file says it: `values`, read at `place`, such as preprocessor_config.json."""

    place: str
    values: Mapping[str, Any]


def has_processor(folder: Path) -> bool:
    """Whether one of the files is there, and says how to prepare a clip."""
    return bool(_found(folder))


def read_processor(folder: Path, name: str, report: Callable[[str], None]) -> ProcessorFile:
    """Read the processor that transformers would take; where there are others beside it, that is reported.

    Args:
        folder: Where the files lie.
        name: What the checkpoint is called, for the message where there is none.
        report: Called with a line for what was chosen.

    Raises:
        CheckpointError: Where there is none, or it is no JSON object.
    """
    found = _found(folder)
    if not found:
        raise CheckpointError(
            f"{name} has none of {', '.join(PROCESSOR_FILES)} with a processor of pictures or videos, so how to "
            "prepare a clip is not known",
            fix="copy preprocessor_config.json from the checkpoint that this one was fine-tuned from",
        )
    processor, *others = found
    if others:
        left = ", ".join(other.place for other in others)
        report(f"clips are prepared as {processor.place} says, which transformers 5 takes before {left}")
    return processor


def _found(folder: Path) -> list[ProcessorFile]:
    """Every processor that there is, best first."""
    found: list[ProcessorFile] = []
    for name, key in _PLACES:
        if not (folder / name).exists():
            continue
        content = read_json_object(folder / name)
        if key is None:
            found.append(ProcessorFile(name, content))
        elif content.get(key) is not None:
            found.append(ProcessorFile(f"{key} in {name}", _object(content[key], f"{key} in {folder / name}")))
    return found


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CheckpointError(f"{what} must be an object, got {type(value).__name__}")
    return value
