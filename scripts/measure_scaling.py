"""What a clip costs by batch and threads, and what processes of one bundle share of its weights.

    python scripts/measure_scaling.py batches BUNDLE --precision int8 --batch 1 --batch 8 --threads 1 --json int8.json
    python scripts/measure_scaling.py draw fp32.json int8.json --svg docs/assets/scaling.svg
    python scripts/measure_scaling.py processes BUNDLE --precision fp32 --precision int8 --count 1 --count 4

Each subject is a process of `tubelet bench`. Those of one batch stay and are visited in turn, and medians are kept.
processes are counted by what the system says of their memory (PSS): a page that several of them hold is divided among
them. So their sum is what they take together. Linux.
"""

import dataclasses
import json
import statistics
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from about_machine import about_the_machine
from svg import svg

from tubelet.bench import subject
from tubelet.bench.measure import Tally, write_inputs
from tubelet.bench.measurement import Subject
from tubelet.bench.plots import Plot, Series, lines
from tubelet.bench.process import Process, start
from tubelet.bench.worker import Settings
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.progress import Progress, StatusLine

ENGINE = "onnxruntime"
COLOURS = ("#3366cc", "#88aaee", "#cc5522", "#ee9966", "#228855", "#77bb99")


@dataclass(frozen=True)
class Cost:
    """One subject at one batch: ms of a clip on the clock and of the CPU, medians of rounds, and its peak memory."""

    precision: str
    threads: int
    batch: int
    clip_ms: float
    cpu_ms: float
    peak_mb: float

    @property
    def name(self) -> str:
        return f"{self.precision}, {self.threads} {'thread' if self.threads == 1 else 'threads'}"


@dataclass(frozen=True)
class Memory:
    """What a process holds, in MB.

    shared: its part of pages that others may hold too, which are those of files; own: pages that are its alone
    peak:   the most that it held, whoever else holds it
    """

    shared: float
    own: float
    peak: float


def begin(bundle: Bundle, precision: str, threads: int, batch: int, inputs: Path, stack: ExitStack) -> Process:
    """A process that has loaded the graph and run a batch once."""
    settings = Settings(ENGINE, precision, batch, threads, str(bundle.path), str(inputs), None, None)
    return stack.enter_context(
        start(subject, settings.to_json(), name=f"{precision} at batch {batch}", threads=threads)
    )


def visit(tally: Tally) -> tuple[float, float]:
    """Milliseconds of a run on the clock, the median, and of the CPU, the mean."""
    before = cpu_ms_used(tally.process.pid)
    tally.visit()
    runs = tally.rounds_ms[-1]
    return statistics.median(runs), (cpu_ms_used(tally.process.pid) - before) / len(runs)


def cpu_ms_used(pid: int) -> float:
    """By all threads of a process that live; see the kernel's sched-stats."""
    return sum(float(file.read_text().split()[0]) / 1e6 for file in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def measure_batches(
    bundle: Bundle,
    precisions: Sequence[str],
    threads: Sequence[int],
    batches: Sequence[int],
    rounds: int,
    progress: Progress,
) -> list[Cost]:
    """Run every precision with every number of threads at every batch."""
    found = []
    for batch in batches:
        with TemporaryDirectory() as folder, ExitStack() as stack:
            inputs = write_inputs(bundle, batch, Path(folder))["graph"]
            subjects = {}
            for precision, count in product(precisions, threads):
                progress(f"batch {batch}: starting {precision} with {count} threads")
                process = begin(bundle, precision, count, batch, inputs, stack)
                subjects[precision, count] = Tally(Subject(ENGINE, precision, batch), process, ())
            for tally in subjects.values():
                tally.warm_up()
            taken: dict[tuple[str, int], list[tuple[float, float]]] = {key: [] for key in subjects}
            for number in range(1, rounds + 1):
                for (precision, count), tally in subjects.items():
                    progress(f"batch {batch}: round {number} of {rounds}, {precision} with {count} threads")
                    taken[precision, count].append(visit(tally))
            for (precision, count), tally in subjects.items():
                clock, cpu = zip(*taken[precision, count], strict=True)
                clip_ms, cpu_ms = statistics.median(clock) / batch, statistics.median(cpu) / batch
                found.append(Cost(precision, count, batch, clip_ms, cpu_ms, tally.process.peak_memory_mb() or 0.0))
    return found


def memory_of(process: Process) -> Memory:
    """What the system says of a process; see proc_pid_smaps(5)."""
    pages = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:])
    own, shared = (float(pages[name].split()[0]) / 1024 for name in ("Pss_Anon", "Pss_File"))
    return Memory(shared, own, process.peak_memory_mb() or 0.0)


def measure_processes(
    bundle: Bundle, precision: str, counts: Sequence[int], threads: int, progress: Progress
) -> list[tuple[int, list[Memory]]]:
    """Start processes until there are as many as the largest of `counts`, and look at all at each of them."""
    found = []
    with TemporaryDirectory() as folder, ExitStack() as stack:
        inputs = write_inputs(bundle, 1, Path(folder))["graph"]
        started: list[Process] = []
        for count in sorted(set(counts)):
            while len(started) < count:
                progress(f"{precision}: process {len(started) + 1} of {max(counts)}")
                started.append(begin(bundle, precision, threads, 1, inputs, stack))
            found.append((count, [memory_of(process) for process in started]))
    return found


def weights_mb(bundle: Bundle, precision: str) -> float:
    return sum(file.bytes for file in bundle.graph(precision).files) / 2**20


def processes_table(found: Iterable[tuple[str, float, list[tuple[int, list[Memory]]]]]) -> str:
    """A row for each number of processes: the sums over them, and how that compares with as many times one."""
    titles = ("graph", "processes", "peak of one", "together", "files", "own", "as many times one")
    rows = ["".join(f"{title:>18}" for title in ("MB", *titles))]
    for precision, graph, counted in found:
        alone = counted[0][1][0]
        for count, held in counted:
            files, own = sum(one.shared for one in held), sum(one.own for one in held)
            share = (files + own) / (count * (alone.shared + alone.own))
            cells = (
                f"{graph:.0f}",
                f"{count}",
                f"{held[0].peak:.0f}",
                f"{files + own:.0f}",
                f"{files:.0f}",
                f"{own:.0f}",
            )
            rows.append("".join(f"{cell:>18}" for cell in (precision, *cells, f"{share:.2f}")))
    return "\n".join(rows)


def batches_table(costs: Sequence[Cost]) -> str:
    """A row for each batch: ms of a clip, and the peak of the process in MB."""
    names = list(dict.fromkeys(one.name for one in costs))
    rows = [f"{'ms, of CPU (MB)':<16}" + "".join(f"{name:>26}" for name in names)]
    for batch in sorted({one.batch for one in costs}):
        cells = {
            one.name: f"{one.clip_ms:.4g}, {one.cpu_ms:.4g} ({one.peak_mb:.0f})" for one in costs if one.batch == batch
        }
        rows.append(f"batch {batch:<10}" + "".join(f"{cells.get(name, '-'):>26}" for name in names))
    return "\n".join(rows)


def draw(costs: Sequence[Cost]) -> Plot:
    """Milliseconds of a clip on the clock by batch, a line for each precision and number of threads."""
    batches = sorted({one.batch for one in costs})
    names = list(dict.fromkeys(one.name for one in costs))
    known = {(one.name, one.batch): one.clip_ms for one in costs}
    series = [
        Series(name, COLOURS[i % len(COLOURS)], tuple(known.get((name, batch), float("nan")) for batch in batches))
        for i, name in enumerate(names)
    ]
    return lines(
        series, batches, "ms for a clip", "clips in a batch", "What a clip costs by batch, precision and threads"
    )


bundle_argument = click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
precision_option = click.option("--precision", "precisions", multiple=True, default=["fp32"], show_default=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure how a bundle scales."""


@main.command()
@bundle_argument
@precision_option
@click.option("--batch", "batches", multiple=True, type=click.IntRange(min=1), default=[1, 2, 4, 8, 16, 32])
@click.option("--threads", multiple=True, type=click.IntRange(min=1), default=[1, 2], show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--json", "output", type=click.Path(dir_okay=False, path_type=Path), help="Where `draw` finds them.")
def batches(
    bundle: Path,
    precisions: tuple[str, ...],
    batches: tuple[int, ...],
    threads: tuple[int, ...],
    rounds: int,
    output: Path | None,
) -> None:
    """Take clips through the graph in batches."""
    click.echo(about_the_machine())
    with StatusLine() as progress:
        costs = measure_batches(Bundle.open(bundle), precisions, threads, batches, rounds, progress)
    click.echo(batches_table(costs))
    if output is not None:
        output.write_text(json.dumps([dataclasses.asdict(one) for one in costs], indent=2), encoding="utf-8")


@main.command(name="draw")
@click.argument("measured", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--svg", "picture", required=True, type=click.Path(dir_okay=False, path_type=Path))
def draw_command(measured: tuple[Path, ...], picture: Path) -> None:
    """Draw what `batches` measured, of one model, and print it in one table."""
    costs = [Cost(**values) for path in measured for values in json.loads(path.read_text(encoding="utf-8"))]
    picture.write_text(svg(draw(costs)), encoding="utf-8")
    click.echo(batches_table(costs))


@main.command()
@bundle_argument
@precision_option
@click.option("--count", "counts", multiple=True, type=click.IntRange(min=1), default=[1, 2, 4], show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
def processes(bundle: Path, precisions: tuple[str, ...], counts: tuple[int, ...], threads: int) -> None:
    """Look at the memory of processes that have each answered once."""
    opened = Bundle.open(bundle)
    click.echo(about_the_machine())
    with StatusLine() as progress:
        found = [
            (name, weights_mb(opened, name), measure_processes(opened, name, (1, *counts), threads, progress))
            for name in precisions
        ]
    click.echo(processes_table(found))


if __name__ == "__main__":
    main()
