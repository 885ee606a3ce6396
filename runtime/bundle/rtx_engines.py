"""Engines for RTX GPUs on disk: built on any machine, without a GPU, and proven where they run.

    BUNDLE/engines/
      rtx1.7-fp16-b1-4-8.plan             for every kind of RTX GPU that computes in fp16
      rtx1.7-sm89+120-fp16-b1-4-8.plan    for these alone
      the same with .json                 what it was made from, and on which GPUs it computed what torch computed

The GPU's machine code is made where a plan is loaded. So a plan fits any GPU that it was built for. It fits only the
version of TensorRT for RTX that built it. What it computes is known of a GPU once it was checked there.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ...preprocess.errors import NotAvailable
from ..precisions import PRECISIONS, graphs_for
from ..storage.written import written_file
from .engine_files import RTX_PREFIX, read_record, record_path
from .engines import EngineMachine, EngineOptions, Profile, batches_in_name
from .files import BundleFile
from .parity_report import ParityReport

# Precision of an engine -> precision of the bundle's graph that it is built from.
RTX_SOURCES = graphs_for("tensorrt-rtx")

# What an engine is built for: the GPU here, or RTX GPUs anywhere.
Target = Literal["gpu", "rtx"]

Capability = tuple[int, int]

# What TensorRT for RTX builds for: Turing, Ampere, Ada and Blackwell, and no GPU of a data centre but the A100.
CAPABILITIES: tuple[Capability, ...] = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))

# It has no three-dimensional convolution in float32 for Turing, and every graph begins with one.
FIRST_WITH_FLOAT32: Capability = (8, 0)


def sm(capability: Capability) -> str:
    """Write a compute capability as NVIDIA's compilers call it: "89" for 8.9."""
    return "{}{}".format(*capability)


def parse_sm(text: str) -> Capability:
    """Parse "89" or "120". Raises ValueError for anything else."""
    if not re.fullmatch(r"[0-9]{2,3}", text):
        raise ValueError(f"a compute capability is written as 89 or 120, got {text[:40]!r}")
    return int(text[:-1]), int(text[-1])


def capabilities_for(precision: str, wanted: Iterable[Capability] = ()) -> tuple[Capability, ...]:
    """List the compute capabilities that an engine of that precision is built for.

    Args:
        precision: of the engine.
        wanted: those that it is to be built for; none for all that compute in the precision.

    Raises:
        NotAvailable: for one that TensorRT for RTX does not build for, or that does not compute in the precision.
    """
    first = PRECISIONS[precision].first_gpu
    if PRECISIONS[precision].multiplies == "fp32":
        first = max(first, FIRST_WITH_FLOAT32)
    able = tuple(capability for capability in CAPABILITIES if capability >= first)
    chosen = tuple(sorted(set(wanted)))
    for capability in chosen:
        if capability not in CAPABILITIES:
            raise NotAvailable(
                f"TensorRT for RTX does not build for compute capability {'{}.{}'.format(*capability)}; "
                f"it builds for {listed(CAPABILITIES)}",
                fix=f"--sm takes {', '.join(map(sm, CAPABILITIES))}; for another, build where it is",
            )
        if capability not in able:
            raise NotAvailable(
                f"TensorRT for RTX builds {precision} for compute capability {listed(able)}, "
                f"not for {'{}.{}'.format(*capability)}",
                fix=f"--sm {','.join(map(sm, able))}, or another precision such as fp16",
            )
    return chosen or able


def listed(capabilities: Iterable[Capability]) -> str:
    """Write compute capabilities for a message: "8.9, 12.0"."""
    return ", ".join("{}.{}".format(*capability) for capability in capabilities)


@dataclass(frozen=True)
class Proof:
    """A check of an engine on a GPU. checked: UTC, ISO 8601."""

    machine: EngineMachine
    parity: ParityReport
    checked: str


@dataclass(frozen=True)
class RtxRecord:
    """The JSON beside a plan for RTX GPUs.

    compute_capabilities: of the GPUs that it was built for. tensorrt_rtx: the version. proofs: the last check on each
    GPU that it ran on. The rest is as in EngineRecord.
    """

    plan: BundleFile
    recipe: str
    graph_sha256: str
    options: EngineOptions
    compute_capabilities: tuple[Capability, ...]
    tensorrt_rtx: str
    proofs: tuple[Proof, ...]
    build_seconds: float
    built: str

    def __post_init__(self) -> None:
        if not self.compute_capabilities:
            raise ValueError("compute_capabilities must hold at least one")
        if not self.options.profiles:
            raise ValueError("options.profiles must hold at least one")

    def command(self, bundle: Path) -> str:
        """The command line that builds it."""
        return rtx_command(bundle, self.options, self.compute_capabilities)

    def proof_on(self, machine: EngineMachine) -> Proof | None:
        """The check on that GPU with that driver, None where there was none."""
        for proof in self.proofs:
            if proof.machine == machine:
                return proof
        return None

    def with_proof(self, proof: Proof) -> "RtxRecord":
        """The record with the check, in the place of an earlier one on that machine."""
        others = tuple(other for other in self.proofs if other.machine != proof.machine)
        return replace(self, proofs=(*others, proof))

    def save(self, folder: Path) -> None:
        """Write the JSON of the plan that lies in `folder`. It is the last file of an engine to be written."""
        with written_file(record_path(folder / self.plan.name)) as beside:
            beside.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", encoding="utf-8")


def rtx_command(bundle: Path, options: EngineOptions, capabilities: tuple[Capability, ...] = ()) -> str:
    """The command line that builds an engine for those GPUs, or for all."""
    if capabilities in ((), capabilities_for(options.precision)):
        return options.command(bundle, "--target", "rtx")
    return options.command(bundle, "--target", "rtx", "--sm", ",".join(map(sm, capabilities)))


def rtx_plan_name(
    version: str, capabilities: tuple[Capability, ...], recipe: str, precision: str, profiles: tuple[Profile, ...]
) -> str:
    """rtx1.7-fp16-b1-4-8.plan; where it is not for all GPUs, rtx1.7-sm89+120-fp16-b1-4-8.plan."""
    short = ".".join(version.split(".")[:2])
    chosen = "" if capabilities == capabilities_for(precision) else f"-sm{'+'.join(map(sm, capabilities))}"
    return f"{RTX_PREFIX}{short}{chosen}-{recipe}-b{batches_in_name(profiles)}.plan"


def read_rtx_records(folder: Path) -> Iterator[RtxRecord]:
    """Read the record of every engine for RTX GPUs in `folder`. Raises BackendError for JSON that is no record."""
    for path in sorted(folder.glob(f"{RTX_PREFIX}*.json")):
        yield read_record(path, RtxRecord)
