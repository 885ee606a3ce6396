"""The choice as a whole, where the rounds and the labelled set say what is written here."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tubelet.bench.tuning import tune
from tubelet.bench.tuning.contest import Ground
from tubelet.bench.tuning.tune import Labelled, notes_on, right_often_enough
from tubelet.preprocess.errors import BackendError
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.merging import Merging
from tubelet.runtime.tuning.record import Choice, Range, Tried

# Rows, the share that each precision has right, the minimum -> near enough, not so, and the precisions that were asked.
Asked = Callable[..., tuple[list[Tried], list[Tried], list[str]]]

BASELINE = Choice("onnxruntime", "fp32", 2, 1)


def row(precision: str, speed: float) -> Tried:
    return Tried("onnxruntime", precision, 2, 1, "measured", clip_ms=10 / speed, speed=Range(speed, speed, speed))


@pytest.fixture
def asked(vivit_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Holds rows against a labelled set, of which each precision has a share right; and says which were asked."""

    def hold(
        rows: list[Tried], shares: dict[str, float], minimum: float | None
    ) -> tuple[list[Tried], list[Tried], list[str]]:
        seen: list[str] = []

        def accuracy(_: Ground, one: Tried, __: Labelled) -> tuple[Range, int]:
            seen.append(one.choice.precision)
            share = shares[one.choice.precision]
            if share < 0:
                raise BackendError("the engine failed", fix="another one")
            return Range(share, share - 0.1, share), 3

        monkeypatch.setattr(tune, "_accuracy", accuracy)
        ground = Ground(Bundle.open(vivit_bundle), 2, None, None, None, lambda _: None)
        near, wrong, unread = right_often_enough(ground, BASELINE, rows, Labelled(Path("val.csv"), None, minimum))
        assert unread == 3
        return near, wrong, seen

    return hold


def test_the_fastest_that_is_right_often_enough_goes_on(
    asked: Asked,
) -> None:
    rows = [row("fp32", 1.0), row("fp16", 1.5), row("int8", 4.0), row("int8-static", 3.9)]
    near, wrong, seen = asked(rows, {"fp32": 0.9, "fp16": 0.89, "int8": 0.7, "int8-static": 0.79}, 80.0)
    assert seen == ["int8", "int8-static", "fp16", "fp32"]
    assert [one.precision for one in near] == ["fp16", "fp32"]
    assert [(one.precision, one.reason) for one in wrong] == [
        ("int8", "right in 70.00 %, below --min-accuracy 80"),
        ("int8-static", "right in 79.00 %, below --min-accuracy 80"),
    ]
    assert all(one.outcome == "inaccurate" for one in wrong)


def test_what_is_too_slow_anyway_is_not_asked_but_for_the_baseline(
    asked: Asked,
) -> None:
    rows = [row("fp32", 1.0), row("fp16", 1.5), row("int8", 4.0)]
    near, wrong, seen = asked(rows, {"fp32": 0.9, "int8": 0.7}, None)
    assert seen == ["int8", "fp32"]
    assert (len(near), wrong) == (3, [])
    assert next(one for one in near if one.precision == "fp16").accuracy is None


def test_where_nothing_is_right_often_enough_nothing_goes_on(
    asked: Asked,
) -> None:
    near, wrong, _ = asked([row("fp32", 1.0), row("int8", 4.0)], {"fp32": 0.5, "int8": 0.5}, 80.0)
    assert near == []
    assert len(wrong) == 2


def test_one_that_fails_meanwhile_is_refused_and_the_others_go_on(asked: Asked) -> None:
    near, out, seen = asked([row("fp32", 1.0), row("int8", 4.0)], {"fp32": 0.9, "int8": -1.0}, 80.0)
    assert seen == ["int8", "fp32"]
    assert [one.precision for one in near] == ["fp32"]
    assert [(one.outcome, one.reason) for one in out] == [("refused", "the engine failed; fix: another one")]


def test_videos_that_cannot_be_read_are_said(vivit_bundle: Path) -> None:
    (said,) = notes_on(Bundle.open(vivit_bundle), None, 3)
    assert said == "labelled videos that could not be read, and are left out: 3; `tubelet evaluate` names them"


def test_what_a_bundle_merges_is_said(vivit_bundle: Path) -> None:
    merging = Merging(8, (128, 64), 1e-3, None, None, "4 clips", 0.99, 1.0, None)
    (said,) = notes_on(replace(Bundle.open(vivit_bundle), merging=merging), 0.0, 0)
    assert said.startswith("the bundle merges 8 tokens a layer: ")


def test_other_work_on_the_machine_is_said(vivit_bundle: Path) -> None:
    bundle = Bundle.open(vivit_bundle)
    assert list(notes_on(bundle, 0.1, 0)) == []
    assert list(notes_on(bundle, 3.0, 0)) == [
        "other work ran on the machine: its load average was 3.0 before the tuning began"
    ]
