"""The files of engines: whose they must be, how they are written, and how a plan is read.

A plan is a program: TensorRT runs what it finds in it. Plans are therefore built on the machine that runs them and
never fetched. They are loaded only from a folder that belongs to the user and that nobody else can write.
"""

import hashlib
import os
import shlex
import stat
from pathlib import Path
from typing import Protocol, TypeVar

from ...preprocess.errors import BackendError, BundleError
from ..storage.written import written_file
from .files import BundleFile, Graph
from .typed import read_json_object, typed

Record = TypeVar("Record")

FOLDER = "engines"

# How the names of engines for RTX GPUs begin.
RTX_PREFIX = "rtx"


def record_path(plan: Path) -> Path:
    return plan.with_suffix(".json")


def graph_sha256(graph: Graph) -> str:
    """Combine the checksums of all files of a graph, the weights beside it included."""
    return hashlib.sha256("".join(file.sha256 for file in graph.files).encode()).hexdigest()


def require_private(path: Path) -> None:
    """Raise BackendError unless `path`, no symbolic link, belongs to the user or to root, and nobody else can write it.

    On Windows, where permissions are not of this kind, nothing is checked.
    """
    if os.name != "posix":
        return
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise BackendError(f"{path} is a symbolic link; engines are loaded from their own folder only")
    if status.st_uid not in (os.geteuid(), 0):
        raise BackendError(
            f"{path} belongs to another user, and an engine is a program",
            fix="copy the bundle without its engines, and build them again",
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BackendError(
            f"{path} can be written by other users, and an engine is a program",
            fix=f"chmod go-w {shlex.quote(str(path))}, if nobody has changed it",
        )


def write_private(folder: Path, name: str, data: bytes) -> BundleFile:
    """Write a file that only the user can read or write, at once or not at all."""
    with written_file(folder / name) as beside:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    return BundleFile.of(folder / name)


def read_record(path: Path, kind: type[Record]) -> Record:
    """Read the JSON beside a plan. Raises BackendError where it is no record of that kind."""
    try:
        return typed(read_json_object(path), kind, path.name)
    except BundleError as error:
        raise BackendError(
            f"{path} is not the record of an engine: {error.message}", fix=f"rm {shlex.quote(str(path))}"
        ) from error


class PlanRecord(Protocol):
    """What the records of all engines have."""

    @property
    def plan(self) -> BundleFile: ...

    def command(self, bundle: Path) -> str: ...


def read_plan(folder: Path, record: PlanRecord) -> bytes:
    """Read the plan, once it is known to be the user's own and the one that was built; BackendError otherwise."""
    path = folder / record.plan.name
    rebuild = record.command(folder.parent)
    if path.name != record.plan.name or not path.is_file():
        raise BackendError(f"{path} is missing", fix=rebuild)
    require_private(folder)
    require_private(path)
    plan = path.read_bytes()
    if hashlib.sha256(plan).hexdigest() != record.plan.sha256:
        raise BackendError(f"{path} is not the engine that was built: its checksum differs", fix=rebuild)
    return plan
