"""What the families say of themselves."""

import pytest
from checkpoints import published_evaluation

from tubelet.exporter.families import registry
from tubelet.preprocess.errors import CheckpointError
from tubelet.preprocess.spec import Evaluation, Sampling


@pytest.mark.parametrize(
    ("family", "num_labels", "expected"),
    [
        ("vivit", 400, Evaluation(Sampling("centre-loop", 2), crop_rounding="up", averages="logits")),
        ("vivit", 174, Evaluation(Sampling("centre-loop", 2), crop_rounding="up", averages="logits")),
        ("videomae", 400, Evaluation(Sampling("centre-hold", 4), crop_rounding="down", averages="scores")),
        ("videomae", 2, Evaluation(Sampling("centre-hold", 4), crop_rounding="down", averages="scores")),
        ("videomae", 174, Evaluation(Sampling("segments", 1), crop_rounding="down", averages="scores")),
        ("timesformer", 400, Evaluation(Sampling("start-span", 32), crop_rounding="up", averages="logits")),
        ("timesformer", 174, Evaluation(Sampling("segment-middles", 1), crop_rounding="up", averages="logits")),
    ],
)
def test_published_evaluation(family, num_labels, expected):
    assert published_evaluation(family, num_labels) == expected


@pytest.mark.parametrize("name", ["convnext", "", None, "VideoMAE"])
def test_an_unknown_family_is_an_error_that_lists_those_that_there_are(name: str | None) -> None:
    with pytest.raises(CheckpointError) as caught:
        registry.family_of({"model_type": name})
    assert all(family.name in caught.value.message for family in registry.FAMILIES)


def test_no_two_families_have_one_name() -> None:
    assert len({family.name for family in registry.FAMILIES}) == len(registry.FAMILIES)
    processors = [each for one in registry.FAMILIES for each in (one.processor, one.video_processor) if each]
    by_stem = {each.stem.lower(): each for each in processors}
    assert all(by_stem[each.stem.lower()] is each for each in processors)  # two families may take one and the same
