"""The models that serve a bundle on Triton: what each takes and gives, and the files that it runs."""

from dataclasses import dataclass
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
from .config import Batching, Fields, TritonBackend, ensemble_config, graph_tensor, model_config, step, tensor

InputKind = Literal["video", "clips", "frames"]

TOP_K = 5
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
class Model:
    """One folder of the repository. files: name in the version's folder -> what is copied there, or its content."""

    name: str
    config: Fields
    files: dict[str, Path | bytes]
    bundle: Bundle | None = None
    labels: tuple[str, ...] = ()
    needs: str = "tubelet"


def planned_models(name: str, bundle: Bundle, options: TritonOptions) -> list[Model]:
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


def _python_model(name: str, bundle: Bundle, options: TritonOptions) -> Model:
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
    return Model(name, config, files, bundle.only([graph.precision]), bundle.labels, needs)


def _prepare_model(name: str, bundle: Bundle, options: TritonOptions) -> Model:
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
    return Model(name, config, {"model.py": _TEMPLATES / "prepare.py", MANIFEST: bundle.path / MANIFEST})


def _ensemble(name: str, bundle: Bundle, options: TritonOptions, graph: Model) -> Model:
    given, clips = _given(bundle, options), bundle.graphs[0].inputs[0].name
    steps = [
        step(f"{name}_prepare", {given["name"]: given["name"]}, {clips: "clips"}),
        step(graph.name, {clips: "clips"}, {"logits": "logits"}),
    ]
    given.pop("allow_ragged_batch", None)  # an ensemble puts nothing together itself
    config = ensemble_config(name, [given], [_logits(bundle)], steps, graph.config["max_batch_size"])
    return Model(name, config, {}, labels=bundle.labels, needs=f"the models {name}_prepare and {name}_graph")


def _graph_model(name: str, bundle: Bundle, options: TritonOptions) -> Model:
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
        return Model(name, config, {"model.plan": plan}, labels=bundle.labels, needs=needs)
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
    return Model(name, config, _graph_files(bundle, graph), labels=bundle.labels, needs=needs)


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
