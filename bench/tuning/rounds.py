"""The rounds of a tuning: every candidate in a few, the fastest in more, and the chosen with more clips at once."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from ...preprocess.errors import BackendError, NotAvailable, TubeletError
from ...runtime.backends import cpu_threads
from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.memory import clips_at_once
from ...runtime.precisions import BackendName, graphs_for
from ...runtime.tuning.record import Choice, Tried
from ..process import Process
from .choice import best, is_worth, speed
from .contest import BaselineFailed, Ground, Lane, Rounds, in_a_line, in_turn, tried

SCREEN = Rounds(least=3, most=9, seconds=2.0)
FINAL = Rounds(least=5, most=15, seconds=10.0)
# A candidate whose first run took so many times as long as the fastest, and more than that, is not run again.
HOPELESS, HOPELESS_MS = 5.0, 1000.0
MOST_CLIPS_AT_ONCE = 16


@dataclass(frozen=True)
class Screened:
    """What the first rounds left: the baseline, which still runs, and a row for each candidate, with its own."""

    baseline: Lane
    rows: tuple[Tried, ...]


def candidates(bundle: Bundle, backends: Sequence[BackendName], threads: int) -> Iterator[Choice | Tried]:
    """Each backend with each precision that it computes in; a row for those that the bundle has no graph for."""
    have = {graph.precision for graph in bundle.graphs}
    for backend in backends:
        for precision, graph in graphs_for(backend).items():
            choice = Choice(backend, precision, cpu_threads(backend, threads), batch=1)
            if graph in have:
                yield choice
            else:
                fix = f"tubelet quantize BUNDLE --precision {graph}"
                yield tried(choice, "refused", f"the bundle has no {graph} graph; fix: {fix}")


class NoAnswers(BackendError):
    """Raised where nothing says what fp32 answers to the user's videos."""


def require_answers(ground: Ground, first: Choice) -> None:
    """Raise NoAnswers where the first candidate that runs does not answer in fp32, which videos are compared with."""
    if ground.videos is not None and first.precision != "fp32":
        raise NoAnswers(
            "--video compares with what fp32 answers, and none of the backends that are tried runs it",
            fix="let one that does take part, with --backend onnxruntime",
        )


def screen(ground: Ground, backends: Sequence[BackendName], stack: ExitStack) -> Screened:
    """Try every candidate: whether it runs, how near it is to torch, and how fast in a few rounds.

    Args:
        ground: what is the same for all.
        backends: those that are tried.
        stack: where the baseline is kept running, the first candidate that runs.

    Raises:
        BackendError: where nothing runs.
        BaselineFailed: where the baseline fails once others have been held against it.
        NoAnswers: where nothing that runs is a measure for videos.
    """
    baseline: Lane | None = None
    rows: list[Tried] = []
    first_ms: list[float] = []
    listed = list(candidates(ground.bundle, backends, ground.threads))
    if ground.videos is not None:  # what answers in fp32 comes first: the others' videos are held against it
        listed.sort(key=lambda one: one.precision != "fp32")
    absent: set[BackendName] = set()
    for number, choice in enumerate(listed, start=1):
        if choice.backend in absent:
            continue
        if isinstance(choice, Tried):
            rows.append(choice)
            continue
        ground.progress(f"trying {choice.name} ({number} of {len(listed)})")
        try:
            with ExitStack() as own:
                process = own.enter_context(ground.start(choice))
                first_ms.append(process.cold_start_ms - process.load_ms)
                if first_ms[-1] > max(HOPELESS * min(first_ms), HOPELESS_MS):
                    reason = f"its first run took {first_ms[-1]:,.0f} ms, that of the fastest {min(first_ms):,.0f} ms"
                    rows.append(tried(choice, "slow", reason))
                    continue
                lane = Lane(ground.compare(choice, process), process)
                if baseline is None:
                    require_answers(ground, choice)
                    rows.append(in_turn(lane, [], SCREEN, ground.progress)[0])
                    baseline = lane  # once it has run: one that fails is no baseline
                    stack.push(own.pop_all())
                else:
                    rows += in_turn(baseline, [lane], SCREEN, ground.progress)[1]
        except NoAnswers:
            raise
        except TubeletError as error:
            if isinstance(error, BaselineFailed) and baseline is not None:
                raise
            if isinstance(error, NotAvailable) and not any(row.speed for row in rows if row.backend == choice.backend):
                absent.add(choice.backend)
                rows = [row for row in rows if row.backend != choice.backend]
                rows.append(Tried(choice.backend, None, None, 1, "refused", in_a_line(error)))
            else:
                rows.append(tried(choice, "refused", in_a_line(error)))
    if baseline is None:
        raise BackendError(
            "nothing that is installed runs the bundle:" + "".join(f"\n  {row.name}: {row.reason}" for row in rows),
            fix="pip install 'tubelet[cpu]'; `tubelet doctor` says what is missing",
        )
    return Screened(baseline, tuple(rows))


def measure_to_the_end(
    ground: Ground, baseline: Lane, rows: Sequence[Tried], stack: ExitStack
) -> tuple[list[Tried], dict[Choice, Process]]:
    """Measure candidates in turn, those on the CPU on fewer threads as well where that is no slower.

    Args:
        ground: what is the same for all.
        baseline: what they are beside; it is among the rows that come back.
        rows: the candidates.
        stack: where their processes are kept running.

    Returns:
        A row for each, the baseline's first, and the process of each that runs.
    """
    lanes: list[Lane] = []
    left: list[Tried] = []
    for row in rows:
        if row.choice == baseline.row.choice:
            lane = Lane(row, baseline.process)
        else:
            try:
                lane = Lane(row, stack.enter_context(ground.start(row.choice)))
            except TubeletError as error:
                left.append(replace(row, outcome="refused", reason=in_a_line(error)))
                continue
            lanes.append(lane)
        fewer, slower = _on_fewer_threads(ground, baseline, lane, stack)
        lanes += fewer
        left += slower
    first, others = in_turn(baseline, lanes, FINAL, ground.progress)
    return [first, *others, *left], {lane.row.choice: lane.process for lane in (baseline, *lanes)}


def _on_fewer_threads(ground: Ground, baseline: Lane, lane: Lane, stack: ExitStack) -> tuple[list[Lane], list[Tried]]:
    """The same on half of the threads, half of those and so on, as long as that is no slower. What was slower comes
    too."""
    lanes: list[Lane] = []
    while lane.row.threads is not None and lane.row.threads > 1:
        threads = lane.row.threads // 2
        ground.progress(f"trying {lane.row.name} on {threads} threads")
        halved = replace(lane.row, threads=threads)
        try:
            fewer = Lane(halved, stack.enter_context(ground.start(halved.choice)))
        except TubeletError as error:
            return lanes, [replace(halved, outcome="refused", reason=in_a_line(error))]
        again, row = in_turn(baseline, [lane, fewer], SCREEN, ground.progress)[1]
        if row.outcome == "refused":
            return lanes, [row]
        if speed(row) < speed(again):
            return lanes, [replace(row, outcome="slow", reason=f"slower than on {lane.row.threads} threads")]
        lanes.append(fewer)
        lane = fewer
    return lanes, []


def prove_the_best(
    measured: Sequence[Tried], processes: Mapping[Choice, Process], ground: Ground
) -> tuple[Tried | None, list[Tried]]:
    """Check the best as `tubelet check` does, and where that fails the next best.

    Returns:
        The one that passed, None where none did; and the others, those that failed with the reason.
    """
    left, failed = list(measured), []
    while left:
        one = best(left)
        left.remove(one)
        ground.progress(f"proving {one.name}")
        try:
            found = processes[one.choice].ask("prove")
        except BackendError as error:
            failed.append(replace(one, outcome="refused", reason=in_a_line(error)))
            continue
        if found["passed"]:
            return one, [*left, *failed]
        failed.append(replace(one, outcome="inaccurate", reason=found["reason"]))
    return None, failed


def give_more_clips(ground: Ground, baseline: Lane, chosen: Lane, stack: ExitStack) -> tuple[Tried, list[Tried]]:
    """Give the chosen 2 clips at once, 4, 8 and so on, while a clip then takes less time.

    Returns:
        The row of the batch that is chosen, and those of the others.
    """
    most = min(MOST_CLIPS_AT_ONCE, clips_at_once(ground.bundle, "batch").most)
    rows: list[Tried] = []
    best_row, batch = chosen.row, 2
    while batch <= most:
        ground.progress(f"trying {chosen.row.name} with {batch} clips at once")
        larger = replace(chosen.row, batch=batch)
        try:
            lane = Lane(larger, stack.enter_context(ground.start(larger.choice)))
            again, row = in_turn(baseline, [chosen, lane], SCREEN, ground.progress)[1]
        except BaselineFailed:
            raise
        except TubeletError as error:
            return best_row, [*rows, replace(larger, outcome="refused", reason=in_a_line(error))]
        if row.outcome == "refused" or not is_worth(row, again):
            return best_row, [*rows, row]
        rows.append(best_row)
        best_row, chosen, batch = row, lane, batch * 2
    return best_row, rows
