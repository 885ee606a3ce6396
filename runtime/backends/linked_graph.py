"""Graphs whose files are links. In the Hub's cache all lead into one folder and to other names. With DVC or Nix each
leads into a folder of its own.

Engines look for weights beside the graph and refuse those that a link leads elsewhere. Otherwise a graph could have
any file read. The files of a bundle are known by their checksums. So an engine is given the graph from memory, where
it is small without its weights. It is changed so that the weights are found, and they are mapped from where they are,
as ever.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import BundleError
from ..bundle.bundle import Bundle
from ..bundle.files import Graph
from .product_graph import value_info
from .protobuf import field, fields

# The numbers of fields in onnx.proto.
_GRAPH = 7  # of a ModelProto
_INITIALIZER, _INPUT = 5, 11  # of a GraphProto
_DIMS, _DATA_TYPE, _NAME, _EXTERNAL_DATA = 1, 2, 8, 13  # of a TensorProto
_KEY, _VALUE = 1, 2  # of an entry of external_data

# ONNX's numbers for the types that weights have.
_DTYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 10: np.float16}


@dataclass(frozen=True)
class LinkedGraph:
    """A graph whose weights are elsewhere than it says. path: of the graph; weights: their file, which is no link."""

    path: Path
    weights: Path

    def with_weights_at(self, location: str) -> bytes:
        """Make an ONNX model that says of its weights that they are at `location`.

        Raises:
            BundleError: where the graph is no ONNX model.
        """

        def relocate(initializer: bytes) -> bytes:
            return field(_INITIALIZER, _replace(initializer, _EXTERNAL_DATA, lambda entry: _moved(entry, location)))

        return self._with_initializers(relocate)

    def with_weights_as_inputs(self) -> tuple[bytes, dict[str, NDArray[Any]]]:
        """Make an ONNX model that takes as inputs what it had beside it.

        Returns:
            The model, and the weights by name, mapped from their file.

        Raises:
            BundleError: where the graph is no ONNX model.
        """
        mapped = np.memmap(self.weights, np.uint8, "c")  # nobody writes, but OpenVINO takes no array that is read-only
        weights: dict[str, NDArray[Any]] = {}

        def take(initializer: bytes) -> bytes:
            parts = _numbered(initializer)
            entries = [dict(_numbered(content)) for number, content in parts if number == _EXTERNAL_DATA]
            if not entries:
                return field(_INITIALIZER, initializer)
            place = {entry[_KEY]: entry[_VALUE] for entry in entries}
            said = dict(parts)
            shape = [content for number, content in parts if number == _DIMS]
            start = int(place.get(b"offset", 0))
            raw = np.asarray(mapped[start : start + int(place[b"length"])])
            weights[said[_NAME].decode()] = raw.view(_DTYPES[said[_DATA_TYPE]]).reshape(shape)
            return field(_INPUT, value_info(said[_NAME], said[_DATA_TYPE], shape))

        return self._with_initializers(take), weights

    def _with_initializers(self, change: Callable[[bytes], bytes]) -> bytes:
        """The model, each initializer replaced by the field that `change` makes of its content."""
        try:
            model = self.path.read_bytes()
            return _replace(model, _GRAPH, lambda graph: field(_GRAPH, _replace(graph, _INITIALIZER, change)))
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{self.path} is no ONNX model: {error}", fix="copy the bundle again") from error


def find_graph(bundle: Bundle, graph: Graph) -> Path | LinkedGraph:
    """Say where a graph's files are: its path, or both where weights are beside it and one is a link."""
    path, *beside = [bundle.path / file.name for file in graph.files]
    if not beside or not any(file.is_symlink() for file in (path, *beside)):
        return path
    if len(beside) > 1:
        raise BundleError(
            f"{path} has weights in {len(beside)} files; links are followed to one", fix="copy the bundle"
        )
    return LinkedGraph(path, beside[0].resolve())


def _numbered(message: bytes) -> list[tuple[int, Any]]:
    return [(number, content) for number, content, _ in fields(message)]


def _replace(message: bytes, number: int, change: Callable[[bytes], bytes]) -> bytes:
    """The message, each of its fields of that number replaced by what `change` makes of the content."""
    parts = fields(message)
    return b"".join(change(content) if found == number else whole for found, content, whole in parts)


def _moved(entry: bytes, location: str) -> bytes:
    """A field of external_data, which says where the weights are if it is the one that said so before."""
    if dict(_numbered(entry))[_KEY] == b"location":
        entry = field(_KEY, b"location") + field(_VALUE, location.encode())
    return field(_EXTERNAL_DATA, entry)
