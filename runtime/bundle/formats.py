"""Manifests of earlier formats, as the present one would have written them."""

from typing import Any

OLDEST_READ = 2


def upgraded(values: dict[str, Any], version: int) -> dict[str, Any]:
    """Turn what a bundle.json of format `version` holds into what the present format holds.

    Raises ValueError where what is to be changed is not there. All else is for whoever reads the present format.
    """
    for older in range(version, OLDEST_READ + len(_STEPS)):
        values = _STEPS[older](values)
    return values


def _from_2(values: dict[str, Any]) -> dict[str, Any]:
    """Format 2 told an evaluation from its sampling, and knew one arithmetic, Pillow's of that time.

    It called a model of one label a classifier, whose only score is 1 whatever it sees.
    """
    match values.get("spec"):
        case {"sampling": {"policy": policy} as sampling, **spec}:
            is_vivit = policy == "centre-loop"
        case _:
            raise ValueError("spec.sampling.policy is missing")
    spec["evaluation"] = {
        "sampling": sampling,
        "crop_rounding": "up" if is_vivit else "down",
        "averages": "logits" if is_vivit else "scores",
    }
    values = values | {"spec": spec | {"arithmetic": "pillow"}}
    if values.get("problem_type") == "single_label_classification" and len(values.get("labels") or ()) == 1:
        values["problem_type"] = "regression"
    return values


def _from_3(values: dict[str, Any]) -> dict[str, Any]:
    """Format 3 knew one order of tokens, clips of one part, and crops of frames resized as for one."""
    match values.get("spec"):
        case {"evaluation": {"sampling": {} as sampling, **evaluation}, **spec}:
            pass
        case _:
            raise ValueError("spec.evaluation.sampling is missing")
    evaluation |= {"sampling": sampling | {"joined": 1}, "crops_of": "resized"}
    return values | {"spec": spec | {"evaluation": evaluation}, "token_order": "slice-by-slice"}


def _from_4(values: dict[str, Any]) -> dict[str, Any]:
    """Format 4 knew no merged tokens."""
    return values | {"merging": None}


def _from_5(values: dict[str, Any]) -> dict[str, Any]:
    """Format 5 did not say how far close choices between merges move the answer."""
    merging = values.get("merging")
    if not isinstance(merging, dict):
        return values
    return values | {"merging": merging | {"moved": None, "moved_elsewhere": None}}


# Format -> what makes the next one of it.
_STEPS = {2: _from_2, 3: _from_3, 4: _from_4, 5: _from_5}
