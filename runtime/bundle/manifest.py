"""bundle.json: read as what it must be, and held together where its fields speak of one another."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...preprocess.errors import BundleError
from .formats import OLDEST_READ, upgraded
from .typed import read_json_object

if TYPE_CHECKING:
    from .bundle import Bundle
    from .files import BundleFile, Graph, RecordedVideo, TensorInfo

FORMAT_VERSION = 6
MANIFEST = "bundle.json"

_EXPORT_HINT = "tubelet export --model ID -o BUNDLE"
_AGAIN = "export the bundle again"
_NOT_IN_NAMES = frozenset("/\\:\0")  # of a file in its own folder, on any system
_MOST = 2**31  # rows, columns and the like; what any engine counts tensors with


def manifest_sha256(values: Mapping[str, Any]) -> str:
    """Compute the checksum of a manifest: of all fields but the format version and the checksum itself."""
    content = {key: value for key, value in values.items() if key not in ("format_version", "sha256")}
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the bundle.json of the folder `path`.

    Returns:
        Its fields as the present format has them, types unchecked.

    Raises:
        BundleError: for a folder without one, and for one that is no JSON or was changed. Also for a format that is
            not read here.
    """
    if not path.is_dir():
        found = "is a file" if path.is_file() else "does not exist"
        raise BundleError(f"a bundle is a folder with a {MANIFEST}; {path} {found}", fix=_EXPORT_HINT)
    manifest = path / MANIFEST
    try:
        values = read_json_object(manifest)
    except FileNotFoundError as error:
        raise BundleError(f"{path} is not a bundle: it has no {MANIFEST}", fix=_EXPORT_HINT) from error
    version = _known_version(path, values)
    try:
        checksum = manifest_sha256(values)
    except RecursionError as error:
        raise BundleError(f"{manifest} is damaged: it is nested without end", fix=_AGAIN) from error
    if values.get("sha256") != checksum:
        raise BundleError(f"{manifest} was changed after the export", fix=_AGAIN)
    fields = {name: value for name, value in values.items() if name not in ("format_version", "sha256")}
    try:
        return upgraded(fields, version)
    except ValueError as error:
        raise BundleError(f"{manifest}, of format {version}: {error}", fix=_AGAIN) from error


def _known_version(path: Path, values: Mapping[str, Any]) -> int:
    version = values.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise BundleError(f"{path / MANIFEST} has no format_version: it was not written by tubelet")
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{path} is of format version {version}; this version of tubelet reads up to {FORMAT_VERSION}",
            fix="pip install --upgrade tubelet",
        )
    if version < OLDEST_READ:
        raise BundleError(
            f"{path} is of format version {version}, of an older tubelet; this one reads {OLDEST_READ} to "
            f"{FORMAT_VERSION}",
            fix="export it again",
        )
    return version


def require_whole(bundle: "Bundle") -> None:
    """Raise BundleError, which names the field, where the fields of a manifest do not go together.

    Each has its type by then (typed.py). What the graphs really are is checked when an engine opens them.
    """
    for problem in _problems(bundle):
        raise BundleError(f"{bundle.path / MANIFEST}: {problem}", fix=_AGAIN)


def _problems(bundle: "Bundle") -> Iterator[str]:
    """Each in words. Later ones take it that there are no earlier ones."""
    if not bundle.graphs:
        yield "graphs must hold at least one"
    precisions = [graph.precision for graph in bundle.graphs]
    if len(set(precisions)) < len(precisions):
        yield f"graphs must be one a precision, got {', '.join(precisions)}"
    for i, graph in enumerate(bundle.graphs):
        yield from _problems_of_graph(f"graphs[{i}]", graph, bundle)
    yield from _problems_of_file("reference", bundle.reference)
    names = [bundle.reference.name, *(file.name for graph in bundle.graphs for file in graph.files)]
    if len({MANIFEST, *names}) <= len(names):
        yield f"no two files may have one name, got {', '.join([MANIFEST, *names])}"
    if not all(1 <= side < _MOST for side in bundle.tubelet):
        yield f"tubelet must be three numbers above 0, got {list(bundle.tubelet)}"
    yield from _problems_of_task(bundle)
    if bundle.merging is not None:
        if bundle.task != "video-classification":
            yield f"merging is for video-classification, and this is for {bundle.task}"
        yield from (f"merging.{problem}" for problem in bundle.merging.problems())
    for i, product in enumerate(bundle.products):
        if not all(1 <= side < _MOST for side in (product.rows, product.inner, product.columns, product.times)):
            yield f"products[{i}] must be numbers above 0 and below 2^31"
    for i, video in enumerate(bundle.videos):
        yield from _problems_of_video(f"videos[{i}]", video, bundle)


def _problems_of_graph(where: str, graph: "Graph", bundle: "Bundle") -> Iterator[str]:
    if not graph.files:
        yield f"{where}.files must hold at least one, the graph"
    for i, file in enumerate(graph.files):
        yield from _problems_of_file(f"{where}.files[{i}]", file)
    if not 1 <= graph.opset < 1000:
        yield f"{where}.opset must be a version of ONNX's operators, got {graph.opset}"
    for what, tensors in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        if not tensors:
            yield f"{where}.{what} must hold at least one"
        if len({tensor.name for tensor in tensors}) < len(tensors):
            yield f"{where}.{what} must have names of their own, got {', '.join(tensor.name for tensor in tensors)}"
        for i, tensor in enumerate(tensors):
            yield from _problems_of_tensor(f"{where}.{what}[{i}]", tensor)
    first = bundle.graphs[0]
    if (graph.inputs, graph.outputs) != (first.inputs, first.outputs):
        yield f"{where} must have the inputs and outputs of graphs[0]"
    if graph.parity is None or not graph.parity.passed:
        yield f"{where}.parity must be a report that passed"


def _problems_of_file(where: str, file: "BundleFile") -> Iterator[str]:
    if not file.name.strip(".") or set(file.name) & _NOT_IN_NAMES:
        yield f"{where}.name must be a plain file name, got {file.name!r}"
    if not 0 <= file.bytes < 2**63:
        yield f"{where}.bytes must be a size, got {file.bytes}"


def _problems_of_tensor(where: str, tensor: "TensorInfo") -> Iterator[str]:
    """Only the batch is open."""
    batch, *sides = tensor.shape or (None,)
    if not isinstance(batch, str) or not sides or not all(isinstance(side, int) and side >= 1 for side in sides):
        yield f"{where}.shape must be the name of the batch and numbers above 0, got {list(tensor.shape)}"
    elif math.prod(side for side in sides if isinstance(side, int)) > 2**40:
        yield f"{where}.shape is larger than any tensor, got {list(tensor.shape)}"


def _problems_of_task(bundle: "Bundle") -> Iterator[str]:
    """Whether graphs take the clips of the spec, and give what the task is for."""
    spec, graph = bundle.spec, bundle.graphs[0]
    clips, outputs = graph.inputs[0], {tensor.name: tensor for tensor in graph.outputs}
    if spec.size is None:
        yield "spec must fix the size of clips"
        return
    is_frames = spec.layout == "THWC"
    clip_shape = (spec.num_frames, *spec.size, 3) if is_frames else (spec.num_frames, 3, *spec.size)
    expected = (spec.input_name, "uint8" if is_frames else "float32", clip_shape)
    if (clips.name, clips.dtype, clips.clip_shape) != expected:
        yield f"graphs[0].inputs[0] must be the clips of spec, {expected[1]} {clip_shape}, got {clips.describe()}"
    if any(side < step for side, step in zip((spec.num_frames, *spec.size), bundle.tubelet, strict=True)):
        yield f"tubelet must fit into a clip of {spec.num_frames} frames of {spec.size}, got {list(bundle.tubelet)}"
    primary = "last_hidden_state" if bundle.task == "feature-extraction" else "logits"
    if primary not in outputs:
        yield f"graphs[0].outputs must give {primary} for {bundle.task}, got {', '.join(outputs)}"
    if bundle.task == "video-classification":
        if bundle.problem_type is None:
            yield "problem_type must say how logits become scores"
        if not bundle.labels or outputs["logits"].clip_shape != (len(bundle.labels),):
            yield f"labels must be one a logit, got {len(bundle.labels)} for {outputs['logits'].describe()}"
    others = [tensor.name for tensor in graph.inputs[1:]]
    if bundle.task == "masked-modeling":
        if bundle.norm_pix_loss is None:
            yield "norm_pix_loss must be true or false for masked-modeling"
        if others != ["visible", "masked"]:
            yield f"graphs[0].inputs must be clips, visible and masked, got {clips.name}, {', '.join(others)}"
    elif others:
        yield f"graphs[0].inputs must be clips alone, got {', '.join(others)} beside them"


def _problems_of_video(where: str, video: "RecordedVideo", bundle: "Bundle") -> Iterator[str]:
    frames, labels = bundle.spec.num_frames, len(bundle.labels)
    for name, values, count in (
        ("indices", video.indices, frames),
        ("frames_sha256", video.frames_sha256, frames),
        ("logits", video.logits, labels),
    ):
        if len(values) != count:
            yield f"{where}.{name} must be {count}, got {len(values)}"
    if not all(map(math.isfinite, video.logits)):
        yield f"{where}.logits must be finite"
