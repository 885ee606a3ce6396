"""What the system lets this process use: cores, memory, and what its GPU driver says."""

import os
import subprocess
import sys
from pathlib import Path

# Instructions that decide how fast matrices are multiplied: vectors, dot products of int8, bfloat16, tiles.
MATRIX_FLAGS = (
    "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16",
    "amx_int8", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip


def cores_allowed() -> tuple[int, ...]:
    """The numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def cpu_quota() -> float | None:
    """Cores' worth of time that the cgroup allows, None where there is no limit.

    The smallest of the limits on the way up: each is "microseconds period", or "max period".
    """
    limits = [line.split() for file in _cgroup_files("cpu.max") for line in lines(file)]
    return min((int(most) / int(period) for most, period in limits if most != "max"), default=None)


def default_threads() -> int:
    """One for each core this process may use: those it may run on, within the time its cgroup gives."""
    allowed = len(cores_allowed())
    quota = cpu_quota()
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def cpu_fields() -> dict[str, str]:
    """The first processor's block of /proc/cpuinfo; nothing where the system has none."""
    fields: dict[str, str] = {}
    for line in lines(Path("/proc/cpuinfo")):
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields


def cpu_flags() -> tuple[str, ...]:
    """The instructions that the processor says it has, in the system's words; none where it does not say."""
    fields = cpu_fields()
    return tuple(sorted((fields.get("flags") or fields.get("Features") or "").split()))


def memory_bytes() -> int | None:
    """Memory of the machine, None where the system does not say."""
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_limit_bytes() -> int | None:
    """Memory that the cgroup allows, None where there is no limit."""
    found = [line for file in _cgroup_files("memory.max") for line in lines(file)]
    return min((int(most) for most in found if most != "max"), default=None)


def usable_memory_bytes() -> int | None:
    """The least of the memory of the machine, of its cgroup and of this process; None where none is known."""
    known = [memory_bytes(), memory_limit_bytes()]
    if sys.platform != "win32":
        import resource

        limits = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
        known += [limit for limit in limits if limit != resource.RLIM_INFINITY]
    return min((size for size in known if size is not None), default=None)


def ask_nvidia_smi(*fields: str) -> tuple[tuple[str, ...], str | None]:
    """Ask the GPU driver's own tool.

    Args:
        fields: what is asked of each GPU, such as "driver_version".

    Returns:
        One line for each GPU; and, where there is no answer, a note that says why.
    """
    query = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        return (), "nvidia-smi is not installed"
    except subprocess.TimeoutExpired:
        return (), "nvidia-smi did not answer within 20 seconds"
    if answer.returncode != 0:
        return (), (answer.stdout + answer.stderr).strip() or f"nvidia-smi ended with {answer.returncode}"
    return tuple(line.strip() for line in answer.stdout.splitlines() if line.strip()), None


def examine_gpus() -> tuple[tuple[str, ...], str | None]:
    """One line a GPU as the driver's own tool names it; without any, a note that says why."""
    return ask_nvidia_smi("name", "driver_version", "memory.total")


def lines(path: Path) -> list[str]:
    """The lines of a file of the system; none where it is not there or not to be read."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _cgroup_files(name: str) -> list[Path]:
    """Where a limit of this process's cgroup (version 2) may stand: its own and those of the groups around it."""
    for line in lines(Path("/proc/self/cgroup")):
        if line.startswith("0::"):
            group = Path("/sys/fs/cgroup") / line.removeprefix("0::").lstrip("/")
            around = [group, *group.parents]
            return [folder / name for folder in around[: around.index(Path("/sys/fs/cgroup")) + 1]]
    return []
