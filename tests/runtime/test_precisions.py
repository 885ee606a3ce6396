"""The rows of precisions, and that all who know more of one know of each."""

from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

from tubelet.exporter.lower.search import LOWERINGS
from tubelet.exporter.tensorrt.plan import layer_types
from tubelet.exporter.tensorrt.recipes import ENGINE_GRAPHS, ONNX_TYPES
from tubelet.preprocess.errors import BackendError
from tubelet.runtime.backends import BACKENDS, open_backend, openvino
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.precisions import (
    GRAPH_PRECISIONS,
    PRECISIONS,
    ElementType,
    Precision,
    graphs_for,
)

ROWS = list(PRECISIONS.values())


def test_every_graph_has_a_row_and_is_made() -> None:
    assert set(GRAPH_PRECISIONS) == set(graphs_for("onnxruntime")) == {"fp32", *LOWERINGS}
    assert all(made_from == name for name, made_from in graphs_for("onnxruntime").items())  # it runs them as they are


def test_every_backend_computes_in_a_precision() -> None:
    assert {backend for row in ROWS for backend in row.graphs} == set(BACKENDS)


@pytest.mark.parametrize(
    ("backend", "precision", "message"),
    [
        (
            "onnxruntime",
            "bf16",
            "onnxruntime computes in fp32, fp16, int8, int8-static, fp8, not in 'bf16'\n"
            "  fix: choose one of them with --precision, or --backend tensorrt or tensorrt-rtx or openvino",
        ),
        (
            "openvino",
            "int8-static",
            "openvino computes in fp32, bf16, fp16, int8, int8-bf16, not in 'int8-static'\n"
            "  fix: --precision int8 or int8-bf16, or --backend onnxruntime or tensorrt or tensorrt-rtx",
        ),
        (
            "tensorrt",
            "int4",
            "tensorrt computes in fp32, tf32, bf16, fp16, int8-static, fp8, not in 'int4'\n"
            "  fix: choose one of them with --precision",
        ),
    ],
)
def test_what_a_backend_does_not_compute_in_names_what_does(
    vivit_bundle: Path, backend: str, precision: str, message: str
) -> None:
    with pytest.raises(BackendError) as error:
        open_backend(backend, Bundle.open(vivit_bundle), precision)
    assert str(error.value) == message


def test_every_engine_is_made() -> None:
    assert set(ENGINE_GRAPHS) == set(graphs_for("tensorrt"))
    assert graphs_for("tensorrt-rtx") == graphs_for("tensorrt")
    fallbacks = {recipe.precision for made in ENGINE_GRAPHS.values() for recipe in made.fallbacks}
    assert fallbacks <= set(ENGINE_GRAPHS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_is_known_to_whoever_takes_it(row: Precision) -> None:
    assert set(row.graphs.values()) <= set(GRAPH_PRECISIONS)
    assert row.graphs  # someone computes in it
    if "tensorrt" in row.graphs:
        assert row.multiplies in ONNX_TYPES
    if "openvino" in row.graphs:
        assert row.floats in openvino.HINTS
        assert row.multiplies in openvino.PRODUCTS


def test_every_type_is_known_to_the_inspector() -> None:
    written = {"fp32": "Float", "fp16": "Half", "bf16": "BFloat16", "int8": "Int8", "fp8": "FP8"}
    assert set(written) == set(get_args(ElementType))
    for kind, name in written.items():
        layers = f'{{"Layers": [{{"Name": "a", "Inputs": [{{"Name": "b", "Format/Datatype": "{name}"}}]}}]}}'
        assert layer_types(layers) == dict(Counter([kind]))
