"""TensorRT for RTX as it is: NVIDIA's own ONNX parser and builder, which need no GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import onnx
import pytest
from onnx import ModelProto

from tubelet.exporter.tensorrt.inline import require_documented
from tubelet.exporter.tensorrt.recipes import Recipe, make_graph
from tubelet.runtime.bundle.bundle import Bundle


def real_tensorrt() -> ModuleType:
    """The module, or the test is skipped: it exists for Linux and Windows on x86-64."""
    reason = "needs TensorRT for RTX: pip install 'tubelet[rtx]'"
    module: ModuleType = pytest.importorskip("tensorrt_rtx", reason=reason)
    return module


@contextmanager
def written(model: ModelProto) -> Iterator[Path]:
    """The file of a graph, as a build writes it: the weights beside it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        onnx.save(model, path, save_as_external_data=True, location="graph.onnx.data")
        yield path


@contextmanager
def graph_file(bundle: Bundle, recipe: Recipe) -> Iterator[Path]:
    """The file that a build gives to TensorRT."""
    with TemporaryDirectory() as folder:
        model = make_graph(bundle, recipe, Path(folder))
    require_documented(model)
    with written(model) as path:
        yield path
