"""Graphs of lower precision: that they compute in it, that they are proven, and what stays in float32."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir
import onnxruntime
import pytest
from checkpoints import write_checkpoint
from onnx import TensorProto, numpy_helper
from safetensors.torch import load_file, save_file
from videos import make_video

from tubelet.exporter.checkpoint.load import load_checkpoint
from tubelet.exporter.export import export_bundle
from tubelet.exporter.graph import write as graph_file
from tubelet.exporter.lower import fp8 as fp8
from tubelet.exporter.lower.calibration import CalibrationClips, calibration_videos
from tubelet.exporter.lower.fp16 import to_lower
from tubelet.exporter.lower.int8 import measure_attention_noise, quantized_weight, to_int8, to_int8_static
from tubelet.exporter.lower.observe import measure_magnitudes
from tubelet.exporter.lower.search import add_graph
from tubelet.exporter.options import ExportOptions
from tubelet.preprocess.errors import BackendError, BundleError, ParityError, VideoError
from tubelet.preprocess.frames import Frames
from tubelet.preprocess.prepare import prepare
from tubelet.runtime.backends import open_backend, ort
from tubelet.runtime.backends.ort import CPU_PROVIDER, open_session
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.reference import load_reference
from tubelet.runtime.limits import CosineLimit
from tubelet.runtime.precisions import PRECISIONS

LOWER = ("fp16", "int8", "int8-static", "fp8")


@pytest.fixture(scope="module", params=["vivit_bundle", "videomae_bundle"])
def lowered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny bundle with every precision; VideoMAE's takes uint8 frames."""
    path = tmp_path_factory.mktemp(request.param) / "bundle"
    bundle = Bundle.open(shutil.copytree(request.getfixturevalue(request.param), path))
    for name in LOWER:
        bundle, report = add_graph(bundle, name)  # type: ignore[arg-type]
        assert report.passed, report.table()
    return bundle


@pytest.fixture
def copy(vivit_bundle: Path, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(vivit_bundle, tmp_path / "bundle"))


def manifest_of(bundle: Bundle) -> str:
    return json.dumps(bundle.to_json())


def graph_of(bundle: Bundle, name: str) -> onnx.ModelProto:
    return onnx.load(bundle.path / f"model.{name}.onnx")


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Of every tensor, as the ONNX shape inference of the inlined graph finds them."""
    graph = onnx.shape_inference.infer_shapes(onnx.inliner.inline_local_functions(model), strict_mode=True).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    return {v.name: v.type.tensor_type.elem_type for v in values} | {i.name: i.data_type for i in graph.initializer}


def epsilons(model: onnx.ModelProto) -> list[float]:
    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    return [attribute.f for node in norms for attribute in node.attribute if attribute.name == "epsilon"]


def test_the_bundle_on_disk_has_them_and_nothing_else(lowered: Bundle) -> None:
    opened = Bundle.open(lowered.path)
    assert manifest_of(opened) == manifest_of(lowered)
    assert [graph.precision for graph in opened.graphs] == ["fp32", *LOWER]
    names = {file.name for graph in opened.graphs for file in graph.files} | {"bundle.json", "reference.npz"}
    assert {path.name for path in lowered.path.iterdir()} == names
    assert [path.name for path in lowered.path.parent.iterdir()] == ["bundle"]
    for graph in opened.graphs[1:]:
        assert graph.parity is not None
        assert graph.parity.passed
        assert graph.parity.precision == graph.precision
        assert (graph.inputs, graph.outputs) == (opened.graphs[0].inputs, opened.graphs[0].outputs)
        for file in graph.files:
            opened.verified(file)
    assert "int8-static calibrated on the 4 reference clips" in opened.summary()


@pytest.mark.parametrize("name", LOWER)
def test_it_is_valid_onnx_with_or_without_the_fused_attention(lowered: Bundle, name: str) -> None:
    model = graph_of(lowered, name)
    onnx.checker.check_model(model, full_check=True)
    inlined = onnx.inliner.inline_local_functions(model)
    onnx.checker.check_model(inlined, full_check=True)
    assert not inlined.functions
    assert {node.domain for node in inlined.graph.node} == {""}

    reference = load_reference(lowered)
    batch = np.stack([prepare(Frames.from_array(clip), lowered.spec) for clip in reference.clips])
    with open_backend("onnxruntime", lowered, name) as backend:
        fused = backend.infer(batch)
    session = open_session(inlined.SerializeToString(), CPU_PROVIDER)
    (standard,) = session.run(None, {session.get_inputs()[0].name: batch})
    np.testing.assert_allclose(standard, fused, atol={"fp16": 2e-3, "fp8": 5e-2}.get(name, 2e-2))


def test_fp16_multiplies_in_float16_and_normalises_in_float32(lowered: Bundle) -> None:
    inlined = onnx.inliner.inline_local_functions(graph_of(lowered, "fp16"))
    types = element_types(graph_of(lowered, "fp16"))
    products = [node for node in inlined.graph.node if node.op_type in ("MatMul", "Conv", "Gemm", "Attention")]
    assert len(products) == 1 + 2 * 7 + 1  # embedding; query, key, value, attention, output, two of the mlp; classifier
    for node in products:
        assert {types[name] for name in [*node.input, *node.output]} == {TensorProto.FLOAT16}, node.name
    norms = [node for node in inlined.graph.node if node.op_type == "LayerNormalization"]
    assert len(norms) == 5
    for node in norms:
        assert {types[name] for name in [*node.input, *node.output]} == {TensorProto.FLOAT}, node.name
    assert epsilons(inlined) == epsilons(onnx.load(lowered.path / "model.onnx"))
    if "VideoMAE" in lowered.architecture:
        assert np.float32(1e-12) in epsilons(inlined)
    constants = {initializer.name for initializer in inlined.graph.initializer}
    residual = [node for node in inlined.graph.node if node.op_type == "Add" and not constants & set(node.input)]
    assert len(residual) == 4
    for node in residual:
        assert {types[name] for name in [*node.input, *node.output]} == {TensorProto.FLOAT}, node.name
    assert types[inlined.graph.output[0].name] == TensorProto.FLOAT


@pytest.mark.parametrize("name", ["int8", "int8-static"])
def test_int8_multiplies_weights_in_integers_and_nothing_else(lowered: Bundle, name: str) -> None:
    model = graph_of(lowered, name)
    counts = Counter(node.op_type for node in model.graph.node)
    # Queries, keys and values share theirs; ViViT's last layer takes its queries from the class token alone.
    quantized = 9 if "Vivit" in lowered.architecture else 8
    if name == "int8":
        assert counts["MatMulInteger"] == 12
        assert counts["MatMul"] == 0
        assert counts["DynamicQuantizeLinear"] == quantized
    else:
        assert counts["MatMul"] == 12
        assert counts["QuantizeLinear"] == quantized + 2 * 2  # queries and keys of two layers
        makers = {output: node.op_type for node in model.graph.node for output in node.output}
        for node in model.graph.node:
            if node.op_type == "MatMul":
                assert {makers[i] for i in node.input} == {"DequantizeLinear"}
            if node.op_type == "MultiHeadAttention":
                assert [makers[i] == "DequantizeLinear" for i in node.input] == [True, True, False]
    large = [i for i in model.graph.initializer if len(i.dims) == 2 and "layer" in i.name]
    assert len(large) == 12
    assert {i.data_type for i in large} == {TensorProto.INT8}


SHAPES = [(1, 64, 16), (7, 300, 65), (64, 192, 96)]  # rows, inner, columns


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("operands", ["largest", "alternating", "random"])
@pytest.mark.parametrize("name", ["int8", "int8-static"])
@pytest.mark.parametrize("saturates", [None, True])
def test_integers_multiply_exactly_on_every_cpu(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shape: tuple[int, int, int],
    operands: str,
    name: str,
    saturates: bool | None,
) -> None:
    if saturates is not None:  # what the session is then told is exact on CPUs that do not need it, too
        monkeypatch.setattr(ort, "integer_products_saturate", lambda: saturates)
    left, right = integers_of_scale_1(shape, operands, signed=name == "int8-static")
    write_product(tmp_path / "model.onnx", left, right)
    makers: dict[str, Any] = {"int8": to_int8, "int8-static": partial(to_int8_static, magnitudes={"left": 127.0})}
    graph = ir.to_proto(makers[name](tmp_path / "model.onnx", frozenset()))
    assert TensorProto.INT8 in {i.data_type for i in graph.graph.initializer}
    session = open_session(graph.SerializeToString(), CPU_PROVIDER)
    (product,) = session.run(None, {"left": left[np.newaxis].astype(np.float32)})
    np.testing.assert_array_equal(product[0], left @ right + 1)  # in int64; float32 holds these sums exactly


def integers_of_scale_1(shape: tuple[int, int, int], operands: str, *, signed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Operands that quantization leaves as they are: activations that reach both ends of their range, and columns of
    weights that reach 127. But for that: the largest there are, those with every other sign turned, or any."""
    rows, inner, columns = shape
    random = np.random.default_rng(0)
    low, high = (-127, 127) if signed else (0, 255)
    left, right = np.full((rows, inner), high), np.full((inner, columns), 127)
    if operands == "alternating":
        left[:, ::2] = low
        right[::2, ::3] = -127
    elif operands == "random":
        left, right = random.integers(low, high + 1, left.shape), random.integers(-127, 128, right.shape)
    left[0, :2] = low, high
    right[0] = 127
    return left, right


def write_product(path: Path, left: np.ndarray, right: np.ndarray) -> None:
    """The fp32 graph of one linear layer on (B, N, D), its bias 1."""
    given, product = (
        onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", "N", size])
        for name, size in (("left", left.shape[1]), ("product", right.shape[1]))
    )
    nodes = [
        onnx.helper.make_node("MatMul", ["left", "weight"], ["sums"], name="layer"),
        onnx.helper.make_node("Add", ["sums", "bias"], ["product"], name="layer with bias"),
    ]
    constants = {"weight": right, "bias": np.ones(right.shape[1])}
    initializers = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()]
    graph = onnx.helper.make_graph(nodes, "linear layer", [given], [product], initializers)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=10), path)


def test_what_a_cpu_without_vnni_is_told_changes_no_answer(lowered: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = load_reference(lowered)
    clips = [prepare(Frames.from_array(clip), lowered.spec) for clip in reference.clips]
    for name in ("int8", "int8-static"):
        answers = []
        for saturates in (ort.integer_products_saturate(), True):
            monkeypatch.setattr(ort, "integer_products_saturate", lambda saturates=saturates: saturates)
            with open_backend("onnxruntime", lowered, name) as backend:
                answers.append(backend.infer(np.stack(clips)))
            monkeypatch.undo()
        np.testing.assert_allclose(answers[1], answers[0], atol=1e-5)


def test_zero_points_that_weights_share_are_named_where_they_cannot_be_loaded(
    lowered: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = graph_of(lowered, "int8-static")  # as bundles of format 2 have it:
    points = {i.name: i.dims[0] for i in model.graph.initializer if i.name.endswith(".zero_points")}
    assert len(points) == 12
    for node in model.graph.node:
        node.input[:] = [f"zero_points_{points[name]}" if name in points else name for name in node.input]
    for size in set(points.values()):
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(size, np.int8), f"zero_points_{size}"))
    monkeypatch.setattr(ort, "integer_products_saturate", lambda: True)
    with pytest.raises(BackendError, match=r"fix: make the graph anew.*--precision int8-static --force"):
        open_session(model.SerializeToString(), CPU_PROVIDER)


def test_static_scales_are_symmetric_and_reach_the_largest_value(lowered: Bundle) -> None:
    arrays = {i.name: numpy_helper.to_array(i) for i in graph_of(lowered, "int8-static").graph.initializer}
    clips = CalibrationClips(lowered.spec, load_reference(lowered))
    quantizers = [node for node in graph_of(lowered, "int8-static").graph.node if node.op_type == "QuantizeLinear"]
    magnitudes = measure_magnitudes(lowered.path / "model.onnx", clips, [node.input[0] for node in quantizers])
    for node in quantizers:
        assert arrays[node.input[1]] * 127 == pytest.approx(magnitudes[node.input[0]], rel=1e-6)
        assert arrays[node.input[2]] == 0
        assert arrays[node.input[2]].dtype == np.int8


def test_fp8_multiplies_weights_in_8_bit_floats_and_the_rest_as_fp16_does(lowered: Bundle) -> None:
    model = graph_of(lowered, "fp8")
    types, arrays = element_types(model), {i.name: i for i in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    matrices = [node for node in model.graph.node if node.op_type == "MatMul"]
    assert len(matrices) == 12
    for node in matrices:
        activation, weight = (makers[name] for name in node.input)
        assert (activation.op_type, weight.op_type) == ("DequantizeLinear", "DequantizeLinear")
        assert types[activation.input[0]] == types[weight.input[0]] == TensorProto.FLOAT8E4M3FN
        assert [types[name] for name in [*node.input, *node.output]] == [TensorProto.FLOAT16] * 3
        assert list(arrays[activation.input[1]].dims) == []  # one scale a tensor
        assert list(arrays[weight.input[1]].dims) == list(arrays[weight.input[0]].dims)[1:]  # and one a column
        assert arrays[weight.input[1]].data_type == TensorProto.FLOAT16
    half = element_types(graph_of(lowered, "fp16"))
    for node in graph_of(lowered, "fp16").graph.node:
        if node.op_type not in ("MatMul", "Cast"):
            assert {types[name] for name in node.output} == {half[name] for name in node.output}, node.name
    assert not any(numpy_helper.to_array(arrays[node.input[2]]).astype(np.float32).any() for node in makers.values()
                   if node.op_type in ("QuantizeLinear", "DequantizeLinear"))  # fmt: skip


def test_fp8_scales_reach_the_largest_value_and_float16_holds_them() -> None:
    random = np.random.default_rng(0)
    weight = random.normal(size=(300, 7)).astype(np.float32) * np.array([1, 1e3, 1e-2, 1e-4, 1e-6, 1e-9, 0], np.float32)
    floats, scales = fp8.quantized_weight(weight)
    assert floats.dtype.name == "float8_e4m3fn"
    np.testing.assert_array_equal(scales, scales.astype(np.float16))
    assert (scales > 0).all()
    restored = floats.astype(np.float32) * scales
    assert np.isfinite(restored).all()
    # Half a step of 3 bits beside the value, or half of the smallest step of the format: nothing is cut off.
    assert (np.abs(restored - weight) <= np.maximum(np.abs(weight) / 16, scales * 2**-10)).all()
    assert (np.abs(floats[:, :3].astype(np.float32)).max(axis=0) == 448).all()
    assert np.isfinite(fp8.scale_for(np.array([1e30, 0, 1e-30], np.float32))).all()


def test_what_is_larger_than_calibrated_saturates_in_fp8(lowered: Bundle) -> None:
    batch = np.stack([prepare(Frames.from_array(clip), lowered.spec) for clip in load_reference(lowered).clips])
    larger = (
        np.clip(batch.astype(np.float32) * 100, 0, 255).astype(batch.dtype) if batch.dtype == np.uint8 else batch * 100
    )
    with open_backend("onnxruntime", lowered, "fp8") as backend:
        assert np.isfinite(backend.infer(larger)).all()


def test_what_is_too_sensitive_for_fp8_stays_in_float16(copy: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRECISIONS, "fp8", replace(PRECISIONS["fp8"], limit=CosineLimit(0.99999)))
    bundle, report = add_graph(copy, "fp8")
    graph = bundle.graph("fp8")
    assert report.passed
    assert 0 < len(graph.kept) <= 12
    assert f"{len(graph.kept)} of 12 matrix products stay in float16, because they lose most: " in graph.notes[-1]
    types = element_types(graph_of(bundle, "fp8"))
    constants = {initializer.name for initializer in graph_of(bundle, "fp8").graph.initializer}
    for node in graph_of(bundle, "fp8").graph.node:
        if node.op_type == "MatMul":
            assert (node.input[1] in constants) == (node.name in graph.kept)
            assert types[node.input[1]] == TensorProto.FLOAT16


def test_the_noise_of_attention_is_what_rounding_its_operands_makes(vivit_bundle: Path) -> None:
    bundle = Bundle.open(vivit_bundle)
    clips = list(CalibrationClips(bundle.spec, load_reference(bundle)))[:1]
    noise = measure_attention_noise(vivit_bundle / "model.onnx", clips)
    model = onnx.load(vivit_bundle / "model.onnx")
    attentions = [node for node in model.graph.node if node.op_type == "MultiHeadAttention"]
    assert list(noise) == [node.name for node in attentions]
    names = [name for node in attentions for name in (*node.input, *node.output)]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for node in attentions:
        *operands, exact = session.run([*node.input, *node.output], clips[0])
        heads = next(attribute.i for attribute in node.attribute if attribute.name == "num_heads")
        query, key, value = (x[0].reshape(x.shape[1], heads, -1).swapaxes(0, 1) for x in operands)  # (h, N, D / h)

        def rounded(x: np.ndarray) -> np.ndarray:
            low, high = min(x.min(), 0), max(x.max(), 0)
            scale = (high - low) / 255
            return (np.clip(np.rint(x / scale) + np.rint(-low / scale), 0, 255) - np.rint(-low / scale)) * scale

        scores = rounded(query) @ rounded(key).swapaxes(1, 2) * query.shape[2] ** -0.5
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        attended = weights / weights.sum(axis=-1, keepdims=True) @ value
        difference = attended.swapaxes(0, 1).reshape(exact[0].shape) - exact[0]
        assert noise[node.name] == pytest.approx((difference**2).sum() / (exact**2).sum(), rel=0.05)


def test_magnitudes_are_those_of_the_tensors(vivit_bundle: Path) -> None:
    bundle = Bundle.open(vivit_bundle)
    batches = list(CalibrationClips(bundle.spec, load_reference(bundle)))
    clips = [batch["pixel_values"] for batch in batches]
    model = onnx.load(vivit_bundle / "model.onnx")
    names = ["pixel_values", *(node.output[0] for node in model.graph.node)]
    found = measure_magnitudes(vivit_bundle / "model.onnx", batches, names)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names[1:-1])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for name in names[1:]:
        expected = max(np.abs(session.run([name], {"pixel_values": clip})[0]).max() for clip in clips)
        assert found[name] == pytest.approx(expected, rel=1e-5)
    assert found["pixel_values"] == pytest.approx(max(np.abs(clip).max() for clip in clips))


def test_quantized_weights_are_the_nearest_of_255_levels() -> None:
    weight = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32) * np.array(
        [1, 10, 0.1, 1, 1, 0], np.float32
    )
    integers, scales = quantized_weight(weight)
    assert integers.dtype == np.int8
    assert (np.abs(integers[:, :5]).max(axis=0) == 127).all()
    assert (np.abs(integers * scales - weight) <= scales * 0.5001).all()


def written(folder: Path, family: str, scale: dict[str, float], **changes: object) -> Bundle:
    """A tiny bundle, some of its weights multiplied."""
    checkpoint = write_checkpoint(folder / "checkpoint", family, **changes)  # type: ignore[arg-type]
    weights = load_file(checkpoint / "model.safetensors")
    for name, factor in scale.items():
        weights[name] = weights[name] * factor
    save_file(weights, checkpoint / "model.safetensors")
    bundle, _ = export_bundle(load_checkpoint(str(checkpoint), report=lambda _: None), folder / "bundle")
    return bundle


MLP = "vivit.encoder.layer.1"


def test_what_float16_cannot_hold_stays_in_float32_and_is_listed(tmp_path: Path) -> None:
    bundle = written(
        tmp_path,
        "vivit",
        {
            f"{MLP}.intermediate.dense.weight": 1e5,
            f"{MLP}.intermediate.dense.bias": 1e5,
            f"{MLP}.output.dense.weight": 1e-5,
        },
    )
    before = (bundle.path / "bundle.json").read_bytes()
    overflowing = to_lower(bundle.path / "model.onnx", frozenset())
    assert overflowing.graph  # it can be made; it is wrong:
    bundle, report = add_graph(bundle, "fp16")
    assert before != (bundle.path / "bundle.json").read_bytes()
    assert report.passed
    graph = bundle.graph("fp16")
    assert graph.kept == (f"{MLP}.intermediate.dense.MatMul", f"{MLP}.output.dense.MatMul")
    assert "2 of 16 matrix products stay in float32, because values come near the end of the range" in graph.notes[1]
    assert "cosine not finite -> 0.99999" in graph.notes[1] or "cosine 0" in graph.notes[1]
    for name in ("fp16", "fp8"):
        if name == "fp8":
            bundle, report = add_graph(bundle, name)
            assert report.passed
            assert bundle.graph(name).kept == graph.kept
        types = element_types(graph_of(bundle, name))
        for node in graph_of(bundle, name).graph.node:
            if node.op_type in ("MatMul", "Gemm", "Conv"):
                kept = node.name in graph.kept
                assert types[node.input[0]] == (TensorProto.FLOAT if kept else TensorProto.FLOAT16)


def test_as_few_layers_as_the_limit_allows_stay_in_float32(copy: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRECISIONS, "int8", replace(PRECISIONS["int8"], limit=CosineLimit(0.999995)))
    messages: list[str] = []
    bundle, report = add_graph(copy, "int8", progress=messages.append)
    graph = bundle.graph("int8")
    assert report.passed
    assert 0 < len(graph.kept) < 12
    counts = Counter(node.op_type for node in graph_of(bundle, "int8").graph.node)
    assert (counts["MatMul"], counts["MatMulInteger"]) == (len(graph.kept), 12 - len(graph.kept))
    assert (
        f"{len(graph.kept)} of 12 matrix products stay in float32, because they lose most: cosine 0.99"
        in graph.notes[-1]
    )
    assert f"int8: trying without {len(graph.kept) - 1} of the products" in messages  # one less was not enough


def test_outside_its_limit_a_graph_is_not_kept(copy: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = (copy.path / "bundle.json").read_bytes()
    monkeypatch.setitem(PRECISIONS, "fp16", replace(PRECISIONS["fp16"], limit=CosineLimit(1 - 1e-15)))
    with pytest.raises(ParityError, match=r"the fp16 graph does not compute what torch computes\n\n(.*\n)*.*FAIL"):
        add_graph(copy, "fp16")
    assert (copy.path / "bundle.json").read_bytes() == manifest
    assert sorted(path.name for path in copy.path.iterdir()) == ["bundle.json", "model.onnx", "reference.npz"]
    assert [path.name for path in copy.path.parent.iterdir()] == ["bundle"]


def test_a_graph_that_is_there_is_replaced_only_when_told(copy: Bundle, tmp_path: Path) -> None:
    bundle, _ = add_graph(copy, "int8-static")
    with pytest.raises(BundleError, match=r"has an int8-static graph already\n  fix: replace it with --force"):
        add_graph(bundle, "int8-static")
    make_video(tmp_path / "dark.mp4")
    again, _ = add_graph(bundle, "int8-static", calibrate=[tmp_path / "dark.mp4"], force=True)
    assert [graph.precision for graph in again.graphs] == ["fp32", "int8-static"]
    assert again.graph("int8-static").notes == ("calibrated on 1 video",)
    assert again.graph("int8-static").files[0].sha256 != bundle.graph("int8-static").files[0].sha256
    assert manifest_of(Bundle.open(copy.path)) == manifest_of(again)


def test_a_bundle_is_whole_at_every_moment(copy: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, _ = add_graph(copy, "int8")
    replace = Path.replace

    def interrupt_between(source: Path, target: Path) -> Path:
        if target.name == "model.int8.onnx":
            replace(source, target)
            raise KeyboardInterrupt
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", interrupt_between)
    with pytest.raises(KeyboardInterrupt):
        add_graph(bundle, "int8", force=True)
    opened = Bundle.open(copy.path)
    assert [graph.precision for graph in opened.graphs] == ["fp32"]
    for graph in opened.graphs:
        for file in graph.files:
            opened.verified(file)


# One of each form that torch exports; those that are spelt out in several operators above all.
@pytest.mark.parametrize(
    "name",
    [
        "gelu_10",
        "mish",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("gelu", "gelu_fast", "hardswish", "quick_gelu", "relu2")
        ),
    ],
)
def test_every_activation_survives_float16(tmp_path: Path, name: str) -> None:
    bundle = written(tmp_path, "videomae", {}, hidden_act=name)
    bundle, report = add_graph(bundle, "fp16")
    assert report.passed
    assert bundle.graph("fp16").kept == ()


def test_bfloat16_has_the_same_form(vivit_bundle: Path) -> None:
    half, brain = (
        ir.to_proto(to_lower(vivit_bundle / "model.onnx", frozenset(), low))
        for low in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    )
    onnx.checker.check_model(brain, full_check=True)
    assert [node.op_type for node in half.graph.node] == [node.op_type for node in brain.graph.node]
    assert TensorProto.BFLOAT16 in element_types(brain).values()
    assert TensorProto.FLOAT16 not in element_types(brain).values()


def test_calibration_reads_the_videos_of_a_folder_in_order(tmp_path: Path, video: Path) -> None:
    for name in ("b.mp4", "a.mp4"):
        shutil.copy(video, tmp_path / name)
    (tmp_path / "README.md").write_text("# Clips\n\nfilmed in May\n")
    (tmp_path / "poster.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\x00" * 64)
    (tmp_path / "empty").mkdir()
    said: list[str] = []
    named = tmp_path / "README.md"  # a file that was named is not passed over: whoever reads it says what it is
    videos = calibration_videos([tmp_path, named], say=said.append)
    assert videos == (tmp_path / "a.mp4", tmp_path / "b.mp4", named)
    assert [line.split(" is ")[0].split(" cannot ")[0] for line in said] == [
        f"passed over: {tmp_path / name}" for name in ("README.md", "poster.png")
    ]
    with pytest.raises(VideoError, match="empty holds no videos to calibrate on"):
        calibration_videos([tmp_path / "empty"], say=said.append)


def test_calibration_on_what_is_no_video_changes_nothing(copy: Bundle, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a video")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(VideoError, match=r"notes\.txt"):
        add_graph(copy, "int8-static", calibrate=[tmp_path / "notes.txt"])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["fp32", "int4"])
def test_a_precision_that_cannot_be_made(copy: Bundle, name: str) -> None:
    with pytest.raises(
        BundleError, match=f"there is no precision '{name}' to make; there are fp16, int8, int8-static, fp8"
    ):
        add_graph(copy, name)  # type: ignore[arg-type]


def test_a_damaged_fp32_graph_is_not_built_upon(copy: Bundle) -> None:
    graph = copy.path / "model.onnx"
    content = bytearray(graph.read_bytes())
    content[-10] ^= 1
    graph.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx is not the file that was exported"):
        add_graph(copy, "fp16")


def test_weights_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_file, "EXTERNAL_DATA_BYTES", 1000)
    bundle = written(tmp_path, "vivit", {})
    bundle, report = add_graph(bundle, "fp16")
    assert report.passed
    assert [file.name for file in bundle.graph("fp16").files] == ["model.fp16.onnx", "model.fp16.onnx.data"]
    with open_backend("onnxruntime", Bundle.open(bundle.path), "fp16") as backend:
        assert backend.infer(np.zeros((1, 4, 3, 32, 32), np.float32)).shape == (1, 5)


def test_float32_weights_beside_the_graph_are_used_where_they_lie(
    tmp_path: Path, vivit_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_file, "EXTERNAL_DATA_BYTES", 1000)
    bundle, _ = add_graph(written(tmp_path, "vivit", {}), "int8")
    asked = []

    def spy(*arguments: object, **settings: object) -> onnxruntime.InferenceSession:
        asked.append(settings["weights_as_they_lie"])
        return open_session(*arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(ort, "open_session", spy)
    batch = np.random.default_rng(0).normal(size=(2, 4, 3, 32, 32)).astype(np.float32)
    logits = []
    for opened, name in ((bundle, "fp32"), (Bundle.open(vivit_bundle), "fp32"), (bundle, "int8")):
        with open_backend("onnxruntime", opened, name) as backend:
            logits.append(backend.infer(batch))
    assert asked == [True, False, False]
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-5)  # the same checkpoint, its weights in the graph


def test_export_makes_them_on_the_way(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(str(write_checkpoint(tmp_path / "c", "vivit")), report=lambda _: None)
    bundle, report = export_bundle(checkpoint, tmp_path / "bundle", ExportOptions(precisions=("fp32", "int8")))
    assert report.precision == "fp32"
    assert manifest_of(Bundle.open(tmp_path / "bundle")) == manifest_of(bundle)
    assert [graph.precision for graph in bundle.graphs] == ["fp32", "int8"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "c"]
    document = json.loads((bundle.path / "bundle.json").read_text())
    assert document["graphs"][1]["kept"] == []
