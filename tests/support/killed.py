"""Kills writers of a bundle at every step of their writing, one after the other, and looks at what is left.

    python tests/support/killed.py BUNDLE FOLDER

BUNDLE is a bundle, which stays as it is; FOLDER is an empty folder. A step is whatever Python tells its audit hooks of
that touches a file: open, mkdir, rename, remove. Prints how many kills of each writer were survived. test_writers.py
runs this in a process without threads, which it forks for every kill.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tubelet.exporter.lower.join_graph import graph_folder, join_graph
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.files import BundleFile, Graph
from tubelet.runtime.storage import exchange
from tubelet.runtime.storage.exchange import written_folder
from tubelet.runtime.storage.written import written_file

Writer = Callable[[Path], object]

_TOUCHES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}


def whole(path: Path) -> Bundle:
    """The bundle at `path`, every file of it verified; BundleError where it is not whole."""
    bundle = Bundle.open(path)
    for file in (bundle.reference, *(file for graph in bundle.graphs for file in graph.files)):
        bundle.verified(file)
    return bundle


def litter(path: Path) -> list[str]:
    """What lies beside or in the bundle and is not its own."""
    bundle = Bundle.open(path)
    own = {file.name for graph in bundle.graphs for file in graph.files} | {bundle.reference.name, "bundle.json"}
    beside = [entry.name for entry in path.parent.iterdir() if entry != path]
    return sorted([*beside, *(entry.name for entry in path.iterdir() if entry.name not in own)])


def killed_at(step: int, write: Writer, path: Path) -> bool:
    """Whether a process that ran `write` came to that step below the folder of `path`, and was killed there."""
    child = os.fork()
    if child == 0:
        steps, below = 0, os.fspath(path.parent)

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal steps
            if event in _TOUCHES and any(isinstance(given, str) and given.startswith(below) for given in arguments):
                steps += 1
                if steps == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            write(path)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status > 0:
        raise SystemExit(f"the writer failed before step {step}")
    return status == -signal.SIGKILL


def kill_at_every_step(write: Writer, path: Path, reset: Callable[[], None]) -> int:
    """Kills a writer at its first step, its second, and so on -> how many steps it has.

    After each there must be a whole bundle; after it runs again undisturbed, no more.
    """
    step = 0
    while True:
        step += 1
        reset()
        if not killed_at(step, write, path):
            return step - 1
        whole(path)
        write(path)
        whole(path)
        left = litter(path)
        if left:
            raise SystemExit(f"killed at step {step}, it leaves {', '.join(left)}")


def put_in_place(source: Path) -> Writer:
    """`export --force`, without what comes before the writing."""

    def write(path: Path) -> None:
        with written_folder(path, check=lambda: None) as fresh:
            for entry in source.iterdir():
                shutil.copy(entry, fresh)

    return write


def join(force: bool) -> Writer:
    """`quantize`, without what comes before the writing; the graph is the fp32 one under another name."""

    def write(path: Path) -> None:
        bundle = Bundle.open(path)
        with graph_folder(bundle, "int8") as folder:
            graph = lowered(bundle, folder)
            join_graph(bundle, graph, folder, force=force)

    return write


def lowered(bundle: Bundle, folder: Path) -> Graph:
    """A graph for the bundle that says it is int8, its file in `folder`."""
    shutil.copy(bundle.path / "model.onnx", folder / "model.int8.onnx")
    return replace(bundle.graph("fp32"), precision="int8", files=(BundleFile.of(folder / "model.int8.onnx"),))


def write_manifest(path: Path) -> None:
    Bundle.open(path).write_manifest()


def write_record(path: Path) -> None:
    """A file of the user's own, beside the bundle's."""
    with written_file(path / "reference.npz") as beside:
        shutil.copy(path / "reference.npz", beside)


def main() -> None:
    vars(os)["fsync"] = lambda _: None  # which is for the loss of power, and takes most of the time
    source, folder = map(Path, sys.argv[1:])
    path = folder / "bundle"

    def reset() -> None:
        shutil.rmtree(folder)
        folder.mkdir()
        shutil.copytree(source, path)

    def reset_with_int8() -> None:
        reset()
        join(force=True)(path)

    writers: dict[str, tuple[Writer, Callable[[], None]]] = {
        "exchange": (put_in_place(source), reset),
        "manifest": (write_manifest, reset),
        "file": (write_record, reset),
        "join": (join(force=True), reset),
        "join again": (join(force=True), reset_with_int8),
    }
    for name, (write, prepared) in writers.items():
        print(name, kill_at_every_step(write, path, prepared), flush=True)
    exchange._exchange_at_once = lambda *_: False
    print("two renames", kill_at_every_step(put_in_place(source), path, reset), flush=True)


if __name__ == "__main__":
    main()
