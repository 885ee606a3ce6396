"""The rounds of a tuning, with processes that take as long as is written here: who is visited, dropped and chosen."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tubelet.bench.process import Process
from tubelet.bench.tuning import contest, rounds
from tubelet.bench.tuning.contest import BaselineFailed, Ground, Lane, Rounds, in_turn, tried
from tubelet.bench.tuning.rounds import (
    candidates,
    give_more_clips,
    measure_to_the_end,
    prove_the_best,
    screen,
)
from tubelet.preprocess.errors import BackendError, NotAvailable
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.precisions import graphs_for
from tubelet.runtime.tuning.record import Choice, Tried

FP32, INT8 = Choice("onnxruntime", "fp32", 4, 1), Choice("onnxruntime", "int8", 4, 1)


@dataclass
class Scripted:
    """A process whose batches take what `ms` says, one visit after the other and then over again. It ends after `lives`
    visits."""

    name: str
    ms: tuple[float, ...]
    visits: list[str] = field(default_factory=list)
    passes: bool = True
    load_ms: float = 0.0
    cold_start_ms: float = 1.0
    lives: float = math.inf
    seen: int = 0

    def run(self, _: float) -> tuple[float, ...]:
        self.visits.append(self.name)
        self.seen += 1
        if not self.ms or self.seen > self.lives:
            raise BackendError(f"{self.name} was ended by signal 9")
        return (self.ms[(self.seen - 1) % len(self.ms)],)

    def ask(self, request: str) -> dict[str, Any]:
        assert request in ("compare", "prove")
        return {"passed": self.passes, "cosine": 0.9999, "reason": None if self.passes else "off by one"}


@dataclass(frozen=True)
class ScriptedGround(Ground):
    """Starts scripted processes. times: of a batch in ms for each candidate; an error is what starting it gives."""

    times: Callable[[Choice], Scripted | Exception] = lambda _: Scripted("", (1.0,))
    visits: list[str] = field(default_factory=list)

    def start(self, choice: Choice) -> AbstractContextManager[Process]:
        made = self.times(choice)
        if isinstance(made, Exception):
            raise made
        made.visits = self.visits
        return nullcontext(cast(Process, made))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contest, "PAUSE_SECONDS", 0)
    for name in ("SCREEN", "FINAL"):
        monkeypatch.setattr(rounds, name, Rounds(3, 3, 0.0))


def ground_of(bundle: Path, times: Callable[[Choice], Scripted | Exception]) -> ScriptedGround:
    return ScriptedGround(Bundle.open(bundle), 4, None, None, None, lambda _: None, times)


def lane(choice: Choice, *ms: float, visits: list[str] | None = None) -> Lane:
    scripted = Scripted(choice.precision, ms, [] if visits is None else visits)
    return Lane(tried(choice, "measured"), cast(Process, scripted))


def test_all_are_visited_in_turn_and_ratios_are_of_a_round() -> None:
    visits: list[str] = []
    # A machine that is twice as slow in the second round is so for both.
    baseline, other = lane(FP32, 10.0, 20.0, 10.0, visits=visits), lane(INT8, 5.0, 10.0, 5.0, visits=visits)
    first, (row,) = in_turn(baseline, [other], Rounds(3, 3, 0.0), lambda _: None)
    assert visits == ["fp32", "int8"] * 3
    assert first.speed is not None
    assert row.speed is not None
    assert (first.speed.value, row.speed.value, row.speed.low, row.speed.high) == (1, 2, 2, 2)
    assert row.clip_ms == 5


def test_a_batch_is_counted_clip_by_clip() -> None:
    _, (row,) = in_turn(lane(FP32, 10.0), [lane(replace(INT8, batch=4), 20.0)], Rounds(3, 3, 0.0), lambda _: None)
    assert row.clip_ms == 5
    assert row.speed is not None
    assert row.speed.value == 2


def test_one_that_ends_is_refused_and_the_others_go_on() -> None:
    _, (ended, row) = in_turn(lane(FP32, 10.0), [lane(INT8), lane(INT8, 5.0)], Rounds(3, 3, 0.0), lambda _: None)
    assert (ended.outcome, ended.reason) == ("refused", "int8 was ended by signal 9")
    assert row.outcome == "measured"


def test_what_is_quick_is_visited_more_often_while_there_is_time() -> None:
    visits: list[str] = []
    in_turn(lane(FP32, 1.0, visits=visits), [], Rounds(3, 7, 60.0), lambda _: None)
    assert len(visits) == 7


def test_every_backend_is_tried_in_every_precision_or_says_what_lacks(vivit_bundle: Path) -> None:
    found = list(candidates(Bundle.open(vivit_bundle), ("onnxruntime", "tensorrt"), 4))
    assert [one.precision for one in found] == [*graphs_for("onnxruntime"), *graphs_for("tensorrt")]
    assert [one.threads for one in found if isinstance(one, Choice)] == [4, None, None, None]  # none on a GPU
    lacking = next(one for one in found if isinstance(one, Tried))
    assert lacking.reason == "the bundle has no fp16 graph; fix: tubelet quantize BUNDLE --precision fp16"


def test_a_backend_that_is_absent_is_one_row_and_is_not_started_again(vivit_bundle: Path) -> None:
    started: list[str] = []

    def times(choice: Choice) -> Scripted | Exception:
        started.append(choice.name)
        if choice.backend == "tensorrt":
            return NotAvailable("tensorrt is not installed", fix="pip install it")
        if choice.precision == "bf16":
            return BackendError("this CPU\nhas no bf16")
        return Scripted(choice.name, (10.0 if choice.backend == "onnxruntime" else 4.0,))

    ground = ground_of(vivit_bundle, times)
    with ExitStack() as stack:
        screened = screen(ground, ("onnxruntime", "tensorrt", "openvino"), stack)
    assert started == ["onnxruntime fp32", "tensorrt fp32", "openvino fp32", "openvino bf16", "openvino fp16"]
    assert screened.baseline.row.name == "onnxruntime fp32"
    rows = {row.name: row for row in screened.rows}
    assert rows["tensorrt"].reason == "tensorrt is not installed; fix: pip install it"
    assert rows["openvino bf16"].reason == "this CPU has no bf16"
    assert rows["openvino fp32"].speed is not None
    assert rows["openvino fp32"].speed.value == 2.5


def test_a_baseline_that_fails_in_its_first_rounds_is_refused_and_the_next_takes_its_place(vivit_bundle: Path) -> None:
    def times(choice: Choice) -> Scripted:
        return Scripted(choice.name, () if choice.backend == "onnxruntime" else (4.0,))

    with ExitStack() as stack:
        screened = screen(ground_of(vivit_bundle, times), ("onnxruntime", "openvino"), stack)
    assert screened.baseline.row.name == "openvino fp32"
    rows = {row.name: row for row in screened.rows}
    assert rows["onnxruntime fp32"].reason == "onnxruntime fp32 was ended by signal 9"
    assert rows["openvino bf16"].outcome == "measured"


def test_where_a_baseline_fails_later_no_other_is_blamed(vivit_bundle: Path) -> None:
    def times(choice: Choice) -> Scripted:
        return Scripted(choice.name, (4.0,), lives=3 if choice.backend == "onnxruntime" else math.inf)

    with ExitStack() as stack, pytest.raises(BaselineFailed, match="onnxruntime fp32 was ended by signal 9"):
        screen(ground_of(vivit_bundle, times), ("onnxruntime", "openvino"), stack)
    ground = ground_of(vivit_bundle, lambda _: Scripted("larger", (4.0,)))
    with ExitStack() as stack, pytest.raises(BaselineFailed, match="fp32 was ended by signal 9"):
        give_more_clips(ground, lane(FP32), lane(INT8, 5.0), stack)


def test_videos_are_held_against_the_first_that_answers_in_fp32(vivit_bundle: Path) -> None:
    def times(choice: Choice) -> Scripted | Exception:
        return BackendError("it refuses") if choice.name == "openvino fp32" else Scripted(choice.name, (1.0,))

    ground = replace(ground_of(vivit_bundle, times), videos=Path("videos.npy"))
    with ExitStack() as stack:
        screened = screen(ground, ("openvino", "onnxruntime"), stack)
    assert screened.baseline.row.name == "onnxruntime fp32"
    assert {row.name: row.outcome for row in screened.rows}["openvino bf16"] == "measured"


def test_where_nothing_answers_in_fp32_videos_have_no_measure(vivit_bundle: Path) -> None:
    started: list[str] = []

    def times(choice: Choice) -> Scripted | Exception:
        started.append(choice.name)
        return BackendError("it refuses") if choice.precision == "fp32" else Scripted(choice.name, (1.0,))

    ground = replace(ground_of(vivit_bundle, times), videos=Path("videos.npy"))
    message = "--video compares with what fp32 answers, and none of the backends that are tried runs it"
    with ExitStack() as stack, pytest.raises(BackendError, match=message):
        screen(ground, ("openvino",), stack)
    assert started == ["openvino fp32", "openvino bf16"]


def test_one_that_is_hopeless_is_not_run_again(vivit_bundle: Path) -> None:
    def times(choice: Choice) -> Scripted:
        first = 9000.0 if choice.precision == "bf16" else 1500.0
        return Scripted(choice.name, (1500.0,), cold_start_ms=first)

    ground = ground_of(vivit_bundle, times)
    with ExitStack() as stack:
        screened = screen(ground, ("openvino",), stack)
    slow = next(row for row in screened.rows if row.precision == "bf16")
    assert (slow.outcome, slow.reason) == ("slow", "its first run took 9,000 ms, that of the fastest 1,500 ms")
    assert "openvino bf16" not in ground.visits


def test_where_nothing_runs_each_says_why(vivit_bundle: Path) -> None:
    ground = ground_of(vivit_bundle, lambda choice: NotAvailable(f"no {choice.backend}"))
    with ExitStack() as stack, pytest.raises(BackendError, match=r"nothing .* runs the bundle:\n  onnxruntime: no onn"):
        screen(ground, ("onnxruntime", "openvino"), stack)


def test_fewer_threads_are_tried_as_long_as_they_are_no_slower(vivit_bundle: Path) -> None:
    ms = {4: 8.0, 2: 6.0, 1: 7.0}
    ground = ground_of(vivit_bundle, lambda choice: Scripted(str(choice), (ms[choice.threads or 0],)))
    with ExitStack() as stack:
        rows, processes = measure_to_the_end(ground, lane(FP32, 16.0), [tried(INT8, "measured")], stack)
    assert [(row.precision, row.threads, row.outcome) for row in rows] == [
        ("fp32", 4, "measured"),
        ("int8", 4, "measured"),
        ("int8", 2, "measured"),
        ("int8", 1, "slow"),
    ]
    assert rows[-1].reason == "slower than on 2 threads"
    assert set(processes) == {FP32, INT8, replace(INT8, threads=2)}


def test_more_clips_are_given_as_long_as_each_takes_less_time(vivit_bundle: Path) -> None:
    ms = {2: 16.0, 4: 24.0, 8: 47.0}  # 10, 8, 6 and 5.9 a clip
    ground = ground_of(vivit_bundle, lambda choice: Scripted(str(choice), (ms[choice.batch],)))
    with ExitStack() as stack:
        chosen, others = give_more_clips(ground, lane(FP32, 20.0), lane(INT8, 10.0), stack)
    assert chosen.batch == 4
    assert sorted(row.batch for row in others) == [1, 2, 8]
    with ExitStack() as stack:
        ground = ground_of(vivit_bundle, lambda _: Scripted("", (20.0,)))  # the same for each clip
        chosen, others = give_more_clips(ground, lane(FP32, 20.0), lane(INT8, 10.0), stack)
    assert (chosen.batch, [row.batch for row in others]) == (1, [2])


def test_the_best_that_passes_the_check_is_chosen(vivit_bundle: Path) -> None:
    lanes = {FP32: Scripted("fp32", (10.0,)), INT8: Scripted("int8", (5.0,), passes=False)}
    baseline, other = (Lane(tried(choice, "measured"), cast(Process, made)) for choice, made in lanes.items())
    first, rows = in_turn(baseline, [other], Rounds(3, 3, 0.0), lambda _: None)
    ground = ground_of(vivit_bundle, lambda _: Scripted("", (1.0,)))
    processes = cast(dict[Choice, Process], lanes)
    chosen, (failed,) = prove_the_best([first, *rows], processes, ground)
    assert chosen == first
    assert (failed.precision, failed.outcome, failed.reason) == ("int8", "inaccurate", "off by one")
    lanes[FP32].passes = False
    assert prove_the_best([first, *rows], processes, ground)[0] is None


def test_a_minimum_of_cosines_is_beyond_the_limits(vivit_bundle: Path) -> None:
    process = cast(Process, Scripted("", (1.0,)))
    ground = ground_of(vivit_bundle, lambda _: Scripted("", (1.0,)))
    assert ground.compare(INT8, process).outcome == "measured"
    strict = replace(ground, min_cosine=0.99995).compare(INT8, process)
    assert (strict.outcome, strict.reason) == ("inaccurate", "cosine 0.999900, below --min-cosine 0.99995")
    assert np.isclose(strict.cosine or 0, 0.9999)
    failing = ground.compare(INT8, cast(Process, Scripted("", (1.0,), passes=False)))
    assert (failing.outcome, failing.reason) == ("inaccurate", "off by one")
