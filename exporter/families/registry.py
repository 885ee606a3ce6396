"""The families that there are. A new one is a file beside this one, and a line here."""

from collections.abc import Mapping
from typing import Any

from ...preprocess.errors import CheckpointError
from . import timesformer, videomae, vivit, vjepa2
from .family import Family

FAMILIES: tuple[Family, ...] = (
    vivit.FAMILY,
    videomae.FAMILY,
    timesformer.FAMILY,
    vjepa2.FAMILY,
)


def family_of(settings: Mapping[str, Any]) -> Family:
    """Return the family of a parsed config.json.

    Raises:
        CheckpointError: For a model_type of no family, with the list of those that there are.
    """
    for family in FAMILIES:
        if settings.get("model_type") == family.name:
            return family
    supported = ", ".join(
        f"{family.name} ({', '.join(kind.__name__ for kind in family.classes.values())})" for family in FAMILIES
    )
    raise CheckpointError(
        f"model_type {settings.get('model_type')!r} with architectures {settings.get('architectures')!r} "
        f"is not supported; supported are {supported}"
    )


def family_named(name: str) -> Family:
    """Return the family of a model_type; raises CheckpointError where there is none."""
    return family_of({"model_type": name})
