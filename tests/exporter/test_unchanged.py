"""No call changes what it is given, nor the process that it runs in."""

import copy
import dataclasses
import logging
import os
import random
import shutil
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import checkpoints
import numpy as np
import onnx
import pytest
import torch
from torch import nn

from tubelet.exporter.checkpoint import originals, overrides, weights
from tubelet.exporter.checkpoint.load import Checkpoint, load_checkpoint
from tubelet.exporter.checkpoint.processor import spec_from_hub
from tubelet.exporter.export import export_bundle
from tubelet.exporter.families.attention import Attention, attend_with, eager_attention, sdpa_attention
from tubelet.exporter.families.registry import family_named
from tubelet.exporter.graph.cost import matrix_products
from tubelet.exporter.graph.sharing import sharing_weights
from tubelet.exporter.graph.tasks import exported_model
from tubelet.exporter.graph.trace import trace
from tubelet.exporter.lower import search as precision
from tubelet.exporter.options import ExportOptions
from tubelet.exporter.plan import clip_spec
from tubelet.preprocess.spec import ClipSpec, Evaluation, Sampling
from tubelet.runtime import predictions
from tubelet.runtime import tokens as masking
from tubelet.runtime.bundle.bundle import Bundle, Task
from tubelet.runtime.bundle.files import Extra
from tubelet.runtime.bundle.reference import kept_values
from tubelet.runtime.bundle.typed import typed
from tubelet.runtime.load import load
from tubelet.runtime.precisions import GraphPrecision
from tubelet.runtime.visual import drawing as pictures
from tubelet.runtime.visual import reconstruction, rollout

MODELS: list[tuple[str, Task]] = [
    ("vivit", "video-classification"),
    ("videomae", "feature-extraction"),
    ("videomae", "masked-modeling"),
]
# One of them shows the kind; the rest takes its time.
FIRST_AND_SLOW = [MODELS[0], *(pytest.param(*model, marks=pytest.mark.slow) for model in MODELS[1:])]


def load_tiny(folder: Path, family: str, task: Task = "video-classification", **changes: Any) -> Checkpoint:
    mean: dict[str, Any] = {"use_mean_pooling": False} if task == "masked-modeling" else {}
    written = checkpoints.write_checkpoint(folder, family, task=task, **mean, **changes)
    return load_checkpoint(str(written), report=lambda _: None)


def state_of(model: nn.Module) -> dict[str, Any]:
    """What a caller can see of a model: each module's mode and attention, each weight's identity and bytes."""
    modules = {name: (module.training, getattr(module, "attend", None)) for name, module in model.named_modules()}
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    held = {name: (id(tensor), tensor.detach().numpy().tobytes()) for name, tensor in tensors.items()}
    return {"modules": modules, "weights": held, "grad": [p.requires_grad for p in model.parameters()]}


def state_of_the_process() -> dict[str, Any]:
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "signals": {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)},
        "warnings": list(warnings.filters),
        "logging": {name: logging.getLogger(name).level for name in ("", "torch", "torch.onnx", "onnxscript")},
        "random": (
            random.getstate(),
            cast(Any, np.random.get_state())[1].tobytes(),  # noqa: NPY002
            torch.get_rng_state().numpy().tobytes(),
        ),
        "numpy": np.geterr(),
        "torch": (
            torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_default_device(),
            torch.are_deterministic_algorithms_enabled(), torch.backends.mha.get_fastpath_enabled(),
        ),
    }  # fmt: skip


@pytest.mark.parametrize(("family", "task"), FIRST_AND_SLOW[:2])
def test_an_export_with_attentions_leaves_the_next_one_as_it_would_have_been(
    family: str, task: Task, tmp_path: Path
) -> None:
    checkpoint = load_tiny(tmp_path / "checkpoint", family, task)
    asked: tuple[tuple[str, tuple[Extra, ...]], ...] = (("plain", ()), ("attentive", ("attentions",)), ("again", ()))
    plain, attentive, again = (
        export_bundle(checkpoint, tmp_path / name, ExportOptions(extras=extras))[0].path / "model.onnx"
        for name, extras in asked
    )
    assert again.read_bytes() == plain.read_bytes()
    fused, eager = (Counter(node.op_type for node in onnx.load(path).graph.node) for path in (again, attentive))
    assert fused["MultiHeadAttention"] > eager["MultiHeadAttention"]
    assert (fused["Softmax"], eager["Softmax"]) == (0, 2)


@pytest.mark.parametrize(("family", "task"), FIRST_AND_SLOW)
def test_an_export_leaves_the_model_and_the_process_as_they_were(family: str, task: Task, tmp_path: Path) -> None:
    checkpoint = load_tiny(tmp_path / "checkpoint", family, task, hidden_dropout_prob=0.5)
    checkpoint.model.train()  # as a caller has it between two epochs
    spec, settings = clip_spec(checkpoint, "frames"), copy.deepcopy(dict(checkpoint.processor))
    model, process = state_of(checkpoint.model), state_of_the_process()
    precisions: tuple[GraphPrecision, ...] = ("fp16",) if task == "video-classification" else ()
    export_bundle(
        checkpoint, tmp_path / "bundle", ExportOptions(extras=("hidden_states", "attentions"), precisions=precisions)
    )
    asked = exported_model(checkpoint.model)
    asked.train()
    asked_before = state_of(asked)
    trace(asked, spec)
    matrix_products(asked)
    assert state_of(asked) == asked_before
    assert state_of(checkpoint.model) == model
    assert state_of_the_process() == process
    assert dict(checkpoint.processor) == settings


def test_an_export_is_fused_however_the_model_attends(tmp_path: Path) -> None:
    checkpoint = load_tiny(tmp_path / "checkpoint", "vivit")
    attend_with(checkpoint.model, eager_attention)
    bundle, _ = export_bundle(checkpoint, tmp_path / "bundle")
    found = Counter(node.op_type for node in onnx.load(bundle.path / "model.onnx").graph.node)
    assert (found["MultiHeadAttention"], found["Softmax"]) == (2, 0)


def test_a_model_beside_another_has_modules_of_its_own_and_the_same_weights(tmp_path: Path) -> None:
    model = load_tiny(tmp_path / "checkpoint", "videomae").model
    beside = sharing_weights(model)
    attend_with(beside.train(), eager_attention)
    assert not model.training
    assert {block.attend for block in model.modules() if isinstance(block, Attention)} == {sdpa_attention}
    pairs = zip((*model.parameters(), *model.buffers()), (*beside.parameters(), *beside.buffers()), strict=True)
    assert all(ours is theirs for ours, theirs in pairs)


def test_a_model_at_work_leaves_videos_and_the_process_as_they_were(
    vivit_bundle: Path, videomae_bundle: Path, attentive_bundle: Path, masked_bundle: Path, video: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), np.uint8)
    given, process = pixels.copy(), state_of_the_process()
    uses: list[tuple[Path, Callable[[Any], object]]] = [
        (vivit_bundle, lambda model: (model.classify(pixels), model.classify(video))),
        (videomae_bundle, lambda model: list(model.classify_many([pixels, video], batch=2))),
        (attentive_bundle, lambda model: (model.features(pixels), model.explain(pixels))),
        (masked_bundle, lambda model: model.reconstruct(pixels)),
    ]
    for path, use in uses:
        with load(path, task=None) as model:
            batch = model.prepare(model.read(pixels))
            before = batch.copy()
            use(model)
            if path != masked_bundle:
                model.run(batch)
            np.testing.assert_array_equal(batch, before)
    np.testing.assert_array_equal(pixels, given)
    assert state_of_the_process() == process


def test_a_graph_added_to_a_bundle_leaves_the_one_in_memory_as_it_was(vivit_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(shutil.copytree(vivit_bundle, tmp_path / "bundle"))
    before = copy.deepcopy(bundle.to_json())
    precision.add_graph(bundle, "int8-static")
    assert bundle.to_json() == before


def floats(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).random(shape, np.float32)


def attention_weights() -> list[Any]:
    values = floats(2, 3, 33, 33)  # (layers, h, N, N)
    return list(values / values.sum(axis=-1, keepdims=True))


GRID, TUBELET = masking.Grid(2, 4, 4), masking.TubeletSize(2, 8, 8)
CLIPS = np.random.default_rng(1).integers(0, 256, (1, 4, 32, 32, 3), np.uint8)
MASKED = np.arange(28).reshape(1, 28)
PRETRAINING = reconstruction.Pretraining(TUBELET, 28, norm_pix_loss=True)
PROCESSOR = checkpoints._PROCESSOR["vivit"] | {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
EVALUATION = Evaluation(Sampling("uniform", 1), "up", "logits")
CONTRACT: dict[str, Any] = {
    "family": family_named("vivit"),
    "num_frames": 4,
    "evaluation": EVALUATION,
    "arithmetic": "pillow",
}
SPEC = spec_from_hub(PROCESSOR, **CONTRACT)
STORED = checkpoints.seeded_weights(checkpoints.tiny_config("videomae"))

CALLS: dict[str, tuple[Callable[..., object], tuple[Any, ...]]] = {
    "softmax": (predictions.softmax, (floats(2, 5),)),
    "sigmoid": (predictions.sigmoid, (floats(2, 5),)),
    "top_predictions": (predictions.top_predictions, (floats(5), list("abcde"), 3)),
    "kept_values": (kept_values, (floats(2, 70_000),)),
    "rollout": (rollout.attention_map, (attention_weights(), masking.Grid(2, 4, 4), "class-token")),
    "overlay": (pictures.overlay, (CLIPS[0], floats(4, 32, 32))),
    "sheet": (lambda panels: pictures.contact_sheet(panels, columns=2), ([CLIPS[0], CLIPS[0]],)),
    "hide": (reconstruction.hide, (CLIPS, MASKED, TUBELET)),
    "reconstruct": (reconstruction.reconstruct, (CLIPS, floats(1, 28, 384), MASKED, SPEC, PRETRAINING)),
    "loss": (reconstruction.reconstruction_loss, (CLIPS, floats(1, 28, 384), MASKED, SPEC, PRETRAINING)),
    "spec_from_hub": (
        lambda values: spec_from_hub(values, **CONTRACT),
        (PROCESSOR,),
    ),
    "typed": (lambda values: typed(values, ClipSpec, "spec"), (dataclasses.asdict(SPEC),)),
    "stored_names": (weights.stored_names, (STORED, family_named("videomae"))),
    "of_encoder": (weights.of_encoder, (STORED, family_named("videomae"))),
    "to_float32": (weights.to_float32, ({name: tensor.half() for name, tensor in STORED.items()},)),
    "overrides": (overrides.Overrides.from_json, (overrides.Overrides((48, 48)).to_json(),)),
    "original_names": (originals.has_original_names, (STORED,)),
}


def frozen(value: Any) -> Any:
    """A value that can be compared, tensors and arrays by their bytes."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.detach().numpy().tobytes()
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    if isinstance(value, Mapping):
        return [(key, frozen(item)) for key, item in value.items()]
    return [frozen(item) for item in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("name", CALLS)
def test_a_function_leaves_its_arguments_as_they_were(name: str) -> None:
    function, arguments = CALLS[name]
    before = frozen(arguments)
    function(*arguments)
    assert frozen(arguments) == before
