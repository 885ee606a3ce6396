"""join_graph: a graph that was made aside becomes one of the bundle's, whoever else writes to the bundle."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ...preprocess.errors import BundleError
from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.files import Graph
from ...runtime.precisions import GRAPH_PRECISIONS
from ...runtime.progress import Progress, silent
from ...runtime.storage.lock import locked
from ...runtime.storage.scratch import scratch
from ...runtime.storage.sync import sync_file, sync_folder
from ...runtime.storage.written import naming

SCRATCH = "quantize"  # NAME of the scratch folders in a bundle that graphs are made in (see storage/scratch.py)


@contextmanager
def graph_folder(bundle: Bundle, precision: str, *, say: Progress = silent) -> Iterator[Path]:
    """A scratch folder to make a graph in. It lies inside the bundle, which may be a mount, or all that can be written.

    Raises BundleError where the bundle was replaced, and the folder went with it. Raises NotWritten where the system
    refuses what is written.
    """
    with naming(bundle.path), scratch(bundle.path, SCRATCH, say=say) as folder:
        try:
            yield folder
        except Exception as error:
            if folder.exists():
                raise
            raise replaced_meanwhile(bundle, precision) from error


def join_graph(bundle: Bundle, graph: Graph, folder: Path, *, force: bool, say: Progress = silent) -> Bundle:
    """Move the files of `graph` from `folder` into the bundle on disk, and name it in the manifest.

    bundle: as it was opened when the graph was made; others may have joined graphs since
    folder: from `graph_folder`
    say:    told who is waited for

    Returns the bundle as it is now, with what others joined. It is whole at every moment in between. A graph that is
    replaced leaves the manifest before its files go. For that moment the bundle has none of that precision.

    Raises BundleError where the bundle is no longer the one that the graph was made from. Likewise where it has one of
    that precision and `force` does not say to replace it.
    """
    with locked(bundle.path, say=say):
        now = _as_it_is_now(bundle, graph.precision)
        others = tuple(other for other in now.graphs if other.precision != graph.precision)
        if others != now.graphs:
            require_absent(now, graph.precision, force=force)
            replace(now, graphs=others).write_manifest()
        _remove_strays(replace(now, graphs=others))
        for file in graph.files:
            sync_file(folder / file.name)
            (folder / file.name).replace(bundle.path / file.name)
        sync_folder(bundle.path)
        joined = replace(now, graphs=(*others, graph))
        joined.write_manifest()
    return joined


def _as_it_is_now(bundle: Bundle, precision: str) -> Bundle:
    """The bundle on disk, which others may have joined graphs to since it was opened."""
    try:
        now = Bundle.open(bundle.path)
    except BundleError as error:
        raise replaced_meanwhile(bundle, precision) from error
    if _origin(now) != _origin(bundle):
        raise replaced_meanwhile(bundle, precision)
    return now


def replaced_meanwhile(bundle: Bundle, precision: str) -> BundleError:
    return BundleError(
        f"{bundle.path} was replaced while its {precision} graph was being made, so it was not added",
        fix="run the command again",
    )


def require_absent(bundle: Bundle, precision: str, *, force: bool) -> None:
    """Raise BundleError where the bundle has a graph of that precision and `force` does not say to replace it."""
    if not force and any(graph.precision == precision for graph in bundle.graphs):
        raise BundleError(f"{bundle.path} has an {precision} graph already", fix="replace it with --force")


def _origin(bundle: Bundle) -> str:
    """The checksum that the bundle's manifest had with the fp32 graph alone."""
    sha256: str = replace(bundle, graphs=(bundle.graph("fp32"),)).to_json()["sha256"]
    return sha256


def _remove_strays(bundle: Bundle) -> None:
    """Remove graphs of lower precision that the manifest does not name: a writer died before it did."""
    named = {file.name for graph in bundle.graphs for file in graph.files}
    for name in (f"model.{precision}.onnx" for precision in GRAPH_PRECISIONS):
        for stray in {name, f"{name}.data"} - named:
            (bundle.path / stray).unlink(missing_ok=True)
