"""write_models: bundles become a model repository that Triton starts as it is.

    REPO/README.md                      how to start it and ask it, for all models that are there
    REPO/gestures/config.pbtxt          inputs, outputs, batching, instances
    REPO/gestures/labels.txt            one a line, for Triton's own classification
    REPO/gestures/1/model.py            the python backend, and the bundle beside it; or model.onnx, model.plan

A model's folder takes its place whole. Nothing in it names a path outside, so the repository can be moved.
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ...preprocess.errors import BackendError, BundleError, OutOfBounds
from ...runtime.backends import DEFAULT_BACKEND, graph_for
from ...runtime.bounds import shown
from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.engine_files import FOLDER as ENGINES
from ...runtime.bundle.engine_files import graph_sha256, read_plan
from ...runtime.bundle.engines import SOURCES, EngineOptions, EngineRecord, read_records
from ...runtime.bundle.files import Graph
from ...runtime.bundle.manifest import MANIFEST
from ...runtime.progress import Progress, silent
from ...runtime.storage.exchange import restored, written_folder
from ...runtime.storage.written import written_file
from .config import (
    Batching,
    Fields,
    TritonBackend,
    Word,
    ensemble_config,
    graph_tensor,
    model_config,
    step,
    tensor,
    written,
)
from .readme import MARK, NEEDS, describe_repository

InputKind = Literal["video", "clips", "frames"]

TOP_K = 5
_NAME = re.compile(r"\w[\w.-]*", re.ASCII)  # what may stand in a URL as it is
_TEMPLATES = Path(__file__).parent
_IR_VERSION = 8  # how onnx.proto begins: field 1, a number


MOST_DELAY_MS = 60_000  # a minute, after which no client waits


@dataclass(frozen=True)
class TritonOptions:
    """How a bundle is served.

    Attributes:
        input: video, a file's bytes; frames, RGB of any size; clips, what the graph takes, prepared by the client.
        backend: of Triton. Behind another than python, videos and frames are prepared by a model of its own.
        precision: what the backend computes in.
        instances: how many of the model.
        batch: clips in one run at most.
        delay_ms: how long the first request waits for others.
        threads: of the CPU for each instance. None shares the cores among the instances, where the backend can.

    Raises:
        OutOfBounds: for a delay that makes no sense.
    """

    input: InputKind = "video"
    backend: TritonBackend = "python"
    precision: str = "fp32"
    instances: int = 1
    batch: int = 8
    delay_ms: float = 2.0
    threads: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.delay_ms <= MOST_DELAY_MS:
            raise OutOfBounds(f"delay_ms must be from 0 to {MOST_DELAY_MS}, got {shown(self.delay_ms)}")


@dataclass(frozen=True)
class _Model:
    """One folder of the repository. files: name in the version's folder -> what is copied there, or its content."""

    name: str
    config: Fields
    files: dict[str, Path | bytes]
    bundle: Bundle | None = None
    labels: tuple[str, ...] = ()
    needs: str = "tubelet"


def write_models(
    paths: Sequence[Path],
    repository: Path,
    options: TritonOptions,
    *,
    force: bool = False,
    progress: Progress = silent,
    say: Progress = silent,
) -> list[str]:
    """Write a model for each bundle into a model repository, which may hold others already.

    Args:
        paths: the folders of the bundles, whose names become those of the models.
        repository: the folder that is given to `tritonserver --model-repository`.
        options: how they are served.
        force: replace models of the same names that were written here before.
        progress: called with a line for each step.
        say: called with each line that a user should keep.

    Returns:
        The names of the models that clients ask for.

    Raises:
        BundleError: for a bundle that is damaged or no classifier, for two of one name, and where something that may
            not be replaced lies in the repository.
        BackendError: for what the backend cannot compute.
        NotWritten: where the system refuses to write.
    """
    names = [_model_name(path) for path in paths]
    if len(set(names)) < len(names):
        raise BundleError(
            f"models are named after the folders of their bundles, and two have one name: {', '.join(names)}",
            fix="rename a folder, or write them into two repositories",
        )
    planned = [_planned(name, Bundle.open(path), options) for name, path in zip(names, paths, strict=True)]
    folders = [repository / model.name for models in planned for model in models]
    for folder in folders:
        restored(folder, say=say)
        _check_folder(folder, force=force)
    for models in planned:
        for model in models:  # the one that clients ask for is the last
            progress(f"writing {model.name}")
            _write(repository / model.name, model, force=force, say=say)
    with written_file(repository / "README.md") as beside:
        beside.write_text(describe_repository(repository), encoding="utf-8")
    return names


def _model_name(path: Path) -> str:
    name = path.resolve().name
    if not _NAME.fullmatch(name):
        raise BundleError(
            f"a model is named after its folder, and {name!r} cannot stand in a URL",
            fix="rename the folder: letters, digits, ., _ and - may stand in it",
        )
    return name


def _check_folder(folder: Path, *, force: bool) -> None:
    """Raise BundleError where something lies there that may not be replaced."""
    if not folder.exists():
        return
    config = folder / "config.pbtxt"
    if not config.is_file() or not config.read_text(encoding="utf-8", errors="replace").startswith(MARK):
        raise BundleError(
            f"{folder} exists and was not written by tubelet triton, so --force does not replace it",
            fix="choose another repository with -o, or remove what is there",
        )
    if not force:
        raise BundleError(f"{folder} exists", fix="choose another repository with -o, or replace it with --force")


def _planned(name: str, bundle: Bundle, options: TritonOptions) -> list[_Model]:
    """The models that serve a bundle: one, or the three of an ensemble."""
    if bundle.task != "video-classification":
        raise BundleError(
            f"{bundle.path} is for {bundle.task}; Triton is given classifiers",
            fix="tubelet export --model ID --task video-classification, of a checkpoint that is for it",
        )
    if options.backend == "python":
        return [_python_model(name, bundle, options)]
    taken: InputKind = "frames" if bundle.spec.layout == "THWC" else "clips"
    if options.input == taken or options.input == "clips":
        return [_graph_model(name, bundle, options)]
    graph = _graph_model(f"{name}_graph", bundle, options)
    return [graph, _prepare_model(f"{name}_prepare", bundle, options), _ensemble(name, bundle, options, graph)]


def _given(bundle: Bundle, options: TritonOptions) -> Fields:
    """What clients send."""
    match options.input:
        case "video":
            # Videos have bytes of any number, and are batched all the same.
            return tensor("video", "TYPE_UINT8", [-1], allow_ragged_batch=True)
        case "frames":
            return tensor("frames", "TYPE_UINT8", [bundle.spec.num_frames, -1, -1, 3], allow_ragged_batch=True)
        case "clips":
            return graph_tensor(bundle.graphs[0].inputs[0])


def _logits(bundle: Bundle) -> Fields:
    return tensor("logits", "TYPE_FP32", [len(bundle.labels)], label_filename="labels.txt")


def _python_model(name: str, bundle: Bundle, options: TritonOptions) -> _Model:
    graph = bundle.graph(graph_for(DEFAULT_BACKEND, options.precision))
    shown = len(bundle.labels) if not bundle.ranked else min(TOP_K, len(bundle.labels))
    said = [tensor("labels", "TYPE_STRING", [shown]), tensor("scores", "TYPE_FP32", [shown])]
    config = model_config(
        name,
        "python",
        [_given(bundle, options)],
        [_logits(bundle)] if options.input == "clips" else [*said, _logits(bundle)],
        Batching(options.batch, options.delay_ms),
        instances=options.instances,
        kind="KIND_CPU",
        parameters={
            "input": options.input,
            "engine": DEFAULT_BACKEND,
            "precision": options.precision,
            "threads": str(options.threads or 0),
            "top_k": str(shown),
        },
    )
    needs = f"tubelet with its engine (extra cpu); {_reader(bundle, graph)}"
    files: dict[str, Path | bytes] = {"model.py": _TEMPLATES / "model.py"}
    return _Model(name, config, files, bundle.only([graph.precision]), bundle.labels, needs)


def _prepare_model(name: str, bundle: Bundle, options: TritonOptions) -> _Model:
    config = model_config(
        name,
        "python",
        [_given(bundle, options)],
        [graph_tensor(bundle.graphs[0].inputs[0])],
        Batching(options.batch, options.delay_ms),
        instances=options.instances,
        kind="KIND_CPU",
        parameters={"input": options.input, "threads": str(options.threads or 0)},
    )
    return _Model(name, config, {"model.py": _TEMPLATES / "prepare.py", MANIFEST: bundle.path / MANIFEST})


def _ensemble(name: str, bundle: Bundle, options: TritonOptions, graph: _Model) -> _Model:
    given, clips = _given(bundle, options), bundle.graphs[0].inputs[0].name
    steps = [
        step(f"{name}_prepare", {given["name"]: given["name"]}, {clips: "clips"}),
        step(graph.name, {clips: "clips"}, {"logits": "logits"}),
    ]
    given.pop("allow_ragged_batch", None)  # an ensemble puts nothing together itself
    config = ensemble_config(name, [given], [_logits(bundle)], steps, graph.config["max_batch_size"])
    return _Model(name, config, {}, labels=bundle.labels, needs=f"the models {name}_prepare and {name}_graph")


def _graph_model(name: str, bundle: Bundle, options: TritonOptions) -> _Model:
    """A model that Triton's own backend runs."""
    inputs, outputs = [graph_tensor(bundle.graphs[0].inputs[0])], [_logits(bundle)]
    if options.backend == "tensorrt":
        record = _engine(bundle, options)
        plan = read_plan(bundle.path / ENGINES, record)
        config = model_config(
            name,
            "tensorrt",
            inputs,
            outputs,
            Batching(options.batch, options.delay_ms),
            instances=options.instances,
            kind="KIND_GPU",
            parameters={"machine": str(record.machine)},
        )
        needs = f"the engine runs on {record.machine}, and on no other"
        return _Model(name, config, {"model.plan": plan}, labels=bundle.labels, needs=needs)
    graph = bundle.graph(graph_for(options.backend, options.precision))
    config = model_config(
        name,
        options.backend,
        inputs,
        outputs,
        Batching(options.batch, options.delay_ms),
        instances=options.instances,
        kind="KIND_AUTO" if options.backend == "onnxruntime" else "KIND_CPU",
        parameters=_engine_parameters(options),
        **({"default_model_filename": "model.onnx"} if options.backend == "openvino" else {}),
    )
    needs = f"Triton's {options.backend} backend; {_reader(bundle, graph)}"
    return _Model(name, config, _graph_files(bundle, graph), labels=bundle.labels, needs=needs)


def _engine_parameters(options: TritonOptions) -> dict[str, str]:
    """Threads of an engine, which would take all cores for each instance."""
    if options.instances > 1 and options.threads is None:
        raise OutOfBounds(
            f"{options.instances} instances of {options.backend} would take all cores each",
            fix="say how many threads each may have: --threads N",
        )
    threads = options.threads or 0
    if options.backend == "onnxruntime":
        return {"intra_op_thread_count": str(threads)}  # 0 is all cores
    return {
        "SKIP_OV_DYNAMIC_BATCHSIZE": "YES",  # the graph's own batch is open already
        **({"INFERENCE_NUM_THREADS": str(threads)} if threads else {}),
    }


def _reader(bundle: Bundle, graph: Graph) -> str:
    """What a graph asks of who reads it."""
    with bundle.verified(graph.files[0]).open("rb") as file:
        head = file.read(2)
    file_format = f", file format (IR) {head[1]}" if head[0] == _IR_VERSION else ""
    made = bundle.versions.get("onnxruntime") or bundle.versions.get("onnxruntime-gpu") or "an unknown version"
    return (
        f"the graph is of opset {graph.opset}{file_format}, made and proven with ONNX Runtime {made}; older ones "
        "refuse what they do not know"
    )


def _graph_files(bundle: Bundle, graph: Graph) -> dict[str, Path | bytes]:
    """A graph under the name that Triton looks for, and its weights under the one that it names itself."""
    first, *weights = graph.files
    return {"model.onnx": bundle.verified(first), **{file.name: bundle.verified(file) for file in weights}}


def _engine(bundle: Bundle, options: TritonOptions) -> EngineRecord:
    """The engine of that precision that was built last from the bundle as it is, for batches of that size."""
    build = EngineOptions(options.precision).command(bundle.path)
    if options.precision not in SOURCES:
        raise BackendError(f"there are no engines of precision {options.precision!r}; there are {', '.join(SOURCES)}")
    folder = bundle.path / ENGINES
    source = graph_sha256(bundle.graph(SOURCES[options.precision]))
    records = [
        record
        for record in (read_records(folder) if folder.is_dir() else ())
        if record.options.precision == options.precision and record.graph_sha256 == source
    ]
    if not records:
        raise BackendError(
            f"{bundle.path} has no engine of {options.precision} that was built from it as it is",
            fix=f"build one on the machine and with the TensorRT that will run it: {build}",
        )
    record = max(records, key=lambda record: record.built)
    least, most = min(p.min for p in record.options.profiles), max(p.max for p in record.options.profiles)
    if least > 1 or options.batch > most:
        raise BackendError(
            f"{record.plan.name} takes batches of {least} to {most}, and Triton would send 1 to {options.batch}",
            fix=f"take --batch {most}, or build another: {build} --batch 1:{options.batch}:{options.batch}",
        )
    return record


def _write(folder: Path, model: _Model, *, force: bool, say: Progress) -> None:
    """Write one model's folder, which takes its place whole."""
    with written_folder(folder, check=lambda: _check_folder(folder, force=force), say=say) as fresh:
        version = fresh / "1"
        version.mkdir()
        for name, content in model.files.items():
            if isinstance(content, bytes):
                (version / name).write_bytes(content)
            else:
                shutil.copyfile(content, version / name)
        if model.bundle is not None:
            _copy_bundle(model.bundle, version / "bundle")
        if model.labels:
            lines = "".join(f"{' '.join(label.split())}\n" for label in model.labels)
            (fresh / "labels.txt").write_text(lines, encoding="utf-8")
        head = f"{MARK}{_purpose(model)}\n{NEEDS}{model.needs}\n\n"
        (fresh / "config.pbtxt").write_text(head + written(model.config), encoding="utf-8")


def _copy_bundle(bundle: Bundle, folder: Path) -> None:
    """Copy the graphs that the bundle has here, each file verified, with a manifest of those alone."""
    folder.mkdir()
    for file in bundle.files:
        shutil.copyfile(bundle.verified(file), folder / file.name)
    replace(bundle, path=folder).write_manifest()


def _purpose(model: _Model) -> str:
    """The line by which README.md describes the model."""
    takes = ", ".join(_shown(field) for field in model.config["input"])
    gives = ", ".join(_shown(field) for field in model.config["output"])
    return f"{model.config.get('backend', 'ensemble')}: {takes} -> {gives}"


def _shown(field: Fields) -> str:
    kind = Word(field["data_type"]).removeprefix("TYPE_")
    return f"{field['name']} {kind} [{', '.join(map(str, field['dims']))}]"
