"""Tunings as `tubelet tune` leaves them, for tests of what reads them: nothing is measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.tuning.auto import checksum_of
from tubelet.runtime.tuning.machine import TunedMachine
from tubelet.runtime.tuning.record import FORMAT_VERSION, Choice, Range, Tried, Tuning, path_beside

INT8 = Choice("onnxruntime", "int8", threads=1, batch=2)


def tuning_of(bundle: Path, choice: Choice = INT8, **changes: Any) -> Tuning:
    """The tuning of a bundle that holds on this machine, but for `changes` of its fields."""
    row = Tried(
        choice.backend,
        choice.precision,
        choice.threads,
        choice.batch,
        "chosen",
        clip_ms=5.0,
        speed=Range(2.0, 1.9, 2.1),
        cosine=0.9998,
    )
    baseline = Tried("onnxruntime", "fp32", 1, 1, "measured", clip_ms=10.0, speed=Range(1.0, 1.0, 1.0), cosine=1.0)
    made = Tuning(
        format_version=FORMAT_VERSION,
        bundle=bundle.name,
        bundle_sha256=checksum_of(Bundle.open(bundle)),
        machine=TunedMachine.here(),
        date="2026-01-01 00:00 UTC",
        arguments=(),
        baseline=baseline.choice,
        choice=choice,
        tried=(row, baseline),
        notes=(),
    )
    return replace(made, **changes)


def write_tuning(bundle: Path, choice: Choice = INT8, **changes: Any) -> Path:
    """Write `tuning_of` beside the bundle, where this machine looks for it, and return its path."""
    path = path_beside(bundle, TunedMachine.here())
    tuning_of(bundle, choice, **changes).write(path)
    return path
