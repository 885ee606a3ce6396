"""The page of a tuning: the frontier of speed against accuracy, and all that was tried. It looks as that of a bench."""

import shlex
from collections.abc import Callable, Sequence

from ...runtime.tuning.record import Tried, Tuning
from ..page import Figure, Section, Tile, load_template, render
from ..plots import Plot, Series, number, points
from .choice import TIE, distance, frontier
from .table import footnotes, left_out_rows, measured_rows

__all__ = ["load_template", "page"]

CHOSEN, ON_FRONTIER, OTHER = "var(--series-2)", "var(--series-1)", "var(--series-0)"
# What agrees better than this is shown as if it were so far off: for any use it is equal.
SMALLEST_ANGLE = 1e-7
# Per cent; where all are right, that is what is drawn.
LEAST_WRONG = 0.01


def page(tuning: Tuning) -> str:
    """Draw the whole document. Raises MissingExtra where Jinja2 is not installed."""
    machine = tuning.machine
    heading = f"{tuning.bundle}: {tuning.choice}"
    lead = f"{machine.cpu} · {machine.cores} cores · {tuning.date}"
    command = shlex.join(["tubelet", "tune", tuning.bundle, *tuning.arguments])
    sections = [_summary(tuning), *_frontiers(tuning), _numbers(tuning), _left_out(tuning), _machine(tuning)]
    return render(heading, heading, lead, command, [section for section in sections if section is not None])


def _summary(tuning: Tuning) -> Section:
    """The chosen, and what else nothing beats, the fastest first."""
    tiles = []
    chosen = [one for one in tuning.tried if one.outcome == "chosen"]
    for one in [*chosen, *(one for one in frontier(tuning.tried) if one not in chosen)]:
        small = f"{number(one.clip_ms or 0)} ms a clip"
        if one.cosine is not None:
            small += f", cosine {one.cosine:.6f}"
        speed = "1×" if one.speed is None else f"{one.speed.value:.2f}×"
        tiles.append(Tile(_named(one), CHOSEN if one in chosen else ON_FRONTIER, speed, small))
    told = (
        f"The chosen, and then what nothing beats in both speed and nearness to torch. Speed is beside "
        f"{tuning.baseline}. What is as fast as the fastest within {100 * TIE:.0f} % is taken for equal, and the "
        "nearest to torch is chosen."
    )
    return Section("The frontier", told, tiles=tuple(tiles))


def _named(one: Tried) -> str:
    threads = "" if one.threads is None else f", {one.threads} thr."
    return f"{one.name}{threads}{'' if one.batch == 1 else f', {one.batch} clips'}"


def _frontiers(tuning: Tuning) -> list[Section]:
    """Speed against the distance to torch, and against what labelled videos say, where there are any."""
    key = (("chosen", CHOSEN), ("on the frontier", ON_FRONTIER), ("behind it", OTHER))
    measured = [one for one in tuning.tried if one.clip_ms is not None]
    sections = []
    if near := [one for one in measured if one.cosine is not None]:
        told = (
            "How far outputs are from torch's on the bundle's reference clips, and from those of fp32 on the videos "
            "that were named, as 1 - cosine."
        )
        plot = _plot(near, lambda one: max(distance(one), SMALLEST_ANGLE), "1 - cosine")
        sections.append(Section("Speed and agreement", told, key=key, figures=(Figure(plot),)))
    if right := [one for one in measured if one.accuracy is not None]:
        told = "The share of the labelled videos whose best label is another than theirs."
        plot = _plot(right, _wrong_percent, "% wrong")
        sections.append(Section("Speed and accuracy", told, key=key, figures=(Figure(plot),)))
    return sections


def _wrong_percent(one: Tried) -> float:
    return LEAST_WRONG if one.accuracy is None else max(100 * (1 - one.accuracy.value), LEAST_WRONG)


def _plot(rows: Sequence[Tried], lost: Callable[[Tried], float], upward: str) -> Plot:
    """Clips a second to the right and what is lost downwards, with a line through the frontier."""
    best = frontier(rows, lost)

    def series(one: Tried) -> Series:
        colour = CHOSEN if one.outcome == "chosen" else ON_FRONTIER if one in best else OTHER
        return Series(_named(one), colour, (1000 / (one.clip_ms or 1), lost(one)))

    return points(
        [series(one) for one in rows],
        "clips/s",
        upward,
        f"Speed against {upward}",
        joined=[series(one) for one in best],
        named=[series(one) for one in rows if one.outcome == "chosen" or one in best],
    )


def _numbers(tuning: Tuning) -> Section:
    return Section(
        "What was measured",
        "Each in a process of its own, all of them visited in turn.",
        tables=(measured_rows(tuning),),
        notes=tuple(footnotes(tuning)),
    )


def _left_out(tuning: Tuning) -> Section | None:
    """What could not be chosen, and why."""
    rows = tuple(left_out_rows(tuning))
    if not rows:
        return None
    return Section("What could not be chosen", "It is not here, it refuses, or it is not near enough.", facts=rows)


def _machine(tuning: Tuning) -> Section:
    machine = tuning.machine
    facts = [
        ("system", machine.system),
        ("processor", machine.cpu),
        ("instructions", " ".join(machine.flags) or "not known"),
        ("cores", str(machine.cores)),
        ("share of the processor", "no limit" if machine.cpu_quota is None else f"{machine.cpu_quota:g} cores"),
        *(("GPU", gpu) for gpu in machine.gpus),
        ("versions", ", ".join(f"{name} {version}" for name, version in machine.versions.items())),
        ("sha256 of bundle.json", tuning.bundle_sha256),
    ]
    told = "The choice holds as long as all of this does; auto is an error where it does not."
    return Section("What it is tied to", told, facts=tuple(facts))
