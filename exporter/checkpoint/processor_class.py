"""Which class of transformers a processor's file is for, and whose arithmetic the pixels of that class have."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ...preprocess.errors import CheckpointError
from ...preprocess.spec import Arithmetic
from ..families import registry
from ..families.family import COMMON_DEFAULTS, Family, Processor

PROCESSOR_FILE = "preprocessor_config.json"  # what messages call a file that has no other name

_CLIP_MEAN, _CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
_SQUARE = {"default_to_square": True}
# Those of picture models. Checkpoints of a family now and then carry one, or the processor of another family:
# transformers goes by the class, and so do its defaults.
_PICTURE_PROCESSORS = (
    Processor(
        stem="ViT",
        defaults=COMMON_DEFAULTS | _SQUARE | {"size": {"height": 224, "width": 224}, "do_center_crop": False},
    ),
    Processor(stem="DeiT", defaults=COMMON_DEFAULTS | _SQUARE | {"size": {"height": 256, "width": 256}, "resample": 3}),
    Processor(
        stem="CLIP",
        defaults=COMMON_DEFAULTS
        | {"size": {"shortest_edge": 224}, "resample": 3, "image_mean": _CLIP_MEAN, "image_std": _CLIP_STD},
    ),
)
_CLASS_NAME = re.compile(r"(.+?)(ImageProcessor(Fast|Pil)?|VideoProcessor|FeatureExtractor)")
# The key has changed its name with the kind of class that wrote the file; the oldest counts least.
_TYPE_KEYS = ("video_processor_type", "image_processor_type", "feature_extractor_type")


def wrong_value(values: Mapping[str, Any], key: str, expected: str, file: str) -> CheckpointError:
    """Make the error for a value in a processor's file that makes no sense."""
    return CheckpointError(
        f"{file}: {key} must be {expected}, got {values[key]!r}", fix=f"correct {key} in the checkpoint's {file}"
    )


def class_named(values: Mapping[str, Any], file: str) -> str | None:
    """Return the class that a processor's file says it is for, None where it says nothing; raises CheckpointError."""
    for key in _TYPE_KEYS:
        name = values.get(key)
        if name is not None and not isinstance(name, str):
            raise wrong_value(values, key, "the name of a class", file)
        if name is not None:
            return name
    return None


def processor_named(name: str | None, family: Family, file: str) -> Processor:
    """Return what is known of a class; where the file names none, transformers takes the family's own.

    Raises:
        CheckpointError: for a class that nothing is known of.
    """
    if name is None:
        return family.processor
    match = _CLASS_NAME.fullmatch(name)
    of_families = (each for one in registry.FAMILIES for each in (one.processor, one.video_processor))
    known = {one.stem: one for one in (*of_families, *_PICTURE_PROCESSORS) if one is not None}.values()
    # Compared without case: a published ViViT file says ViViTImageProcessor, a class that never existed.
    found = next((one for one in known if match is not None and match[1].lower() == one.stem.lower()), None)
    if found is None or (found.video_only and not name.endswith("VideoProcessor")):
        raise CheckpointError(
            f"{file} is for {name!r}, whose arithmetic is not supported; supported are "
            f"{', '.join(one.usual_class for one in known)}, and the video processors of "
            f"{' and '.join(one.title for one in registry.FAMILIES)}",
            fix=f"take the {file} of the checkpoint that the weights come from",
        )
    return found


class PixelsChoice(NamedTuple):
    """Whose arithmetic a checkpoint's pixels follow, and what is worth saying about the choice, if anything."""

    arithmetic: Arithmetic
    note: str | None


def choose_arithmetic(
    config: Mapping[str, Any],
    *,
    family: Family,
    transformers_version: str | None,
    asked: Arithmetic | None = None,
    file: str = PROCESSOR_FILE,
) -> PixelsChoice:
    """Choose whose arithmetic a checkpoint's pixels follow.

    The class that the file names decides. A video processor and a "Fast" class compute with torchvision, a "Pil" class
    and a feature extractor with Pillow. So does the image processor of ViViT, in every version. The bare name of
    another image processor means two classes: one with Pillow before transformers 5, one with torchvision since. Files
    of both look alike, so the version in config.json decides, which the same `save_pretrained` or Trainer wrote. Where
    none is there, Pillow is taken: transformers 5 always writes one.

    Pillow is Pillow up to version 12, which nearly all published checkpoints were trained and evaluated with. Its
    version 13 differs on tall frames alone and is taken only where it is asked for.

    Args:
        config: the parsed preprocessor_config.json, or video_preprocessor_config.json.
        family: of the model; its own image processor is meant where the file names no class.
        transformers_version: what config.json says, or None.
        asked: what the caller wants instead, or None.
        file: which was parsed, for messages.

    Returns:
        The arithmetic, and a note where the files leave it open, or the caller overrules them, or it is torchvision's.

    Raises:
        CheckpointError: for a class that is not supported.
    """
    name = class_named(config, file)
    processor = processor_named(name, family, file)
    called = name or processor.usual_class
    chosen: Arithmetic = "pillow"
    note = None
    if called.endswith("VideoProcessor") or (called.endswith("Fast") and not processor.always_pillow):
        chosen, note = "torchvision", f"pixels are computed as torchvision does, as {called} does"
    elif called.endswith("ImageProcessor") and not processor.always_pillow:
        major = re.match(r"\d+", transformers_version or "")
        source = f"transformers_version {transformers_version}" if major else "it does not say which version wrote it"
        if major and int(major[0]) >= 5:
            chosen = "torchvision"
            note = (
                f"pixels are computed as torchvision does, as {called} does since transformers 5 (config.json: "
                f"{source}); --pixels pillow computes them as Pillow does"
            )
        else:
            note = (
                f"pixels are computed as Pillow does, as {called} did before transformers 5 (config.json: {source}); "
                "for a model fine-tuned since, --pixels torchvision"
            )
    if asked is None or asked == chosen:
        return PixelsChoice(chosen, note if asked is None else None)
    return PixelsChoice(asked, f"pixels are computed as {asked} does, as asked for; {called} means {chosen}")
