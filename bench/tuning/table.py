"""A tuning as text."""

import textwrap
from collections.abc import Iterator, Sequence

from ...runtime.tuning.record import Range, Tried, Tuning
from .choice import frontier

COLUMNS = 100


def table(tuning: Tuning) -> str:
    """Show what was measured, what was not and why, and the choice."""
    head = f"{tuning.bundle} on {tuning.machine.cpu}, {_cores(tuning)}; {' '.join(tuning.machine.flags)}"
    left_out = list(left_out_rows(tuning))
    blocks = [
        textwrap.fill(head, COLUMNS),
        _columns(*measured_rows(tuning)),
        *(["\n".join(_hanging(f"{name}: {reason}") for name, reason in left_out)] if left_out else []),
        "\n".join(textwrap.fill(note, COLUMNS) for note in footnotes(tuning)),
        f"chosen: {tuning.choice}",
    ]
    return "\n\n".join(blocks)


def measured_rows(tuning: Tuning) -> tuple[list[str], list[list[str]]]:
    """The names of columns, and a row of cells for each candidate that has a speed."""
    with_accuracy = any(one.accuracy is not None for one in tuning.tried)
    names = ["", "threads", "clips", "ms a clip", "speed", "cosine", *(["right"] if with_accuracy else []), ""]
    best = frontier(tuning.tried)
    rows = []
    for one in tuning.tried:
        if one.speed is None:
            continue
        cells = [
            one.name,
            "-" if one.threads is None else str(one.threads),
            str(one.batch),
            "-" if one.clip_ms is None else f"{one.clip_ms:,.0f}" if one.clip_ms >= 1000 else f"{one.clip_ms:.3g}",
            "1" if one.choice == tuning.baseline else _times(one.speed),
            "-" if one.cosine is None else f"{one.cosine:.6f}",
        ]
        if with_accuracy:
            cells.append("-" if one.accuracy is None else f"{100 * one.accuracy.value:.2f} %")
        rows.append([*cells, ", ".join(_said(one, best))])
    return names, rows


def _said(one: Tried, best: Sequence[Tried]) -> Iterator[str]:
    if one.outcome in ("chosen", "inaccurate", "slow"):
        yield "left behind" if one.outcome == "slow" else one.outcome
    if one in best:
        yield "frontier"


def left_out_rows(tuning: Tuning) -> Iterator[tuple[str, str]]:
    """The candidates that could not be chosen, and why; not those that were measured and are too slow."""
    for one in tuning.tried:
        if one.reason is not None and (one.speed is None or one.outcome != "slow"):
            threads = "" if one.threads is None or one.outcome == "refused" else f" on {one.threads} threads"
            yield f"{one.name}{threads}", one.reason


def footnotes(tuning: Tuning) -> Iterator[str]:
    """What a reader has to know to read the rows."""
    yield (
        f"speed: clips a second beside {tuning.baseline}, the median of rounds and the range of their middle half; "
        "frontier: nothing that is as near to torch is faster; left behind: too slow to be measured to the end"
    )
    yield from tuning.notes


def _times(speed: Range) -> str:
    return f"{speed.value:.2f}x ({speed.low:.2f} to {speed.high:.2f})"


def _cores(tuning: Tuning) -> str:
    machine = tuning.machine
    quota = "" if machine.cpu_quota is None else f" within {machine.cpu_quota:g} cores' worth of time"
    return f"{machine.cores} cores{quota}{''.join(f', {gpu}' for gpu in machine.gpus)}"


def _columns(names: list[str], rows: list[list[str]]) -> str:
    """Cells under their names, the first and the last column to the left and the others to the right."""
    lines = [names, *rows]
    widths = [max(len(row[place]) for row in lines) for place in range(len(names))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place in (0, len(names) - 1) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in lines
    )


def _hanging(text: str) -> str:
    return textwrap.fill(text, COLUMNS, subsequent_indent="  ", break_on_hyphens=False)
