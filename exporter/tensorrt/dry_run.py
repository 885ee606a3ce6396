"""dry_run: what a build would give to TensorRT, and what would be refused. A parser reads it where there is one.

Needs onnx and onnx_ir. Without any TensorRT the graph is held against the operators that its parser documents.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import onnx

from ...preprocess.errors import BackendError, BundleError, MissingExtra
from ...runtime.backends.cuda import Cuda
from ...runtime.backends.trt_library import (
    library_name,
    load_tensorrt,
    load_tensorrt_rtx,
    reads_attention,
    start,
    tensorrt_log,
    this_machine,
)
from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.engines import SOURCES, EngineOptions, plan_name
from ...runtime.bundle.rtx_engines import Capability, Target, capabilities_for
from ...runtime.precisions import PRECISIONS
from ...runtime.progress import Progress, silent
from ...runtime.storage.written import naming
from .build import refuse_existing
from .inline import element_types, matrix_types, require_documented
from .network import Layer, layers_of, read_network
from .recipes import ONNX_TYPES, Recipe, make_graph, recipes_for
from .rtx import refuse_existing_rtx

# Where the GPU is not known, no recipe is left out.
_ANY_GPU: Capability = (99, 0)


@dataclass(frozen=True)
class LayerCount:
    """So many layers of a kind whose operands have these types."""

    count: int
    kind: str
    operands: tuple[str, ...]


@dataclass(frozen=True)
class RecipeReading:
    """The graph of a recipe, as it was read. refused: why it would not be built; None where nothing speaks against
    it."""

    recipe: str
    layers: tuple[LayerCount, ...]
    refused: str | None


@dataclass(frozen=True)
class DryRun:
    """What a build would do.

    reader: what read the graphs; None where no TensorRT is here. gpus: what it would build for, in words. recipes: what
    is asked for, and then what would be tried instead. refused: what would end the build before its first graph.
    """

    reader: str | None
    gpus: str
    recipes: tuple[RecipeReading, ...]
    refused: tuple[str, ...]

    @property
    def would_build(self) -> bool:
        """Whether nothing would be refused of what is asked for."""
        return not self.refused and self.recipes[0].refused is None

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"would_build": self.would_build}

    def table(self) -> str:
        read = "held against the operators that TensorRT documents, since none is here"
        lines = [f"for {self.gpus}, {read if self.reader is None else f'read by {self.reader}'}"]
        if self.recipes and self.recipes[0].layers:
            lines += ["", self.recipes[0].recipe]
            lines += [f"{row.count:>6}  {row.kind:<20} {' x '.join(row.operands)}" for row in self.recipes[0].layers]
        others = [reading.recipe for reading in self.recipes[1:] if reading.refused is None]
        if others:
            lines += ["", f"would be tried after it: {', '.join(others)}"]
        refused = [*self.refused, *(f"{one.recipe}: {one.refused}" for one in self.recipes if one.refused is not None)]
        lines += ["", *(f"would be refused: {reason}" for reason in refused)] if refused else []
        return "\n".join([*lines, *([] if refused else ["", "nothing would be refused"])])


def dry_run(
    bundle: Bundle,
    options: EngineOptions,
    *,
    target: Target = "gpu",
    compute_capabilities: Iterable[Capability] = (),
    fallbacks: bool = True,
    force: bool = False,
    progress: Progress = silent,
) -> DryRun:
    """Do everything of a build that comes before the builder, and keep nothing.

    Args:
        bundle: the bundle.
        options: as for a build.
        target: for the GPU here, which may be absent, or for RTX GPUs.
        compute_capabilities: of RTX GPUs; none for all that compute in the precision.
        fallbacks: whether other recipes would be tried.
        force: whether an engine that is there would be replaced.
        progress: called with a line for each step.

    Raises:
        BundleError: for a bundle of another task.
    """
    bundle.require_classifier("an engine")
    trt = _parser_for(target)
    source = bundle.graph(SOURCES[options.precision])
    if target == "rtx":
        gpus, capability, refused = _for_rtx(trt, bundle, options, tuple(compute_capabilities), force=force)
    else:
        gpus, capability, refused = _for_this_gpu(bundle, options, force=force)
    recipes = recipes_for(
        options.precision,
        attention=trt is None or reads_attention(trt),
        compute_capability=max(capability, PRECISIONS[options.precision].first_gpu),
        opset=source.opset,
    )
    readings = []
    for recipe in recipes if target == "gpu" and fallbacks else recipes[:1]:
        progress(f"{recipe.name}: reading the graph")
        readings.append(_read(trt, bundle, recipe))
    return DryRun(None if trt is None else library_name(trt), gpus, tuple(readings), refused)


def _for_rtx(
    trt: ModuleType | None,
    bundle: Bundle,
    options: EngineOptions,
    wanted: tuple[Capability, ...],
    *,
    force: bool,
) -> tuple[str, Capability, tuple[str, ...]]:
    """The GPUs in words, the oldest of them, and what would be refused."""
    if trt is None:
        missing = MissingExtra("tensorrt_rtx", "rtx", purpose="to build engines for RTX GPUs")
        return "RTX GPUs", _ANY_GPU, (str(missing),)
    try:
        capabilities = capabilities_for(options.precision, wanted)
        if not force:
            refuse_existing_rtx(bundle, options, capabilities, trt.__version__)
    except BackendError as error:
        capabilities = wanted or capabilities_for(options.precision)
        refused: tuple[str, ...] = (str(error),)
    else:
        refused = ()
    listed = ", ".join("{}.{}".format(*capability) for capability in capabilities)
    return f"RTX GPUs of compute capability {listed}", min(capabilities), refused


def _for_this_gpu(bundle: Bundle, options: EngineOptions, *, force: bool) -> tuple[str, Capability, tuple[str, ...]]:
    """The GPU in words, its compute capability, and what would be refused."""
    first = PRECISIONS[options.precision].first_gpu
    try:
        machine = this_machine(Cuda(), load_tensorrt())
    except (MissingExtra, BackendError):
        needed = f" (compute capability {'{}.{}'.format(*first)} or newer)" if first > (0, 0) else ""
        return f"the GPU of the machine that builds{needed}", _ANY_GPU, ()
    try:
        machine.require(options.precision)
        if not force:
            refuse_existing(bundle, plan_name(machine, options.precision, options.profiles), machine)
    except BackendError as error:
        return str(machine), machine.compute_capability, (str(error),)
    return str(machine), machine.compute_capability, ()


def _parser_for(target: Target) -> ModuleType | None:
    """Load the TensorRT whose parser reads the graphs: that of the target, or else TensorRT for RTX. That one needs no
    GPU. None where neither starts."""
    for load in (load_tensorrt_rtx,) if target == "rtx" else (load_tensorrt, load_tensorrt_rtx):
        try:
            trt = load()
            start(trt.Builder, tensorrt_log(trt))
        except (MissingExtra, BackendError):
            continue
        return trt
    return None


def _read(trt: ModuleType | None, bundle: Bundle, recipe: Recipe) -> RecipeReading:
    try:
        with TemporaryDirectory(prefix="tubelet-") as folder, naming(Path(folder)):
            model = make_graph(bundle, recipe, Path(folder))
            require_documented(model)
            if trt is None:
                layers = _nodes(model)
            else:
                graph = Path(folder) / "graph.onnx"
                onnx.save(model, graph, save_as_external_data=True, location="graph.onnx.data")
                layers = layers_of(read_network(trt, graph))
    except (BackendError, BundleError) as error:
        return RecipeReading(recipe.name, (), str(error))
    counts = Counter((layer.kind, layer.operands) for layer in layers if layer.operands)
    rows = (LayerCount(count, kind, operands) for (kind, operands), count in counts.items())
    return RecipeReading(recipe.name, tuple(sorted(rows, key=lambda row: (row.kind, -row.count))), None)


def _nodes(model: onnx.ModelProto) -> list[Layer]:
    """The operators of a graph, in the words that a network of it has."""
    words = {onnx_type: word for word, onnx_type in ONNX_TYPES.items()}
    types = element_types(model)
    products = matrix_types(model)
    found = []
    for node in model.graph.node:
        operands = products.get(node.name)
        if operands is None:
            operands = (onnx.TensorProto.DataType.Name(types[node.input[0]]),) if node.input else ()
        found.append(Layer(node.name, node.op_type, tuple(words.get(one, one.lower()) for one in operands)))
    return found
