"""The options that say when a label begins and ends."""

import csv
import functools
from typing import Any

import click

from ..runtime.stream.events import EventRule
from .options import Command

_RULE = EventRule()


def event_options(command: Command) -> Command:
    """The options that make an EventRule, passed on as `rule`."""

    @click.option("--on", type=float, default=_RULE.on, show_default=True, help="Score at which a label begins.")
    @click.option("--off", type=float, default=_RULE.off, show_default=True, help="Score down to which it lasts.")
    @click.option(
        "--min-seconds", type=float, default=_RULE.min_seconds, show_default=True, help="Leave out shorter events."
    )
    @click.option(
        "--gap-seconds",
        type=float,
        default=_RULE.gap_seconds,
        show_default=True,
        help="Take a label that comes back within this time for one event.",
    )
    @click.option(
        "--smooth-seconds",
        type=float,
        default=_RULE.smooth_seconds,
        show_default=True,
        help="Average scores over the windows of this time.",
    )
    @click.option(
        "--labels",
        metavar="LABEL,...",
        help="The only labels that can be events; one that holds a comma in quotes.  [default: all]",
    )
    @click.option(
        "--min-margin",
        type=float,
        default=_RULE.min_margin,
        show_default=True,
        help="How far above every other label it must be to begin.",
    )
    @click.option(
        "--cooldown",
        type=float,
        default=_RULE.cooldown_seconds,
        show_default=True,
        help="Seconds after an event opens in which no other of its label does.",
    )
    @functools.wraps(command)
    def with_rule(
        *,
        on: float,
        off: float,
        min_seconds: float,
        gap_seconds: float,
        smooth_seconds: float,
        labels: str | None,
        min_margin: float,
        cooldown: float,
        **others: Any,
    ) -> None:
        rule = EventRule(
            on,
            off,
            min_seconds,
            gap_seconds,
            smooth_seconds,
            None if labels is None else _names(labels),
            min_margin,
            cooldown,
        )
        command(rule=rule, **others)

    return with_rule


def no_event(rule: EventRule, windows: int, *, score: float, label: str, at: str) -> str:
    """Why there was none: what one takes, and the best that a window had of a label that can be one."""
    seen = f"{windows} window{'' if windows == 1 else 's'}"
    margin = f", {rule.min_margin:g} above every other (--min-margin)," if rule.min_margin else ""
    among = " of --labels" if rule.labels is not None else ""
    return (
        f"no event in {seen}: one begins at a score of {rule.on:g} (--on){margin} and lasts {rule.min_seconds:g} s "
        f"(--min-seconds); the highest score{among} was {score:.2f}, {label}, at {at}"
    )


def _names(text: str) -> tuple[str, ...]:
    """The labels of a line of comma-separated values: Kinetics has some with a comma."""
    row = next(csv.reader([text], skipinitialspace=True), [])
    return tuple(name.strip() for name in row if name.strip())
