"""What a start costs, from the process to the first label, and what each part of it takes.

    python scripts/measure_start.py BUNDLE VIDEO --precision int8 --starts 20
    python scripts/measure_start.py BUNDLE VIDEO --python before/bin/python --python after/bin/python

Each step runs in a process of its own, which does all that the steps before it do as well. A part is what a step takes
more than the one before. The last row is the command itself. Processes are started in turn, so that what else the
machine does is shared out. Medians are printed. Time of the CPU is of that process alone, and holds on a busy machine.
Time on the clock holds on an idle one.

With several --python, their environments take turns: tubelet as it was, and as it is. Linux and macOS.
"""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from about_machine import about_the_machine

from tubelet.runtime.progress import StatusLine

# What each step adds, in an environment as the command makes it. sys.argv: BUNDLE, VIDEO, PRECISION.
STEPS = {
    "interpreter": "import os, sys; bundle, video, precision = sys.argv[1:]; "
    "os.environ.update(OPENBLAS_NUM_THREADS='1', ORT_DISABLE_TELEMETRY='1')",
    "numpy": "import numpy",
    "PyAV": "import av",
    "ONNX Runtime": "import onnxruntime",
    "tubelet's modules": "import tubelet; from tubelet.cli import tree, classify; tubelet.load",
    "bundle and session": "model = tubelet.load(bundle, precision=precision)",
    "reading the clip": "clip = model.prepare(model.read(video))",
    "first run": "model.logits(clip)",
}
COMMAND = "tubelet classify"


@dataclass(frozen=True)
class Cost:
    """What one process took, in ms: of CPU, by all of its threads, and on the clock."""

    cpu_ms: float
    clock_ms: float


def commands(python: str, bundle: str, video: str, precision: str) -> dict[str, list[str]]:
    """How the process of each step is started.

    Isolated from the environment, so that bytecode is used and written whatever it says about that.
    """
    made: dict[str, list[str]] = {}
    done = ""
    for name, step in STEPS.items():
        done += f"{step}\n"
        made[name] = [python, "-I", "-c", done, bundle, video, precision]
    made[COMMAND] = [python, "-I", "-m", "tubelet", "classify", bundle, video, "--precision", precision]
    return made


def measure(command: Sequence[str]) -> Cost:
    """Run a process to its end. Raises SystemExit with its last words where it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    clock_ms = 1000 * (time.perf_counter() - began)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        raise SystemExit(f"{command[0]} failed:\n{ended.stderr[-2000:]}")
    return Cost(1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime), clock_ms)


def medians(costs: Sequence[Cost]) -> Cost:
    return Cost(statistics.median(one.cpu_ms for one in costs), statistics.median(one.clock_ms for one in costs))


def table(taken: Sequence[dict[str, list[Cost]]]) -> str:
    """A row for each part, and for all of them. Each environment has two columns, in ms: of CPU, and on the clock."""
    lines = [f"{'ms':<20}" + f"{'CPU':>10}{'clock':>10}" * len(taken)]
    before = [Cost(0.0, 0.0)] * len(taken)
    for name in STEPS:
        now = [medians(costs[name]) for costs in taken]
        cells = [
            f"{one.cpu_ms - last.cpu_ms:>10.0f}{one.clock_ms - last.clock_ms:>10.0f}"
            for one, last in zip(now, before, strict=True)
        ]
        lines.append(f"{name:<20}" + "".join(cells))
        before = now
    for name, whole in (("together", before), (COMMAND, [medians(costs[COMMAND]) for costs in taken])):
        lines.append(f"{name:<20}" + "".join(f"{one.cpu_ms:>10.0f}{one.clock_ms:>10.0f}" for one in whole))
    return "\n".join(lines)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle", type=click.Path(exists=True, file_okay=False))
@click.argument("video", type=click.Path(exists=True, dir_okay=False))
@click.option("--precision", default="fp32", show_default=True)
@click.option("--starts", type=click.IntRange(min=1), default=20, show_default=True, help="Processes for each step.")
@click.option(
    "--python",
    "pythons",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    default=[sys.executable],
    help="The interpreter of an environment with tubelet. May be repeated.  [default: this one]",
)
def main(bundle: str, video: str, precision: str, starts: int, pythons: tuple[str, ...]) -> None:
    """Break down the start of `tubelet classify` BUNDLE VIDEO."""
    click.echo(about_the_machine())
    paths = str(Path(bundle).absolute()), str(Path(video).absolute())
    steps = [commands(str(Path(python).absolute()), *paths, precision) for python in pythons]
    taken: list[dict[str, list[Cost]]] = [{name: [] for name in names} for names in steps]
    with StatusLine() as progress:
        for number in range(starts + 1):  # the first brings files into the system's cache and is not counted
            progress(f"start {number} of {starts}")
            for named, costs in zip(steps, taken, strict=True):
                for name, command in named.items():
                    cost = measure(command)
                    costs[name] += [cost] if number else []
    click.echo(f"{starts} starts of each step, in turn; medians")
    for python in pythons:
        click.echo(python)
    click.echo(table(taken))


if __name__ == "__main__":
    main()
