"""TensorRT engines: what they are called, what is asked of them, and what they are tied to.

    BUNDLE/engines/
      sm90-trt11.4-fp16-b1-4-8.plan     the engine: machine code for one kind of GPU and one version of TensorRT
      sm90-trt11.4-fp16-b1-4-8.json     what it was made from, on what, and how far it is from torch

What is in the files is read by engine_files.py. Which engine runs here is found by engine_search.py.
"""

import dataclasses
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ...preprocess.errors import NotAvailable, OutOfBounds
from ..bounds import PROFILE_BATCH, whole_number
from ..precisions import PRECISIONS, graphs_for
from ..storage.written import written_file
from .engine_files import RTX_PREFIX, read_record, record_path
from .files import BundleFile
from .parity_report import ParityReport

# Precision of an engine -> precision of the bundle's graph that it is built from.
SOURCES = graphs_for("tensorrt")

MOST_WORKSPACE_GB = 1024

# What the layers of an engine are counted under whose types TensorRT does not show.
HIDDEN = "hidden"


@dataclass(frozen=True, order=True)
class Profile:
    """Batch sizes that an engine takes: min to max, and the one that its kernels are chosen for."""

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        PROFILE_BATCH.check(self.max)
        if not 1 <= self.min <= self.opt <= self.max:
            raise ValueError(f"a profile is MIN:OPT:MAX with 1 <= MIN <= OPT <= MAX, got {self}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse "1:4:8", or "4" for 4:4:4. Raises ValueError for anything else."""
        parts = text.split(":")
        try:
            sizes = [whole_number(part) for part in parts]
        except ValueError as error:
            raise ValueError(f"a profile is MIN:OPT:MAX or one number, got {text[:40]!r}: {error}") from error
        if len(sizes) not in (1, 3):
            raise ValueError(f"a profile is MIN:OPT:MAX or one number, got {text[:40]!r}")
        return cls(*(sizes * 3 if len(sizes) == 1 else sizes))

    def __str__(self) -> str:
        return f"{self.min}:{self.opt}:{self.max}"


@dataclass(frozen=True)
class EngineOptions:
    """What is asked of a build. workspace_gb: how much GPU memory a kernel may take for itself; None for all."""

    precision: str
    profiles: tuple[Profile, ...] = (Profile(1, 4, 8),)
    opt_level: int = 3
    workspace_gb: float | None = None

    def __post_init__(self) -> None:
        if self.workspace_gb is not None and not 0 < self.workspace_gb <= MOST_WORKSPACE_GB:
            raise OutOfBounds(
                f"workspace_gb must be above 0 and at most {MOST_WORKSPACE_GB} (no GPU has more), "
                f"got {self.workspace_gb:g}"
            )

    def command(self, bundle: Path, *target: str) -> str:
        """The command line that builds it. target: the options that say for which GPUs."""
        words = ["tubelet", "build", str(bundle), *target, "--precision", self.precision]
        for profile in self.profiles:
            words += ["--batch", str(profile)]
        if self.opt_level != EngineOptions.opt_level:
            words += ["--opt-level", str(self.opt_level)]
        if self.workspace_gb is not None:
            words += ["--workspace-gb", f"{self.workspace_gb:g}"]
        return shlex.join(words)


@dataclass(frozen=True)
class EngineMachine:
    """What a plan is tied to, and, beside it, what else was there. cuda: the newest that the driver can run."""

    gpu: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    driver: str | None
    cuda: str
    tensorrt: str

    def runs_plans_of(self, other: "EngineMachine") -> bool:
        """Plans need the same kind of GPU and the very version of TensorRT."""
        return (self.gpu, self.compute_capability, self.multiprocessors, self.tensorrt) == (
            other.gpu,
            other.compute_capability,
            other.multiprocessors,
            other.tensorrt,
        )

    @property
    def tag(self) -> str:
        """Compute capability and TensorRT in a file name: sm90-trt11.4."""
        major, minor = self.compute_capability
        return f"sm{major}{minor}-trt{'.'.join(self.tensorrt.split('.')[:2])}"

    def __str__(self) -> str:
        major, minor = self.compute_capability
        return f"{self.gpu} (compute capability {major}.{minor}) with TensorRT {self.tensorrt}"

    def require(self, precision: str) -> None:
        """Raise NotAvailable where the GPU cannot multiply in that precision."""
        needed = PRECISIONS[precision].first_gpu
        if self.compute_capability < needed:
            raise NotAvailable(
                f"{precision} needs a GPU of compute capability {needed[0]}.{needed[1]} or newer, this is {self}",
                fix="build another precision, such as fp16 or int8-static",
            )


@dataclass(frozen=True)
class EngineRecord:
    """The JSON beside a plan.

    options.precision is what the engine really is, whatever was asked for; recipe says how its graph was made (see
    exporter/tensorrt/recipes.py). graph_sha256: of the graph's files in the bundle. layers: how many layers the
    engine computes in each type, HIDDEN for those that do not show theirs. parity: the report of the check that it was
    kept for. built: UTC, ISO 8601.
    """

    plan: BundleFile
    recipe: str
    graph_sha256: str
    options: EngineOptions
    machine: EngineMachine
    layers: dict[str, int]
    parity: ParityReport
    build_seconds: float
    built: str

    def __post_init__(self) -> None:
        if not self.layers or min(self.layers.values()) < 1:
            raise ValueError("layers must count at least one in each type")
        if not self.options.profiles:
            raise ValueError("options.profiles must hold at least one")

    def command(self, bundle: Path) -> str:
        """The command line that builds it."""
        return self.options.command(bundle)

    def describe_layers(self) -> str:
        """Such as "of 120 layers, by what they take in: 96 (80%) in fp16, 24 (20%) in fp32"."""
        total = sum(self.layers.values())
        shown = [f"{count} ({count / total:.0%}) in {name}" for name, count in self.layers.items() if name != HIDDEN]
        if HIDDEN in self.layers:
            shown.append(f"{self.layers[HIDDEN]} ({self.layers[HIDDEN] / total:.0%}) do not show their types")
        return f"of {total} layers, by what they take in: {', '.join(shown)}"

    def save(self, folder: Path) -> None:
        """Write the JSON of the plan that lies in `folder`. It is the last file of an engine to be written."""
        text = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        with written_file(record_path(folder / self.plan.name)) as beside:
            beside.write_text(text, encoding="utf-8")


def plan_name(machine: EngineMachine, recipe: str, profiles: tuple[Profile, ...]) -> str:
    """sm90-trt11.4-fp16-b1-4-8.plan; several profiles are joined by +."""
    return f"{machine.tag}-{recipe}-b{batches_in_name(profiles)}.plan"


def batches_in_name(profiles: tuple[Profile, ...]) -> str:
    return "+".join(f"{profile.min}-{profile.opt}-{profile.max}" for profile in profiles)


def read_records(folder: Path) -> Iterator[EngineRecord]:
    """Read the record of every engine in `folder` that was built for one machine.

    Raises:
        BackendError: for JSON that is no record.
    """
    for path in sorted(folder.glob("*.json")):
        if not path.name.startswith(RTX_PREFIX):
            yield read_record(path, EngineRecord)
