"""The Open Inference Protocol (v2): what `tritonclient` and KServe's clients speak.

A model takes one of two inputs: `video`, UINT8 [-1], the bytes of a video file, or its graph's input. That is
`pixel_values`, FP32 [-1, T, 3, H, W], or `frames`, UINT8 [-1, T, H, W, 3]. Every model gives `logits` and `scores`,
FP32 [-1, K].
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...runtime.classifier import VideoClassifier
from .options import CLIPS_AND_CROPS, READING, parse_query, reading_of
from .refusal import Refusal
from .service import Served, Service, Stages
from .tensors import Asked, Tensor, read_request, write_answer
from .uploads import Upload, received_body

VERSION = "1"  # a server has one of each model
VIDEO = "video"
OUTPUTS = ("logits", "scores")
OPTIONS = (*CLIPS_AND_CROPS, *READING)
_OF_PROTOCOL = ("binary_data_output",)  # parameters of a request that are no option of ours


@dataclass(frozen=True, eq=False)
class Said:
    """What the model says of a request. logits: float32 (views, K); scores: float32 (videos, K)."""

    logits: NDArray[np.float32]
    scores: NDArray[np.float32]


async def describe_server(_: Request) -> Response:
    """Answer with what the server is."""
    extensions = ["binary_tensor_data", "classification"]
    return JSONResponse({"name": "tubelet", "version": version("tubelet"), "extensions": extensions})


async def describe_model(request: Request) -> Response:
    """Answer with what a model takes and gives."""
    served = _served(request)
    spec, graph = served.model.spec, served.model.bundle.graphs[0]
    clips = [-1, *graph.inputs[0].clip_shape]
    taken = [(VIDEO, "UINT8", [-1]), (spec.input_name, "FP32" if spec.layout == "TCHW" else "UINT8", clips)]
    given = [(name, "FP32", [-1, len(served.model.labels)]) for name in OUTPUTS]
    inputs, outputs = (
        [{"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in tensors]
        for tensors in (taken, given)
    )
    document = {"name": served.name, "versions": [VERSION], "platform": "tubelet_bundle"}
    return JSONResponse({**document, "inputs": inputs, "outputs": outputs})


async def model_ready(request: Request) -> Response:
    """Answer whether a model can be asked."""
    served = _served(request)
    is_ready = served.batches.is_alive
    return JSONResponse({"name": served.name, "ready": is_ready}, 200 if is_ready else 503)


async def infer(request: Request) -> Response:
    """Answer with what a model says of a video, or of clips that the client prepared."""
    service: Service = request.state.service
    served = _served(request)
    stages = Stages()
    stated = request.headers.get("inference-header-content-length")
    async with received_body(request) as upload, service.bodies:
        stages.ended("receive")
        asked = await service.in_reader(lambda: read_request(upload.whole(), stated), upload)
        outputs = _outputs(asked)
        said = await _ask(service, served, asked, stages)
    written = [_write(served.model, said, name, parameters, asked) for name, parameters in outputs.items()]
    document = {"model_name": served.name, "model_version": VERSION} | ({"id": asked.id} if asked.id else {})
    body, headers = write_answer(document, written)
    return Response(body, headers=headers)


def _served(request: Request) -> Served:
    service: Service = request.state.service
    served = service.model(request.path_params["model"])
    asked = request.path_params.get("version", VERSION)
    if asked != VERSION:
        raise Refusal(404, f"model {served.name} has version {VERSION} alone, got {asked[:40]!r}")
    return served


def _outputs(asked: Asked) -> Mapping[str, Mapping[str, Any]]:
    """Those that are asked for, with their parameters. Raises Refusal for one that there is not."""
    for name, parameters in asked.outputs.items():
        if name not in OUTPUTS:
            raise Refusal(400, f"there is no output {name[:40]!r}; there are {' and '.join(OUTPUTS)}")
        count = parameters.get("classification", 1)
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise Refusal(400, f"classification must be a number of labels, got {str(count)[:40]}")
    return asked.outputs or {name: {} for name in OUTPUTS}


async def _ask(service: Service, served: Served, asked: Asked, stages: Stages) -> Said:
    """Run the one input that a request has."""
    model = served.model
    if len(asked.inputs) != 1 or not asked.inputs.keys() <= {VIDEO, model.spec.input_name}:
        got = ", ".join(name[:40] for name in asked.inputs) or "none"
        raise Refusal(400, f"{served.name} takes one input, {VIDEO} or {model.spec.input_name}, got {got}")
    options = {name: _text(value) for name, value in asked.parameters.items() if name not in _OF_PROTOCOL}
    ((name, tensor),) = asked.inputs.items()
    if name == VIDEO:
        if tensor.ndim != 1 or tensor.dtype != np.uint8 or not len(tensor):
            raise Refusal(400, f"{VIDEO} must be UINT8 [N], the bytes of a file, got {_describe(tensor)}")
        reading = reading_of(parse_query(options, OPTIONS), service.limits)
        upload = Upload(io.BytesIO(tensor.tobytes()), len(tensor))
        _, logits = await service.look(served, upload, reading, stages)
        scores = model.scores(logits)[np.newaxis]
    else:
        if options:
            raise Refusal(400, f"{', '.join(options)[:80]}: clips that are prepared have no options")
        logits = await service.infer(served, _clips(model, tensor), stages)
        scores = np.stack([model.scores(clip[np.newaxis]) for clip in logits])
    service.metrics.stages(served.name, stages.seconds)
    return Said(logits, scores)


def _clips(model: VideoClassifier, tensor: Tensor) -> Tensor:
    """Clips as the graph takes them: (B, ...). Raises Refusal for others."""
    info = model.bundle.graphs[0].inputs[0]
    expected = info.clip_shape
    if tensor.dtype != np.dtype(info.dtype) or tensor.shape[1:] != expected or not len(tensor):
        shape = ", ".join(map(str, expected))
        raise Refusal(400, f"{info.name} must be {info.dtype} [B, {shape}], got {_describe(tensor)}")
    if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
        raise Refusal(400, f"{info.name} has values that are NaN or infinite")
    return tensor


def _describe(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"


def _text(value: Any) -> str:
    """A parameter as the query of a URL would have it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _write(
    model: VideoClassifier, said: Said, name: str, parameters: Mapping[str, Any], asked: Asked
) -> tuple[str, Tensor | list[list[str]], bool]:
    """An output: its values, or with `classification` the best labels of each row as value:index:label."""
    values: NDArray[np.float32] = getattr(said, name)
    as_bytes = bool(parameters.get("binary_data", asked.parameters.get("binary_data_output", False)))
    if "classification" not in parameters:
        return name, values, as_bytes
    best = np.argsort(-values, axis=1, kind="stable")[:, : parameters["classification"]]
    rows = [
        [f"{row[index]:f}:{index}:{model.labels[index]}" for index in indices]
        for row, indices in zip(values, best.tolist(), strict=True)
    ]
    return name, rows, as_bytes
