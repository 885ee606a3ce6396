"""What is chosen, by speeds and cosines that are given here."""

from dataclasses import replace

import pytest

from tubelet.bench.tuning.choice import FINALISTS, best, divide, frontier, is_worth
from tubelet.runtime.tuning.record import Outcome, Range, Tried


def row(
    precision: str,
    speed: float | None,
    cosine: float | None = 1.0,
    *,
    spread: float = 0.0,
    outcome: Outcome = "measured",
) -> Tried:
    found = None if speed is None else Range(speed, speed - spread, speed + spread)
    return Tried("openvino", precision, 2, 1, outcome, speed=found, cosine=cosine)


FP32, BF16, INT8 = row("fp32", 1.0), row("bf16", 2.0, 0.9999), row("int8", 4.0, 0.998)


def test_the_fastest_is_chosen() -> None:
    assert best([FP32, INT8, BF16]) is INT8
    assert best([FP32]) is FP32


def test_among_those_that_are_as_fast_the_nearest_to_torch_is() -> None:
    assert best([INT8, row("bf16", 3.9, 0.9999)]).precision == "bf16"
    assert best([INT8, row("bf16", 3.7, 0.9999)]).precision == "int8"  # too slow for that
    # Cosines that differ in the seventh digit do not: the faster one.
    assert best([row("fp32", 3.9, 1.0), row("fp16", 4.0, 0.99999999)]).precision == "fp16"


def test_values_of_a_regression_have_no_cosine_and_the_fastest_is_chosen() -> None:
    assert best([row("fp32", 3.9, None), row("int8", 4.0, None)]).precision == "int8"


def test_what_cannot_catch_up_is_left_behind_with_the_reason() -> None:
    go_on, stay = divide([FP32, BF16, INT8, row("int8-bf16", 3.0, 0.998)])
    assert [one.precision for one in go_on] == ["int8", "int8-bf16"]
    assert [(one.precision, one.outcome) for one in stay] == [("bf16", "slow"), ("fp32", "slow")]
    assert stay[0].reason == "2.00x in the first rounds, where openvino int8 had 4.00x"


def test_rounds_that_differ_have_the_benefit_of_the_doubt() -> None:
    unsteady = row("bf16", 2.0, 0.9999, spread=0.5)
    assert divide([INT8, unsteady])[0] == [INT8, unsteady]
    assert divide([INT8, BF16])[0] == [INT8]


def test_no_more_than_a_few_are_measured_to_the_end() -> None:
    equal = [row(f"p{place}", 4.0 - place / 100) for place in range(FINALISTS + 2)]
    go_on, stay = divide(equal)
    assert go_on == equal[:FINALISTS]
    assert [one.precision for one in stay] == ["p4", "p5"]


@pytest.mark.parametrize(("gain", "worth"), [(1.0, False), (1.04, False), (1.06, True)])
def test_more_clips_at_once_must_gain_something(gain: float, worth: bool) -> None:
    assert is_worth(row("int8", 4.0 * gain), INT8) is worth


def test_the_frontier_is_what_nothing_beats_in_both() -> None:
    beaten = row("int8-static", 1.9, 0.998)
    refused = row("fp16", None, None, outcome="refused")
    wrong = row("fp8", 9.0, 0.9, outcome="inaccurate")
    assert frontier([FP32, beaten, refused, wrong, INT8, BF16]) == [INT8, BF16, FP32]
    # Of two that are as near, the faster; of two that are as fast, the nearer.
    assert frontier([FP32, replace(FP32, precision="bf16", speed=Range(2.0, 2.0, 2.0))])[0].precision == "bf16"
    assert frontier([INT8, row("bf16", 4.0, 0.9999)])[0].precision == "bf16"


def test_the_chosen_may_be_slower_than_the_frontier_by_no_more_than_a_tie() -> None:
    nearer = row("bf16", 3.9, 0.9999)
    assert frontier([INT8, nearer]) == [INT8, nearer]
    assert best([INT8, nearer]) is nearer
