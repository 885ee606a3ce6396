"""Bundle: the folder that crosses the border from torch to everything else.

    bundle.json     what the model is, what it eats, its labels, its graphs, and a checksum of every file
    model.onnx      the fp32 graph, its weights beside it (model.onnx.data) when they are large
    model.*.onnx    graphs of lower precision, when asked for
    reference.npz   clips, and what torch answered for them (see parity.py)

The exporter writes a bundle whole; graphs of lower precision and engines may join it later. What it holds is never
changed in place, and every file is checked before it is used.
"""

import dataclasses
import json
import shlex
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from ...preprocess.errors import BundleError
from ...preprocess.spec import Arithmetic, ClipSpec, Sampling, ShortestEdge
from ..precisions import GRAPH_PRECISIONS
from ..storage.exchange import restored, while_it_stays
from ..storage.written import written_file
from ..tokens import Grid, TubeletSize, token_grid
from .files import BundleFile, Graph, MatrixProduct, RecordedVideo, TensorInfo, file_sha256
from .manifest import FORMAT_VERSION, MANIFEST, manifest_sha256, read_manifest, require_whole
from .merging import Merging
from .typed import typed

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "Bundle",
    "BundleFile",
    "Graph",
    "MatrixProduct",
    "Merging",
    "ProblemType",
    "Readout",
    "RecordedVideo",
    "Task",
    "TensorInfo",
    "TokenOrder",
    "file_sha256",
    "manifest_sha256",
]

Task = Literal["video-classification", "feature-extraction", "masked-modeling"]
ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
# What the answer is read from: a class token, before all others (ViViT); the mean of all tokens (VideoMAE); the first
# token, one like the others (VideoMAE without mean pooling); or what a learned query attends to (V-JEPA 2).
Readout = Literal["class-token", "mean", "first-token", "attentive"]
# How the tokens of tubelets lie: all places of a time slice and then those of the next (places run along the width
# first), or all times of a place and then those of the next.
TokenOrder = Literal["slice-by-slice", "place-by-place"]


@dataclass(frozen=True)
class Bundle:
    """What bundle.json says, and the folder that it was read from.

    commit is the Hub commit that the weights came from, None for a local folder. videos are those whose every stage
    was recorded, none unless they were named at the export. products are the matrix products that a clip takes in fp32,
    the heaviest first. versions are those of the tools that made the bundle. overrides are what was set against the
    checkpoint's config.json, by the names of the export's options.

    tubelet is what one token covers; readout, from which tokens the answer is read (rollout.py); token_order, how they
    lie. A classifier has labels and a problem_type. Masked modeling has norm_pix_loss: whether pixels come out
    normalised within each tubelet. merging is what was merged, of a model exported so.
    """

    path: Path
    model_id: str
    commit: str | None
    architecture: str
    task: Task
    problem_type: ProblemType | None
    spec: ClipSpec
    labels: tuple[str, ...]
    tubelet: TubeletSize
    readout: Readout
    token_order: TokenOrder
    norm_pix_loss: bool | None
    merging: Merging | None
    graphs: tuple[Graph, ...]
    products: tuple[MatrixProduct, ...]
    reference: BundleFile
    videos: tuple[RecordedVideo, ...]
    versions: dict[str, str]
    notes: tuple[str, ...]
    overrides: dict[str, int | str | tuple[int, ...]]

    @classmethod
    def open(cls, path: str | Path, *, precisions: Collection[str] | None = None) -> Self:
        """Read the manifest of the bundle at `path` and check that its files are there, whole in size.

        Checksums are checked for each file when it is used (`verified`).

        Args:
            path: the folder.
            precisions: of the graphs that the bundle is to have; files of others may be absent. None for all.

        Raises:
            BundleError: for a folder that is no bundle, is damaged, or has a format that this version does not know.
        """
        path = Path(path)
        return while_it_stays(path / MANIFEST, lambda: cls._whole(path, precisions))

    @classmethod
    def _whole(cls, path: Path, precisions: Collection[str] | None) -> Self:
        bundle = cls.described(path)
        if precisions is not None:
            bundle = bundle.only(precisions)
        bundle.require_files()
        return bundle

    @classmethod
    def described(cls, path: Path) -> Self:
        """Read the manifest alone, whatever else is there. Raises BundleError as `open` does."""
        restored(path)
        bundle = typed({"path": path} | read_manifest(path), cls, str(path / MANIFEST))
        require_whole(bundle)
        return bundle

    def only(self, precisions: Collection[str]) -> Self:
        """The bundle with the graphs of those precisions alone; BundleError says which there are."""
        for precision in precisions:
            self.graph(precision)
        return dataclasses.replace(self, graphs=tuple(graph for graph in self.graphs if graph.precision in precisions))

    @property
    def files(self) -> tuple[BundleFile, ...]:
        """All that the manifest lists: the reference, then those of each graph."""
        return (self.reference, *(file for graph in self.graphs for file in graph.files))

    def require_files(self) -> None:
        """Raise BundleError unless every file is there, whole in size."""
        for file in self.files:
            _check_size(self.path, file)

    def to_json(self) -> dict[str, Any]:
        """What bundle.json holds."""
        values = dataclasses.asdict(self)
        del values["path"]
        return {"format_version": FORMAT_VERSION, "sha256": manifest_sha256(values)} | values

    @property
    def sha256(self) -> str:
        """The checksum of the manifest, which holds those of all files: it tells one bundle from another."""
        return str(self.to_json()["sha256"])

    def write_manifest(self) -> None:
        """Write bundle.json, or replace it at once; it is the last file of a bundle to be written."""
        text = json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"
        with written_file(self.path / MANIFEST) as beside:
            beside.write_text(text, encoding="utf-8")

    def summary(self) -> str:
        """Describe the bundle in a few lines."""
        spec, sampling = self.spec, self.spec.evaluation.sampling
        source = self.model_id if self.commit is None else f"{self.model_id} @ {self.commit}"
        rows = [
            ("model", f"{source} ({self.architecture})"),
            ("task", f"{self.task}, {self._describe_labels()}" if self.labels else self.task),
            ("clip", f"{spec.num_frames} frames, {_describe_sampling(sampling)}"),
            ("pixels", _describe_pixels(spec)),
            *(("merging", line) for line in (() if self.merging is None else self.merging.lines())),
            *((graph.precision, text) for graph in self.graphs for text in (graph.describe(), *graph.notes)),
            ("made with", ", ".join(f"{tool} {version}" for tool, version in self.versions.items())),
            *(("note", note) for note in self.notes),
        ]
        return "\n".join(f"{name:<10} {text}" for name, text in rows)

    @property
    def grid(self) -> Grid:
        """How the tokens of a clip lie; with readout "class-token", one more stands in front of them."""
        if self.spec.size is None:
            raise BundleError(f"{self.path} leaves the size of clips open, so its tokens have no grid")
        try:
            return token_grid((self.spec.num_frames, *self.spec.size), self.tubelet)
        except ValueError as error:
            raise BundleError(f"the tokens of {self.path} have no place in its frames: {error}") from error

    @property
    def ranked(self) -> bool:
        """Whether logits are those of labels, of which the best count; the values of a regression are not."""
        return self.task == "video-classification" and self.problem_type != "regression"

    def require_classifier(self, purpose: str) -> None:
        """Raise BundleError, which names the purpose, unless the graphs give logits of labels and nothing else."""
        outputs = [output.name for output in self.graphs[0].outputs]
        if self.task != "video-classification" or outputs != ["logits"]:
            raise BundleError(
                f"{self.path} is for {self.task} and gives {outputs[0]}{' and more' if outputs[1:] else ''}; {purpose} "
                "takes a bundle for video-classification that gives logits alone",
                fix="tubelet export --model ID --task video-classification, of a checkpoint that is for it",
            )

    def _describe_labels(self) -> str:
        """How many there are, and the first few."""
        shown = ", ".join([*self.labels[:3], *(["..."] if len(self.labels) > 3 else [])])
        noun, kind = ("value", "regression, ") if self.problem_type == "regression" else ("label", "")
        return f"{kind}{len(self.labels)} {noun}{'' if len(self.labels) == 1 else 's'}: {shown}"

    def graph(self, precision: str) -> Graph:
        """Find the graph of that precision; BundleError says which there are."""
        for graph in self.graphs:
            if graph.precision == precision:
                return graph
        if precision not in GRAPH_PRECISIONS:
            raise BundleError(f"there is no graph of precision {precision!r}; there are {', '.join(GRAPH_PRECISIONS)}")
        have = ", ".join(graph.precision for graph in self.graphs)
        fix = f"tubelet quantize {shlex.quote(str(self.path))} --precision {precision}"
        if precision == "fp32":  # which every export has, and `tubelet pull --precision` may leave out
            fix = f"take --precision {self.graphs[0].precision}, or pull the bundle with fp32 as well"
        raise BundleError(f"{self.path} has no {precision} graph; it has {have}", fix=fix)

    def verified(self, file: BundleFile) -> Path:
        """Give the path of `file`, once its bytes are those that were written; BundleError otherwise."""
        try:
            path = _check_size(self.path, file)
            if file_sha256(path) != file.sha256:
                raise BundleError(
                    f"{path} is not the file that was exported: its sha256 differs from the one in {MANIFEST}",
                    fix="copy the bundle again, or export it again",
                )
        except BundleError as error:
            if self._was_replaced():
                raise BundleError(f"{self.path} was replaced while it was being read", fix="try again") from error
            raise
        return path

    @contextmanager
    def verifying(self, graph: Graph) -> Iterator[None]:
        """Check the files of a graph while the block loads it: hashing releases the interpreter, and costs no time.

        Raises:
            BundleError: for a damaged file. It takes the place of the block's own error, whose cause it is.
        """
        with ThreadPoolExecutor(len(graph.files)) as pool:
            checks = [pool.submit(self.verified, file) for file in graph.files]
            try:
                yield
            finally:
                for check in checks:
                    check.result()

    def _was_replaced(self) -> bool:
        """Whether another bundle took this one's place since it was opened."""
        try:
            now = Bundle.described(self.path)
        except BundleError:
            return False
        mine = [graph.precision for graph in self.graphs]
        same = tuple(graph for graph in now.graphs if graph.precision in mine)
        return dataclasses.replace(now, graphs=same).sha256 != self.sha256


_COMPUTED_AS: dict[Arithmetic, str] = {
    "pillow": "computed as Pillow up to 12 does",
    "pillow-13": "computed as Pillow 13 does",
    "torchvision": "computed as torchvision does",
}


def _describe_sampling(sampling: Sampling) -> str:
    joined = f", {sampling.joined} clips joined to one" if sampling.joined > 1 else ""
    return f"{sampling.policy}, stride {sampling.stride}{joined}"


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
    return ", ".join([*steps, f"values {low:.4g} to {high:.4g}, normalised {where}", _COMPUTED_AS[spec.arithmetic]])


def _check_size(folder: Path, file: BundleFile) -> Path:
    path = folder / file.name
    if not path.is_file():
        raise BundleError(f"{path} is missing from the bundle", fix="copy the bundle again, with all its files")
    if path.stat().st_size != file.bytes:
        raise BundleError(
            f"{path} has {path.stat().st_size} bytes, {file.bytes} were exported",
            fix="copy the bundle again, or export it again",
        )
    return path
