"""What stands above figures: the machine that they are of, and how busy it was."""

from tubelet.bench.machine import examine_machine


def about_the_machine() -> str:
    """One line: the CPU, the flags that products depend on, cores, and the load before."""
    machine = examine_machine()
    busy = "unknown" if machine.load_average is None else f"{machine.load_average:.1f}"
    return f"{machine.processor}, {machine.cores} cores, load average {busy} before"
