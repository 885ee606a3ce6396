"""Tensors on the wire, as the Open Inference Protocol has them: in JSON, or as raw bytes behind it.

A body with binary tensors begins with JSON of as many bytes as the header Inference-Header-Content-Length says. Then
come the little-endian values of each tensor whose parameters have a binary_data_size, in their order.
"""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from .refusal import Refusal

DTYPES: dict[str, np.dtype[Any]] = {"UINT8": np.dtype(np.uint8), "FP32": np.dtype("<f4")}
MOST_JSON = 16 << 20  # bytes; its numbers take ten times that in Python
MOST_AXES = 8

Tensor = NDArray[Any]


class WireTensor(msgspec.Struct):
    """An input as JSON describes it. data: its values, flat or nested; None where they come as bytes."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class WireOutput(msgspec.Struct):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class WireRequest(msgspec.Struct):
    """The JSON of a request."""

    inputs: list[WireTensor]
    outputs: list[WireOutput] = []
    id: str = ""
    parameters: dict[str, Any] = {}


@dataclass(frozen=True, eq=False)
class Asked:
    """A request for inference.

    inputs:     by name
    outputs:    those that are asked for, with their parameters; all of them where there are none
    id:         comes back in the answer
    parameters: of the request
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Mapping[str, Any]]
    id: str
    parameters: Mapping[str, Any]


def read_request(body: bytes, json_bytes: str | None) -> Asked:
    """Read the body of a request.

    Args:
        body: all of it.
        json_bytes: the header Inference-Header-Content-Length. None is a body of JSON alone.

    Returns:
        What is asked, its tensors views of the body where they came as bytes.

    Raises:
        Refusal: for what is not of the protocol, and for more JSON than MOST_JSON.
    """
    length = len(body) if json_bytes is None else _length(json_bytes, len(body))
    if length > MOST_JSON:
        raise Refusal(413, f"the JSON is larger than {MOST_JSON >> 20} MB: send tensors as binary data")
    try:
        request = msgspec.json.decode(memoryview(body)[:length], type=WireRequest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refusal(400, f"the JSON of the request: {error}") from error
    inputs: dict[str, Tensor] = {}
    at = length
    for tensor in request.inputs:
        if tensor.name in inputs:
            raise Refusal(400, f"input {tensor.name[:40]!r} is given twice")
        inputs[tensor.name], at = _read_tensor(tensor, body, at)
    if at != len(body):
        raise Refusal(400, f"{len(body) - at} bytes of the body belong to no input")
    outputs = {output.name: output.parameters for output in request.outputs}
    return Asked(inputs, outputs, request.id, request.parameters)


def _length(stated: str, most: int) -> int:
    if not (stated.isascii() and stated.isdigit()) or int(stated[:20]) > most:
        raise Refusal(400, f"Inference-Header-Content-Length is {stated[:40]!r}, of a body of {most} bytes")
    return int(stated)


def _read_tensor(tensor: WireTensor, body: bytes, at: int) -> tuple[Tensor, int]:
    """The values of an input, and where those of the next one begin."""
    what = f"input {tensor.name[:40]!r}"
    dtype = DTYPES.get(tensor.datatype)
    if dtype is None:
        raise Refusal(400, f"{what} is {tensor.datatype[:40]!r}; this server takes {' and '.join(DTYPES)}")
    if len(tensor.shape) > MOST_AXES or any(side < 0 for side in tensor.shape):
        raise Refusal(400, f"{what} has a shape that no tensor has: {str(tensor.shape)[:80]}")
    count = math.prod(tensor.shape)
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        return _from_json(tensor, dtype, count), at
    if tensor.data is not None:
        raise Refusal(400, f"{what} has both data and binary_data_size")
    if not isinstance(size, int) or isinstance(size, bool) or size != count * dtype.itemsize:
        raise Refusal(400, f"{what} of shape {tensor.shape} is {count * dtype.itemsize} bytes, not {str(size)[:40]}")
    if at + size > len(body):
        raise Refusal(400, f"{what} is {size} bytes, and the body has {len(body) - at} left")
    return np.frombuffer(body, dtype, count, at).reshape(tensor.shape), at + size


def _from_json(tensor: WireTensor, dtype: np.dtype[Any], count: int) -> Tensor:
    what = f"input {tensor.name[:40]!r}"
    if tensor.data is None:
        raise Refusal(400, f"{what} has neither data nor binary_data_size")
    try:
        values = np.array(tensor.data)
    except (ValueError, OverflowError) as error:
        raise Refusal(400, f"the data of {what} is no tensor: {error}") from error
    kinds = "iu" if dtype == np.uint8 else "iuf"
    if values.size != count or (count and values.dtype.kind not in kinds):
        raise Refusal(400, f"{what} of shape {tensor.shape} needs {count} numbers of {tensor.datatype}")
    if dtype == np.uint8 and count and not (values.min() >= 0 and values.max() <= 255):
        raise Refusal(400, f"{what} is UINT8, and has a number outside 0 to 255")
    return values.astype(dtype).reshape(tensor.shape)


def write_answer(
    document: Mapping[str, Any], outputs: Sequence[tuple[str, Tensor | list[list[str]], bool]]
) -> tuple[bytes, dict[str, str]]:
    """Write an answer.

    Args:
        document: what its JSON has beside the outputs.
        outputs: name, values, and whether they go as bytes: FP32 (..., K), or rows of as many texts each.

    Returns:
        The body, and its headers.
    """
    described, binary = [], []
    for name, values, as_bytes in outputs:
        is_text = isinstance(values, list)
        shape = [len(values), len(values[0])] if isinstance(values, list) else list(values.shape)
        wire: dict[str, Any] = {"name": name, "datatype": "BYTES" if is_text else "FP32", "shape": shape}
        flat = [text for row in values for text in row] if isinstance(values, list) else values.reshape(-1)
        if as_bytes:
            content = _text_bytes(flat) if isinstance(flat, list) else flat.astype("<f4").tobytes()
            wire["parameters"] = {"binary_data_size": len(content)}
            binary.append(content)
        else:
            wire["data"] = flat if isinstance(flat, list) else flat.tolist()
        described.append(wire)
    text = json.dumps({**document, "outputs": described}).encode()
    if not binary:
        return text, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}
    return b"".join([text, *binary]), headers


def _text_bytes(texts: list[str]) -> bytes:
    """Each text as its length in 4 bytes, and itself."""
    encoded = [text.encode() for text in texts]
    return b"".join(struct.pack("<I", len(text)) + text for text in encoded)
