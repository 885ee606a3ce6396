"""config.pbtxt: what Triton must know of a model, as protocol buffers are written in text."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ...runtime.bundle.files import TensorInfo

TritonBackend = Literal["python", "onnxruntime", "tensorrt", "openvino"]

Fields = dict[str, Any]


class Word(str):
    """A name of an enumeration, which stands without quotes."""


@dataclass(frozen=True)
class Batching:
    """How Triton puts requests together. most: clips in one run; delay_ms: how long the first of them waits."""

    most: int
    delay_ms: float


_TYPES = {"float32": Word("TYPE_FP32"), "uint8": Word("TYPE_UINT8")}


def tensor(name: str, kind: str, dims: Sequence[int], **more: Any) -> Fields:
    """An input or output; dims are without the batch, -1 where they are open."""
    return {"name": name, "data_type": Word(kind), "dims": list(dims), **more}


def graph_tensor(info: TensorInfo) -> Fields:
    """An input or output of a graph, as its manifest has it."""
    return tensor(info.name, _TYPES[info.dtype], info.clip_shape)


def model_config(
    name: str,
    backend: str,
    inputs: Sequence[Fields],
    outputs: Sequence[Fields],
    batching: Batching,
    *,
    instances: int,
    kind: str,
    parameters: Mapping[str, str],
    **more: Any,
) -> Fields:
    """The fields of a model that runs in a backend."""
    return {
        "name": name,
        "backend": backend,
        **more,
        **_batched(batching),
        "input": list(inputs),
        "output": list(outputs),
        "instance_group": [{"count": instances, "kind": Word(kind)}],
        "version_policy": {"latest": {"num_versions": 1}},
        "parameters": [{"key": key, "value": {"string_value": value}} for key, value in parameters.items()],
    }


def ensemble_config(
    name: str, inputs: Sequence[Fields], outputs: Sequence[Fields], steps: Sequence[Fields], most: int
) -> Fields:
    """The fields of a model that sends what it takes through others."""
    return {
        "name": name,
        "platform": "ensemble",
        "max_batch_size": most,
        "input": list(inputs),
        "output": list(outputs),
        "version_policy": {"latest": {"num_versions": 1}},
        "ensemble_scheduling": {"step": list(steps)},
    }


def step(model: str, takes: Mapping[str, str], gives: Mapping[str, str]) -> Fields:
    """One model of an ensemble: its inputs and outputs, each by the name that the ensemble has for it."""
    return {
        "model_name": model,
        "model_version": -1,
        "input_map": [{"key": key, "value": value} for key, value in takes.items()],
        "output_map": [{"key": key, "value": value} for key, value in gives.items()],
    }


def _batched(batching: Batching) -> Fields:
    fields: Fields = {"max_batch_size": batching.most}
    if batching.most > 1:
        fields["dynamic_batching"] = {"max_queue_delay_microseconds": round(batching.delay_ms * 1000)}
    return fields


def written(fields: Mapping[str, Any], indent: str = "") -> str:
    """Write fields as text, one a line."""
    return "".join(f"{indent}{name}{_written(value, indent)}\n" for name, value in fields.items())


def _written(value: Any, indent: str) -> str:
    if isinstance(value, Mapping):
        return f" {{\n{written(value, indent + '  ')}{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        inside = indent + "  "
        parts = [f"{inside}{{\n{written(part, inside + '  ')}{inside}}}" for part in value]
        return " [\n" + ",\n".join(parts) + f"\n{indent}]"
    if isinstance(value, list):
        return f": [{', '.join(map(str, value))}]"
    if isinstance(value, bool):
        return f": {str(value).lower()}"
    if isinstance(value, str) and not isinstance(value, Word):
        return f": {json.dumps(value, ensure_ascii=False)}"
    return f": {value}"
