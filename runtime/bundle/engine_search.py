"""Which of a bundle's engines runs here: of its precision, for this machine, from the graph as it is."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol, TypeVar

from ...preprocess.errors import BackendError
from ..precisions import GraphPrecision
from .bundle import Bundle
from .engine_files import FOLDER, PlanRecord, graph_sha256, require_private
from .engines import SOURCES, EngineMachine, EngineOptions, EngineRecord, read_records
from .rtx_engines import RTX_SOURCES, RtxRecord, listed, read_rtx_records, rtx_command


class SearchedRecord(PlanRecord, Protocol):
    """What a search asks of the records of all engines."""

    @property
    def options(self) -> EngineOptions: ...

    @property
    def graph_sha256(self) -> str: ...

    @property
    def built(self) -> str: ...


Record = TypeVar("Record", bound=SearchedRecord)


class Refusal(NamedTuple):
    """Why an engine does not serve here. rebuild: whether one built by the same command would."""

    reason: str
    rebuild: bool


def find_engine(bundle: Bundle, precision: str, machine: EngineMachine) -> EngineRecord:
    """Find the engine of that precision which runs on `machine` and was built from the bundle as it is.

    Returns:
        The one built last, if there are several.

    Raises:
        BackendError: where there is none. It names those that there are, why they do not serve, and the command that
            builds one.
    """

    def refusal(record: EngineRecord) -> Refusal | None:
        if not machine.runs_plans_of(record.machine):
            return Refusal(f"was built on {record.machine}", rebuild=True)
        return None

    build = EngineOptions(precision).command(bundle.path)
    records = read_records(bundle.path / FOLDER)
    return _latest(bundle, precision, records, SOURCES, refusal, build=build, here=f"this machine, {machine}")


def find_rtx_engine(bundle: Bundle, precision: str, machine: EngineMachine) -> RtxRecord:
    """Find the engine of that precision that runs on `machine` and was built from the bundle as it is.

    Args:
        bundle: the bundle.
        precision: of the engine.
        machine: its `tensorrt` is the version of TensorRT for RTX.

    Returns:
        The one built last, if there are several.

    Raises:
        BackendError: where there is none. It names those that there are, why they do not serve, and the command that
            builds one.
    """

    def refusal(record: RtxRecord) -> Refusal | None:
        if machine.compute_capability not in record.compute_capabilities:
            return Refusal(f"is for compute capability {listed(record.compute_capabilities)}", rebuild=False)
        if record.tensorrt_rtx != machine.tensorrt:
            return Refusal(f"was built with TensorRT for RTX {record.tensorrt_rtx}", rebuild=True)
        return None

    build = rtx_command(bundle.path, EngineOptions(precision))
    records = read_rtx_records(bundle.path / FOLDER)
    gpu = f"{machine.gpu} (compute capability {listed([machine.compute_capability])})"
    here = f"{gpu} with TensorRT for RTX {machine.tensorrt}"
    return _latest(bundle, precision, records, RTX_SOURCES, refusal, build=build, here=here)


def _latest(
    bundle: Bundle,
    precision: str,
    records: Iterable[Record],
    sources: Mapping[str, GraphPrecision],
    refusal: Callable[[Record], Refusal | None],
    *,
    build: str,
    here: str,
) -> Record:
    """The engine built last of those that serve.

    sources: the graph that an engine of each precision is built from. refusal: why this machine does not take an
    engine. build: the command where no record has a better one. here: what was searched for, in words.
    """
    folder = bundle.path / FOLDER
    if not folder.is_dir():
        raise BackendError(f"{bundle.path} has no engines yet", fix=build)
    require_private(folder)
    refused, serving = "", []
    for record in records:
        if record.options.precision != precision:
            why = Refusal(f"computes in {record.options.precision}", rebuild=False)
        elif (not_here := refusal(record)) is not None:
            why = not_here
        elif record.graph_sha256 != graph_sha256(bundle.graph(sources[precision])):
            why = Refusal("was built from another version of the graph", rebuild=True)
        else:
            serving.append(record)
            continue
        refused += f"\n  {record.plan.name} {why.reason}"
        build = record.command(bundle.path) if why.rebuild else build
    if serving:
        return max(serving, key=lambda record: record.built)
    raise BackendError(f"{folder} has no {precision} engine for {here}{refused}", fix=build)
