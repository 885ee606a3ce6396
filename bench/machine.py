"""The machine that a bench ran on, as far as it tells: processor, limits, clocks, versions."""

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from ..runtime.packages import PACKAGES, installed_version
from ..runtime.system import (
    MATRIX_FLAGS,
    cores_allowed,
    cpu_fields,
    cpu_flags,
    cpu_quota,
    examine_gpus,
    lines,
    memory_bytes,
    memory_limit_bytes,
)


@dataclass(frozen=True)
class Machine:
    """What was found; None, or nothing, for what this system does not tell.

    cores:           of the machine; cores_allowed: those that this process may run on
    cpu_quota:       cores' worth of time that the cgroup allows
    memory_limit_mb: of the cgroup
    load_average:    processes that wanted to run, over the minute before the bench
    """

    system: str
    cpu: str
    flags: tuple[str, ...]
    cores: int
    cores_allowed: tuple[int, ...]
    cpu_quota: float | None
    memory_mb: float | None
    memory_limit_mb: float | None
    load_average: float | None
    gpus: tuple[str, ...]
    versions: dict[str, str]

    @property
    def matrix_flags(self) -> tuple[str, ...]:
        return tuple(flag for flag in MATRIX_FLAGS if flag in self.flags)

    @property
    def processor(self) -> str:
        """The CPU, and the flags that products depend on."""
        return f"{self.cpu} ({' '.join(self.matrix_flags)})" if self.matrix_flags else self.cpu


def examine_machine() -> Machine:
    """Read what the system says about itself, and change nothing."""
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=cpu_fields().get("model name") or platform.processor() or platform.machine(),
        flags=cpu_flags(),
        cores=os.cpu_count() or 1,
        cores_allowed=cores_allowed(),
        cpu_quota=cpu_quota(),
        memory_mb=_megabytes(memory_bytes()),
        memory_limit_mb=_megabytes(memory_limit_bytes()),
        load_average=load_average(),
        gpus=examine_gpus()[0],
        versions={"python": platform.python_version()}
        | {name: version for name in PACKAGES if (version := installed_version(name)) is not None},
    )


def load_average() -> float | None:
    """How many processes ran or waited to, on average over the last minute; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def clock_mhz() -> float | None:
    """The mean clock of the cores just now; None where the system does not say."""
    rates = [float(line.split(":")[1]) for line in lines(Path("/proc/cpuinfo")) if line.lower().startswith("cpu mhz")]
    if not rates:
        files = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
        rates = [float(line) / 1000 for file in files for line in lines(file)]
    return sum(rates) / len(rates) if rates else None


def peak_memory_mb() -> float | None:
    """The most that this process has had in memory, mapped files included; None where the system does not say."""
    if sys.platform == "linux":
        # Not getrusage: its ru_maxrss begins at what the process that started this one had in memory.
        for line in lines(Path("/proc/self/status")):
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 1024
    elif sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return None


def _megabytes(size: int | None) -> float | None:
    return None if size is None else size / 2**20
