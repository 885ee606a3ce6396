"""Bundle: the folder that crosses the border from torch to everything else.

    bundle.json     what the model is, what it eats, its labels, its graphs, and a checksum of every file
    model.onnx      the fp32 graph, its weights beside it (model.onnx.data) when they are large
    model.*.onnx    graphs of lower precision, when asked for
    reference.npz   clips, and what torch answered for them (see parity.py)

The exporter writes a bundle whole; graphs of lower precision and engines may join it later. What it holds is never
changed in place, and every file is checked before it is used.
"""

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

from ..preprocess.errors import BundleError
from ..preprocess.spec import ClipSpec, ShortestEdge

FORMAT_VERSION = 1
MANIFEST = "bundle.json"

# What the matrix products of a graph compute in; what a backend makes of a graph is its own affair.
# int8: activations are quantized as they come; int8-static and fp8: with scales from calibration clips.
Precision = Literal["fp32", "fp16", "int8", "int8-static", "fp8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
ProblemType = Literal["single_label_classification", "multi_label_classification"]


@dataclass(frozen=True)
class BundleFile:
    """One file of a bundle as it was written."""

    name: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Describes the file at `path`, reading it whole."""
        return cls(path.name, path.stat().st_size, file_sha256(path))


@dataclass(frozen=True)
class RecordedVideo:
    """What each stage gave for a video file where the bundle was made (see stages.py).

    indices: of the frames taken; frames_sha256: of the pixels of each; input_sha256: of the model input;
    logits: torch's, K of them.
    """

    file: BundleFile
    indices: tuple[int, ...]
    frames_sha256: tuple[str, ...]
    input_sha256: str
    logits: tuple[float, ...]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        return cls(
            file=BundleFile(**values["file"]),
            indices=tuple(values["indices"]),
            frames_sha256=tuple(values["frames_sha256"]),
            input_sha256=values["input_sha256"],
            logits=tuple(values["logits"]),
        )


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a graph; a dimension is a number, or a name where it is dynamic."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def describe(self) -> str:
        return f"{self.name} {self.dtype} ({', '.join(map(str, self.shape))})"


@dataclass(frozen=True)
class MatrixProduct:
    """(rows x inner) by (inner x columns), so many times for one clip."""

    rows: int
    inner: int
    columns: int
    times: int

    @property
    def macs(self) -> int:
        """Multiplications, each with its addition."""
        return self.rows * self.inner * self.columns * self.times


@dataclass(frozen=True)
class Graph:
    """One ONNX graph of a bundle.

    files: the graph first, then the weights beside it. kept: matrix products that stay in a type wider than the
    precision; notes: why they do, and what it changed. parity: the report of the check that let the graph in, as JSON.
    """

    precision: Precision
    opset: int
    files: tuple[BundleFile, ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    kept: tuple[str, ...]
    notes: tuple[str, ...]
    parity: dict[str, Any]

    def describe(self) -> str:
        (given,), (returned,) = self.inputs, self.outputs
        size = sum(file.bytes for file in self.files) / 1e6
        proven = "proven" if self.parity["passed"] else "NOT proven"
        return f"{given.describe()} -> {returned.describe()}, opset {self.opset}, {size:.1f} MB, {proven}"

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        return cls(
            precision=values["precision"],
            opset=values["opset"],
            files=tuple(BundleFile(**file) for file in values["files"]),
            inputs=tuple(TensorInfo(**{**t, "shape": tuple(t["shape"])}) for t in values["inputs"]),
            outputs=tuple(TensorInfo(**{**t, "shape": tuple(t["shape"])}) for t in values["outputs"]),
            kept=tuple(values["kept"]),
            notes=tuple(values["notes"]),
            parity=values["parity"],
        )


@dataclass(frozen=True)
class Bundle:
    """What bundle.json says, and the folder that it was read from.

    commit is the Hub commit that the weights came from, None for a local folder. videos are those whose every stage
    was recorded, none unless they were named at the export. products are the matrix products that a clip takes in fp32,
    the heaviest first. versions are those of the tools that made the bundle.
    """

    path: Path
    model_id: str
    commit: str | None
    architecture: str
    task: str
    problem_type: ProblemType
    spec: ClipSpec
    labels: tuple[str, ...]
    graphs: tuple[Graph, ...]
    products: tuple[MatrixProduct, ...]
    reference: BundleFile
    videos: tuple[RecordedVideo, ...]
    versions: dict[str, str]
    notes: tuple[str, ...]

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Reads the manifest of the bundle at `path` and checks that its files are there, whole in size.

        Checksums are checked for each file when it is used (`verified`). Raises BundleError for a folder
        that is no bundle, is damaged, or was written in a format that this version does not know.
        """
        path = Path(path)
        values = _read_manifest(path)
        try:
            bundle = cls(
                path=path,
                spec=ClipSpec.from_json(values["spec"]),
                labels=tuple(values["labels"]),
                graphs=tuple(Graph.from_json(graph) for graph in values["graphs"]),
                products=tuple(MatrixProduct(**product) for product in values["products"]),
                reference=BundleFile(**values["reference"]),
                videos=tuple(RecordedVideo.from_json(video) for video in values["videos"]),
                notes=tuple(values["notes"]),
                **{name: values[name] for name in _PLAIN_FIELDS},
            )
        except (KeyError, TypeError) as error:
            raise BundleError(f"{path / MANIFEST} lacks a field or has one too many: {error}") from error
        for file in (bundle.reference, *(file for graph in bundle.graphs for file in graph.files)):
            _check_size(path, file)
        return bundle

    def to_json(self) -> dict[str, Any]:
        """What bundle.json holds."""
        values = {name: getattr(self, name) for name in _PLAIN_FIELDS} | {
            "notes": self.notes,
            "spec": self.spec.to_json(),
            "graphs": [dataclasses.asdict(graph) for graph in self.graphs],
            "products": [dataclasses.asdict(product) for product in self.products],
            "reference": dataclasses.asdict(self.reference),
            "videos": [dataclasses.asdict(video) for video in self.videos],
            "labels": self.labels,
        }
        return {"format_version": FORMAT_VERSION, "sha256": _manifest_sha256(values)} | values

    def write_manifest(self) -> None:
        """Writes bundle.json, or replaces it at once; it is the last file of a bundle to be written."""
        text = json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"
        beside = self.path / f".{MANIFEST}.new"
        beside.write_text(text, encoding="utf-8")
        beside.replace(self.path / MANIFEST)

    def summary(self) -> str:
        """The bundle in a few lines."""
        spec = self.spec
        source = self.model_id if self.commit is None else f"{self.model_id} @ {self.commit}"
        rows = [
            ("model", f"{source} ({self.architecture})"),
            ("task", f"{self.task}, {_describe_labels(self.labels)}"),
            ("clip", f"{spec.num_frames} frames, {spec.sampling.policy}, stride {spec.sampling.stride}"),
            ("pixels", _describe_pixels(spec)),
            *((graph.precision, text) for graph in self.graphs for text in (graph.describe(), *graph.notes)),
            ("made with", ", ".join(f"{tool} {version}" for tool, version in self.versions.items())),
            *(("note", note) for note in self.notes),
        ]
        return "\n".join(f"{name:<10} {text}" for name, text in rows)

    def graph(self, precision: str) -> Graph:
        """The graph of that precision; BundleError says which there are."""
        for graph in self.graphs:
            if graph.precision == precision:
                return graph
        if precision not in PRECISIONS:
            raise BundleError(f"there is no graph of precision {precision!r}; there are {', '.join(PRECISIONS)}")
        have = ", ".join(graph.precision for graph in self.graphs)
        raise BundleError(
            f"{self.path} has no {precision} graph; it has {have}",
            fix=f"tubelet quantize {shlex.quote(str(self.path))} --precision {precision}",
        )

    def verified(self, file: BundleFile) -> Path:
        """The path of `file`, once its bytes are those that were written; BundleError otherwise."""
        path = _check_size(self.path, file)
        if file_sha256(path) != file.sha256:
            raise BundleError(
                f"{path} is not the file that was exported: its sha256 differs from the one in {MANIFEST}",
                fix="copy the bundle again, or export it again",
            )
        return path


# Fields of Bundle that are JSON as they are.
_PLAIN_FIELDS = ("model_id", "commit", "architecture", "task", "problem_type", "versions")


def _describe_labels(labels: tuple[str, ...]) -> str:
    """How many there are, and the first few."""
    shown = ", ".join([*labels[:3], *(["..."] if len(labels) > 3 else [])])
    return f"{len(labels)} {'label' if len(labels) == 1 else 'labels'}: {shown}"


def _describe_pixels(spec: ClipSpec) -> str:
    """Resize, crop and values of the input in a line."""
    steps = []
    if isinstance(spec.resize, ShortestEdge):
        steps.append(f"{spec.resample} to short side {spec.resize.edge}")
    elif spec.resize is not None:
        steps.append(f"{spec.resample} to {spec.resize.width}x{spec.resize.height}")
    if spec.crop is not None:
        steps.append(f"crop {spec.crop[1]}x{spec.crop[0]}")
    low, high = spec.value_range
    where = "inside the graph" if spec.layout == "THWC" else "before the graph"
    return ", ".join([*steps, f"values {low:.4g} to {high:.4g}, normalised {where}"])


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest_sha256(values: Mapping[str, Any]) -> str:
    """Of everything in the manifest but the format version and this checksum itself."""
    content = {key: value for key, value in values.items() if key not in ("format_version", "sha256")}
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        found = "is a file" if path.is_file() else "does not exist"
        raise BundleError(f"a bundle is a folder with a {MANIFEST}; {path} {found}", fix=_EXPORT_HINT)
    manifest = path / MANIFEST
    if not manifest.is_file():
        raise BundleError(f"{path} is not a bundle: it has no {MANIFEST}", fix=_EXPORT_HINT)
    try:
        values: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{manifest} is damaged: {error}") from error
    version = values.get("format_version") if isinstance(values, dict) else None
    if not isinstance(version, int):
        raise BundleError(f"{manifest} has no format_version: it was not written by tubelet")
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{path} is of format version {version}; this version of tubelet reads up to {FORMAT_VERSION}",
            fix="pip install --upgrade tubelet",
        )
    if values.get("sha256") != _manifest_sha256(values):
        raise BundleError(f"{manifest} was changed after the export", fix="export the bundle again")
    return values


_EXPORT_HINT = "tubelet export --model ID -o BUNDLE"


def _check_size(folder: Path, file: BundleFile) -> Path:
    path = folder / file.name
    if path.name != file.name:  # a manifest must not name files outside its own folder
        raise BundleError(f"{folder / MANIFEST} names {file.name!r}, which is not a plain file name")
    if not path.is_file():
        raise BundleError(f"{path} is missing from the bundle", fix="copy the bundle again, with all its files")
    if path.stat().st_size != file.bytes:
        raise BundleError(
            f"{path} has {path.stat().st_size} bytes, {file.bytes} were exported",
            fix="copy the bundle again, or export it again",
        )
    return path
