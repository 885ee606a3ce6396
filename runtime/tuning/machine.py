"""The machine that a tuning is for: what decides which backend is the fastest on it."""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Self

from ..packages import PLUGIN_PACKAGE, installed_version
from ..system import MATRIX_FLAGS, ask_nvidia_smi, cores_allowed, cpu_fields, cpu_flags, cpu_quota

# Distributions whose version may change how fast a backend is, or what it computes.
_DISTRIBUTIONS = (
    "tubelet",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx-cu13",
    PLUGIN_PACKAGE,
)
_DRIVER = "NVIDIA's driver"
# What tells one processor from another: on x86, where many say no more than "AMD EPYC", and on ARM.
_KINDS = ("cpu family", "model", "stepping", "CPU implementer", "CPU part", "CPU revision")
_KEY_DIGITS = 8


@dataclass(frozen=True)
class TunedMachine:
    """What a tuning is tied to.

    Attributes:
        system: the operating system and the kind of processor.
        cpu: which processor it is.
        flags: those of its instructions that multiply matrices.
        cores: how many the process may run on.
        cpu_quota: cores' worth of time that the cgroup allows; None where there is no limit.
        gpus: name and memory of each.
        versions: of the engines that are installed, of their driver, and of tubelet.
    """

    system: str
    cpu: str
    flags: tuple[str, ...]
    cores: int
    cpu_quota: float | None
    gpus: tuple[str, ...]
    versions: dict[str, str]

    @classmethod
    def here(cls) -> Self:
        """Read what the system says of this machine."""
        flags = cpu_flags()
        gpus, _ = ask_nvidia_smi("name", "memory.total")
        drivers, _ = ask_nvidia_smi("driver_version") if gpus else ((), None)
        versions = {name: version for name in _DISTRIBUTIONS if (version := installed_version(name)) is not None}
        if drivers:
            versions[_DRIVER] = drivers[0]
        return cls(
            system=f"{platform.system()} {platform.machine()}",
            cpu=_described(cpu_fields()),
            flags=tuple(flag for flag in MATRIX_FLAGS if flag in flags),
            cores=len(cores_allowed()),
            cpu_quota=cpu_quota(),
            gpus=gpus,
            versions=versions,
        )

    @property
    def key(self) -> str:
        """A name for machines of this kind: all that is of hardware, and nothing that an update changes."""
        hardware = {name: value for name, value in asdict(self).items() if name != "versions"}
        return hashlib.sha256(json.dumps(hardware, sort_keys=True).encode()).hexdigest()[:_KEY_DIGITS]

    def changes(self, now: "TunedMachine") -> Iterator[str]:
        """Say what is not as it was, one thing at a time."""
        for name, then, today in (
            ("system", self.system, now.system),
            ("processor", self.cpu, now.cpu),
            ("instructions", " ".join(self.flags), " ".join(now.flags)),
            ("cores", str(self.cores), str(now.cores)),
            ("cores' worth of time", _quota(self.cpu_quota), _quota(now.cpu_quota)),
            ("GPU", ", ".join(self.gpus), ", ".join(now.gpus)),
        ):
            if then != today:
                yield f"{name}: {then or 'none'} then, {today or 'none'} now"
        for name in sorted({*self.versions, *now.versions}):
            then, today = (machine.versions.get(name, "not installed") for machine in (self, now))
            if then != today:
                yield f"{name}: {then} then, {today} now"


def _described(fields: Mapping[str, str]) -> str:
    """The processor's name, and in brackets what tells it from others of that name."""
    name = fields.get("model name") or platform.processor() or platform.machine()
    kind = ", ".join(f"{kind} {fields[kind]}" for kind in _KINDS if kind in fields)
    return f"{name} ({kind})" if kind else name


def _quota(cores: float | None) -> str:
    return "no limit" if cores is None else f"{cores:g}"
