"""`auto`: the backend, precision and threads that a tuning chose for this machine, or an error that says why not."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from ...preprocess.errors import BackendError, OutOfBounds
from ..backends import DEFAULT_PRECISION
from ..bundle.bundle import MANIFEST, Bundle, file_sha256
from ..hub import HubAddress, fetch_bundle, is_on_hub
from ..progress import Progress, silent

if TYPE_CHECKING:  # imported where `auto` is asked for: a start without it has no need of them
    from .machine import TunedMachine
    from .record import Choice, Tuning

AUTO: Final = "auto"

_MOST_OTHERS = 3  # tunings of other machines that a message names


class Settled(NamedTuple):
    """How a bundle is run, once that is settled.

    Attributes:
        path: of the bundle; where it is on the Hub and was tuned, pinned to the commit.
        backend: what executes the graph.
        precision: what it computes in.
        threads: of the CPU; None leaves their number to the engine.
        tuned: what the tuning chose, where it was asked.
    """

    path: str | Path
    backend: str
    precision: str
    threads: int | None
    tuned: "Choice | None" = None


def settle(
    path: str | Path, backend: str, precision: str | None, threads: int | None, *, say: Progress = silent
) -> Settled:
    """Take what was asked for, or, for `auto`, what the tuning for this machine chose.

    Args:
        path: the folder of the bundle, or its address on the Hub.
        backend: the engine to run, or "auto".
        precision: what it computes in. None is fp32, or what was chosen.
        threads: of the CPU that compute one batch. None leaves their number to the engine, or is what was chosen.
        say: called with what `auto` took.

    Raises:
        BackendError: for `auto` where there is no tuning for this machine, or it is out of date. It says what changed.
        OutOfBounds: for `auto` together with a precision or a number of threads.
        BundleError, HubError, MissingExtra: as `Bundle.open` and `fetch_bundle` do.
    """
    if backend != AUTO:
        return Settled(path, backend, DEFAULT_PRECISION if precision is None else precision, threads)
    taken = take_tuned(path, precision, threads, say=say)
    choice = taken.choice
    return Settled(taken.path, choice.backend, choice.precision, choice.threads, choice)


class Taken(NamedTuple):
    """What a tuning chose, and the bundle that it is of: where that is on the Hub, pinned to the commit."""

    path: str | Path
    choice: "Choice"


def take_tuned(
    path: str | Path, precision: str | None = None, threads: int | None = None, *, say: Progress = silent
) -> Taken:
    """Take what the tuning of a bundle for this machine chose; see `settle` for `auto`."""
    if precision is not None or threads is not None:
        given = f"precision {precision}" if precision is not None else f"{threads} threads"
        raise OutOfBounds(
            f"backend auto takes precision and threads from the tuning, and {given} was asked for as well",
            fix="leave that out, or name a backend in place of auto",
        )
    if is_on_hub(path):
        address = HubAddress.parse(str(path))
        bundle, commit = fetch_bundle(address, ())
        pinned: str | Path = address.at(commit).url
        folder = None
    else:
        bundle, pinned, folder = Bundle.described(Path(path)), path, Path(path)
    record, tuning = _find(folder, checksum_of(bundle), str(path))
    say(f"auto is {tuning.choice}, as tuned on {tuning.date} ({record})")
    return Taken(pinned, tuning.choice)


def checksum_of(bundle: Bundle) -> str:
    """What tells a bundle from another, whichever version of tubelet reads it: the sha256 of bundle.json."""
    return file_sha256(bundle.path / MANIFEST)


def _find(folder: Path | None, sha256: str, address: str) -> "tuple[Path, Tuning]":
    """The record of a bundle for this machine, and where it lies. Raises BackendError where none holds.

    folder: of the bundle, None on the Hub; address: what it was called
    """
    from .machine import TunedMachine
    from .record import Tuning, path_beside, path_in_cache

    command = shlex.join(["tubelet", "tune", address])
    machine = TunedMachine.here()
    out_of_date = None
    for path in (None if folder is None else path_beside(folder, machine), path_in_cache(sha256, machine)):
        if path is None or not os.path.exists(path):
            continue
        try:
            tuning = Tuning.read(path)
        except BackendError as error:
            raise BackendError(error.message, fix=command) from error
        changes = list(tuning.changes(sha256, machine))
        if not changes:
            return path, tuning
        again = shlex.join([*shlex.split(command), *tuning.arguments])
        out_of_date = out_of_date or BackendError(_listed(f"{path} is out of date", changes), fix=again)
    if out_of_date is not None:
        raise out_of_date
    raise BackendError(f"{address} was not tuned on this machine{_of_others(folder, machine)}", fix=command)


def _of_others(folder: Path | None, machine: "TunedMachine") -> str:
    """What tells the machines that it was tuned on from this one."""
    from .record import Tuning, paths_of_others

    found = []
    paths = [] if folder is None else paths_of_others(folder)
    for path in paths[:_MOST_OTHERS]:
        try:
            found.append(_listed(f"\n  {path.name} is of another", list(Tuning.read(path).machine.changes(machine))))
        except (BackendError, OSError):
            found.append(f"\n  {path.name} cannot be read")
    more = len(paths) - _MOST_OTHERS
    return "".join([*found, *([f"\n  and {more} more"] if more > 0 else [])])


def _listed(what: str, changes: list[str]) -> str:
    return f"{what}: {'; '.join(changes)}"
