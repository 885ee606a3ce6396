"""The record of a tuning: what was tried on a machine, what was chosen, and where that is written.

    artifacts/gestures/                     the bundle, which stays as it is
    artifacts/gestures.tune-1a2b3c4d.json   beside it; the digits stand for the kind of machine

So several machines that share a folder each have their own. For bundles on the Hub, and where the folder cannot be
written, the record lies in the user's cache. It is found by the checksum of the bundle:
~/.cache/tubelet/tunings/SHA256-1a2b3c4d.json, below XDG_CACHE_HOME where that is set.
"""

import dataclasses
import glob
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from ...preprocess.errors import BackendError, BundleError, NotWritten
from ..bundle.typed import read_json_object, typed
from ..precisions import BackendName
from ..storage.written import naming, written_file
from .machine import TunedMachine

FORMAT_VERSION = 1
_CHECKSUM_DIGITS = 16


@dataclass(frozen=True)
class Choice:
    """A way to run a bundle.

    Attributes:
        backend: what executes the graph.
        precision: what it computes in.
        threads: of the CPU; None for a backend that computes elsewhere.
        batch: clips in one run of the graph.
    """

    backend: BackendName
    precision: str
    threads: int | None
    batch: int

    @property
    def name(self) -> str:
        """The backend and its precision."""
        return f"{self.backend} {self.precision}"

    @property
    def options(self) -> str:
        """What says the same on the command line."""
        threads = "" if self.threads is None else f" --threads {self.threads}"
        return f"--backend {self.backend} --precision {self.precision}{threads}"

    def __str__(self) -> str:
        threads = "" if self.threads is None else f" on {self.threads} {'thread' if self.threads == 1 else 'threads'}"
        return f"{self.name}{threads}{'' if self.batch == 1 else f', {self.batch} clips at once'}"


@dataclass(frozen=True)
class Range:
    """A value, and what it may be as well: the middle half of rounds of a speed, the 95 % interval of an accuracy."""

    value: float
    low: float
    high: float


# chosen; measured to the end; left behind as too slow; not near enough to torch or to the truth; or refused, by the
# backend or for want of a graph.
Outcome = Literal["chosen", "measured", "slow", "inaccurate", "refused"]


@dataclass(frozen=True)
class Tried:
    """One way to run the bundle, and what came of it.

    Attributes:
        backend: what was to execute the graph.
        precision: what it was to compute in; None where the backend does not run here at all.
        threads: of the CPU; None where there are none to set.
        batch: clips in one run.
        outcome: what came of it.
        reason: why it is not among the measured.
        clip_ms: what a clip took, the median.
        speed: how many times as fast as the baseline, clip by clip.
        cosine: the smallest between its logits and torch's; None for a regression, which has none.
        accuracy: the share of the labelled videos that it has right, where there are any.
    """

    backend: BackendName
    precision: str | None
    threads: int | None
    batch: int
    outcome: Outcome
    reason: str | None = None
    clip_ms: float | None = None
    speed: Range | None = None
    cosine: float | None = None
    accuracy: Range | None = None

    @property
    def name(self) -> str:
        """The backend and its precision."""
        return self.backend if self.precision is None else f"{self.backend} {self.precision}"

    @property
    def choice(self) -> Choice:
        """The same as a choice. Raises ValueError where the backend does not run."""
        if self.precision is None:
            raise ValueError(f"{self.backend} computes in nothing here")
        return Choice(self.backend, self.precision, self.threads, self.batch)


@dataclass(frozen=True)
class Tuning:
    """A tuning, as its file holds it.

    Attributes:
        format_version: of the file.
        bundle: the name of the bundle's folder, or its address on the Hub.
        bundle_sha256: of its bundle.json.
        machine: what it was tuned on.
        date: when, in UTC.
        arguments: what was asked for beside the bundle, as on the command line.
        baseline: what speeds are beside.
        choice: what `auto` takes.
        tried: everything, the chosen first.
        notes: what a reader has to know to judge it.
    """

    format_version: int
    bundle: str
    bundle_sha256: str
    machine: TunedMachine
    date: str
    arguments: tuple[str, ...]
    baseline: Choice
    choice: Choice
    tried: tuple[Tried, ...]
    notes: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record.

        Raises:
            BackendError: for a file that is no record, or is of another version.
            FileNotFoundError: where there is none.
        """
        try:
            values = read_json_object(path)
            version = values.get("format_version")
            if version != FORMAT_VERSION:
                raise BackendError(f"{path} is a tuning of format {version}, and this tubelet reads {FORMAT_VERSION}")
            return typed(values, cls, path.name)
        except BundleError as error:
            raise BackendError(f"{path} is no tuning: {error.message}") from error

    def to_json(self) -> dict[str, Any]:
        """The record as `json.dumps` takes it."""
        return dataclasses.asdict(self)

    def write(self, path: Path) -> None:
        """Write it at `path`, whole or not at all. Raises NotWritten where the system refuses it."""
        with written_file(path) as beside:
            beside.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")

    def changes(self, bundle_sha256: str, machine: TunedMachine) -> Iterator[str]:
        """Say what makes it out of date for a bundle on a machine; nothing where it holds."""
        if self.bundle_sha256 != bundle_sha256:
            yield "the bundle is another than was tuned"
        yield from self.machine.changes(machine)


def path_beside(bundle: Path, machine: TunedMachine) -> Path:
    """Name the record of a bundle's folder for a machine, beside that folder."""
    folder = bundle.resolve()
    return folder.with_name(f"{folder.name}.tune-{machine.key}.json")


def path_in_cache(bundle_sha256: str, machine: TunedMachine) -> Path | None:
    """Name the record in the user's cache; None for a user without a home."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(cache):
        return None
    return Path(cache, "tubelet", "tunings", f"{bundle_sha256[:_CHECKSUM_DIGITS]}-{machine.key}.json")


def path_to_write(bundle: Path | None, bundle_sha256: str, machine: TunedMachine) -> Path:
    """Choose where a record is written: beside the bundle, or in the user's cache where that cannot be.

    Args:
        bundle: its folder; None for a bundle on the Hub.
        bundle_sha256: of its bundle.json.
        machine: what it is tuned on.

    Raises:
        NotWritten: where neither can be written.
    """
    if bundle is not None and os.access((beside := path_beside(bundle, machine)).parent, os.W_OK):
        return beside
    cached = path_in_cache(bundle_sha256, machine)
    if cached is None:
        raise NotWritten(
            f"{bundle} lies where nothing can be written, and this user has no home for a cache",
            fix="set XDG_CACHE_HOME to a folder that can be written",
        )
    with naming(cached):
        cached.parent.mkdir(parents=True, exist_ok=True)
    return cached


def paths_of_others(bundle: Path) -> list[Path]:
    """Find the records beside a bundle's folder, of whatever machine."""
    folder = bundle.resolve()
    return sorted(folder.parent.glob(f"{glob.escape(folder.name)}.tune-*.json"))
