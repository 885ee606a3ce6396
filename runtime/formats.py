"""Manifests of earlier formats, as the present one would have written them."""

from typing import Any

OLDEST_READ = 2


def upgraded(values: dict[str, Any], version: int) -> dict[str, Any]:
    """Turn what a bundle.json of format `version` holds into what the present format holds.

    Raises KeyError where a field is missing.
    """
    return _from_2(values) if version == 2 else values


def _from_2(values: dict[str, Any]) -> dict[str, Any]:
    """Format 2 told an evaluation from its sampling, and knew no arithmetic but Pillow's of that time."""
    spec = dict(values["spec"])
    sampling = spec.pop("sampling")
    is_vivit = sampling["policy"] == "centre-loop"
    spec["evaluation"] = {
        "sampling": sampling,
        "crop_rounding": "up" if is_vivit else "down",
        "averages": "logits" if is_vivit else "scores",
    }
    return values | {"spec": spec | {"arithmetic": "pillow"}}
