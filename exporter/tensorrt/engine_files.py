"""What every build of an engine does with files: the graph that TensorRT takes, and what engines/ keeps."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from ...preprocess.errors import BundleError
from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.engine_files import FOLDER, require_private
from ...runtime.bundle.files import Graph
from ...runtime.progress import Progress
from ...runtime.storage.lock import locked
from ...runtime.storage.scratch import scratch
from ...runtime.storage.written import naming
from .inline import require_documented
from .recipes import Recipe, make_graph


@contextmanager
def staying(folder: Path, bundle: Bundle) -> Iterator[None]:
    """Raise BundleError for whatever fails because the bundle was replaced, and its engines/ are gone with it."""
    try:
        yield
    except Exception as error:
        if folder.is_dir():
            raise
        raise replaced_meanwhile(bundle) from error


def replaced_meanwhile(bundle: Bundle) -> BundleError:
    return BundleError(
        f"{bundle.path} was replaced while its engine was being built, so it was not kept", fix="run the command again"
    )


def open_folder(bundle: Bundle) -> Path:
    """The bundle's engines/, made for the user alone where it is not there yet."""
    folder = bundle.path / FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise BundleError(f"{folder} cannot be made: {error}", fix="copy the bundle to a folder of yours") from error
    require_private(folder)
    return folder


@contextmanager
def keeping(folder: Path, bundle: Bundle, source: Graph, say: Progress) -> Iterator[None]:
    """Let an engine of `source` be written, while nobody replaces the bundle. Raises BundleError where it was."""
    with naming(folder), locked(bundle.path, say=say):
        if not folder.is_dir() or Bundle.open(bundle.path).graph(source.precision).files != source.files:
            raise replaced_meanwhile(bundle)
        yield


@contextmanager
def prepared_graph(bundle: Bundle, recipe: Recipe, parent: Path) -> Iterator[Path]:
    """Write the graph of a recipe to a folder of `parent`, which is then gone. It is proven to be one that TensorRT's
    parser documents."""
    with naming(parent), scratch(parent, "build") as folder:
        model = make_graph(bundle, recipe, folder)
        require_documented(model)
        graph = folder / "graph.onnx"
        # Beside the graph, since one protobuf message cannot hold the weights of the largest models.
        onnx.save(model, graph, save_as_external_data=True, location="graph.onnx.data")
        del model
        yield graph
