"""A graph whose inputs or outputs are not those of the manifest is refused when an engine opens it."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tubelet.preprocess.errors import BackendError, BundleError
from tubelet.runtime.backends import open_backend
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.files import BundleFile, TensorInfo
from tubelet.runtime.load import load

LOGITS = TensorInfo("logits", "float32", ("batch", 5))
CLIPS = TensorInfo("pixel_values", "float32", ("batch", 4, 3, 32, 32))


@pytest.fixture
def copy(vivit_bundle: Path, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(vivit_bundle, tmp_path / "bundle"))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ((CLIPS,), (), "gives logits float32 .*; bundle.json says nothing"),
        ((CLIPS,), (LOGITS, replace(LOGITS, name="more")), "gives logits float32"),
        ((CLIPS,), (replace(LOGITS, name="scores"),), "gives logits .*; bundle.json says scores"),
        ((CLIPS,), (replace(LOGITS, dtype="int64"),), r"says logits int64 \(batch, 5\)"),
        ((CLIPS,), (replace(LOGITS, shape=("batch", 4)),), r"says logits float32 \(batch, 4\)"),
        ((CLIPS,), (replace(LOGITS, shape=("batch", "labels")),), r"says logits float32 \(batch, labels\)"),
        ((CLIPS,), (replace(LOGITS, shape=(5,)),), r"says logits float32 \(5\)"),
        ((CLIPS,), (replace(LOGITS, shape=("batch", 5, 1)),), r"says logits float32 \(batch, 5, 1\)"),
        ((replace(CLIPS, name="frames"),), (LOGITS,), "takes pixel_values .*; bundle.json says frames"),
        ((replace(CLIPS, dtype="uint8"),), (LOGITS,), "says pixel_values uint8"),
        ((replace(CLIPS, shape=("batch", 4, 3, 32, 64)),), (LOGITS,), r"says pixel_values .* 32, 64"),
        ((CLIPS, TensorInfo("masked", "int64", ("batch", 2))), (LOGITS,), "takes pixel_values"),
        ((), (LOGITS,), "bundle.json says nothing"),
    ],
)
def test_another_graph_than_the_manifest_declares(
    copy: Bundle, backend: str, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], message: str
) -> None:
    (graph,) = copy.graphs
    changed = replace(copy, graphs=(replace(graph, inputs=tuple(inputs), outputs=tuple(outputs)),))
    with pytest.raises(BundleError, match=rf"model\.onnx {message}|model\.onnx .*{message}"):
        open_backend(backend, changed, "fp32")


def with_graph(bundle: Bundle, logits: Sequence[int | str], *, computed: Sequence[int | str]) -> Bundle:
    """With a graph that says that it gives `logits`, and gives means of the clips, expanded to `computed`."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["pixel_values"], ["means"], axes=[1, 2, 3, 4], keepdims=0),  # (B,)
            helper.make_node("Constant", [], ["size"], value_ints=list(computed)),
            helper.make_node("Reshape", ["means", "rows"], ["column"]),
            helper.make_node("Expand", ["column", "size"], ["logits"]),
        ],
        "other",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, CLIPS.shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, logits)],
        [helper.make_tensor("rows", TensorProto.INT64, [len(computed)], [-1, *[1] * (len(computed) - 1)])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, bundle.path / "model.onnx")
    (declared,) = bundle.graphs
    files = (BundleFile.of(bundle.path / "model.onnx"),)
    replace(bundle, graphs=(replace(declared, files=files),)).write_manifest()
    return Bundle.open(bundle.path)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("logits", "computed"), [(("batch", 7), (1, 7)), (("batch", "K"), (1, 7)), (("batch",), (1,))])
def test_wider_logits_logits_of_any_width_and_logits_of_rank_1(
    copy: Bundle, backend: str, logits: Sequence[int | str], computed: Sequence[int]
) -> None:
    with pytest.raises(BundleError, match=r"gives logits float32 \(open.*; bundle.json says logits float32 \(batch, 5"):
        open_backend(backend, with_graph(copy, logits, computed=computed), "fp32")


def test_logits_of_another_width_than_declared_are_not_ranked(copy: Bundle) -> None:
    """Engines do not hold a graph to the sizes that it states."""

    class Wide:
        def infer(self, batch: Any) -> Any:
            return np.zeros((len(batch), 7), np.float32)

        def close(self) -> None: ...

    with load(copy.path) as model:
        vars(model)["_backend"] = Wide()
        with pytest.raises(BackendError, match=r"the engine gave logits of \(1, 7\), \(1, 5\) were expected"):
            model.logits(np.zeros((1, 4, 3, 32, 32), np.float32))
