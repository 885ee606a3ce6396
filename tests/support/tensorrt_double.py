"""TensorRT made of ONNX Runtime: the classes of the real Python API, executing graphs at the addresses they are given.

Every class, method, argument name, property and enumeration comes from tests/support/tensorrt_api/<version>.json, a
listing of the real binding; what is not there raises, and so do wrong numbers, names and types of arguments. What the
methods do is written here, with the rules that matter: types come from the graph, plans fit one GPU and one version, a
context runs only with its profile, shapes, addresses and scratch memory set, and a captured graph is void once its
context has changed.
"""

import enum
import functools
import json
import pickle
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
from api_listing import Behind, Listing, listing_of, make_class
from cuda_double import HostCuda
from onnx import ModelProto, TensorProto, helper, numpy_helper

API = Path(__file__).parent / "tensorrt_api"
VERSIONS = sorted(path.stem for path in API.glob("*.json"))

_DTYPES = {
    TensorProto.FLOAT: ("FLOAT", "Float"),
    TensorProto.FLOAT16: ("HALF", "Half"),
    TensorProto.BFLOAT16: ("BF16", "BFloat16"),
    TensorProto.INT8: ("INT8", "Int8"),
    TensorProto.FLOAT8E4M3FN: ("FP8", "FP8"),
    TensorProto.UINT8: ("UINT8", "UInt8"),
    TensorProto.INT64: ("INT64", "Int64"),
}


@dataclass
class Behaviour:
    """What a test makes TensorRT do.

    wrong: whether an engine of that graph computes something else; unbuildable: whether there is no kernel for it;
    parser_errors: (node name, operator, description) of each; refuse_capture: nothing of it can be recorded;
    refused: methods of engines and contexts that give nothing, or False; typeless: the inspector shows every layer as
    float; opaque: it shows one layer from outside; does_not_start: neither the builder nor the runtime does; at_step:
    called at each step of a build; at_run: while an engine executes.
    """

    wrong: Callable[[ModelProto], bool] = lambda _: False
    unbuildable: Callable[[ModelProto], bool] = lambda _: False
    parser_errors: tuple[tuple[str, str, str], ...] = ()
    refuse_capture: bool = False
    refused: Collection[str] = ()
    typeless: bool = False
    opaque: bool = False
    does_not_start: bool = False
    at_step: Callable[[], None] = lambda: None
    at_run: Callable[[], object] = lambda: None
    # What was seen
    configs: list[Any] = field(default_factory=list)
    decomposable: list[bool] = field(default_factory=list)  # of each attention that was built
    graphs: list[ModelProto] = field(default_factory=list)
    contexts: int = 0
    code_loaded: int = 0  # how often a cache of machine code was taken


def make_tensorrt(version: str, cuda: HostCuda, behaviour: Behaviour, *, calls_itself: str | None = None) -> ModuleType:
    """A module like `tensorrt` of that version. calls_itself: another version that it claims to be."""
    listing = json.loads((API / f"{version}.json").read_text())["api"]
    return _make("tensorrt", listing, calls_itself or version, cuda, behaviour, _BEHIND)


def make_tensorrt_rtx(real: ModuleType, cuda: HostCuda, behaviour: Behaviour) -> ModuleType:
    """A module like TensorRT for RTX, its classes those of the real one, which cannot execute without a GPU."""
    listing = listing_of(real)
    behind: Behind = {
        **_BEHIND,
        "IBuilderConfig": {
            **{name: does for name, does in _BEHIND["IBuilderConfig"].items() if "timing_cache" not in name},
            "set_compute_capability": _set_capability,
        },
        "ICudaEngine": {
            **_BEHIND["ICudaEngine"],
            "create_runtime_config": _create_runtime_config,
            "create_execution_context": _create_context_of_config,
        },
        "IRuntimeConfig": {
            "set_execution_context_allocation_strategy": lambda self, strategy: setattr(self, "_strategy", strategy),
            "create_runtime_cache": lambda self: _new(self._trt, "IRuntimeCache", _code=b""),
            "set_runtime_cache": _set_runtime_cache,
        },
        "IRuntimeCache": {"serialize": _serialize_code, "deserialize": _deserialize_code},
    }
    needed = {name: members for name, members in listing.items() if name in behind or "enum" in members}
    needed |= {name: listing[name] for name in ("IAttentionInputLayer", "IAttention", "IExecutionContext")}
    return _make("tensorrt_rtx", needed, real.__version__, cuda, behaviour, behind)


def _make(
    name: str, listing: Listing, version: str, cuda: HostCuda, behaviour: Behaviour, behind: Behind
) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)  # torch asks whether there is one
    module.__version__ = version  # type: ignore[attr-defined]
    module.cuda, module.behaviour = cuda, behaviour  # type: ignore[attr-defined]
    for name, members in listing.items():
        if "enum" in members:
            setattr(module, name, enum.Enum(name, members["enum"]))
            getattr(module, name).__int__ = lambda member: member.value
    for name, members in listing.items():
        if "enum" not in members:
            make_class(module, name, listing, behind)
    return module


def _new(trt: ModuleType, name: str, **values: Any) -> Any:
    """An object that the API gives out and does not let its users make."""
    made = object.__new__(getattr(trt, name))
    for key, value in values.items():
        object.__setattr__(made, key, value)
    return made


def _host_memory(trt: ModuleType, data: bytes) -> Any:
    return bytes.__new__(trt.IHostMemory, data)


# What the methods do


def _log_error(logger: Any, message: str) -> None:
    logger.log(logger.Severity.ERROR, message)
    logger.log(logger.Severity.WARNING, "this is a warning, and not of interest")


def _init_builder(self: Any, logger: Any) -> None:
    if self._trt.behaviour.does_not_start:
        _log_error(logger, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")
    self._logger = logger


def _create_network(self: Any, flags: int = 0) -> Any:
    strongly_typed = 1 << int(self._trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert flags == strongly_typed, "a network without strong types would lose half precision in TensorRT 10"
    return _new(self._trt, "INetworkDefinition", _graph=None, _layers=[])


def _create_config(self: Any) -> Any:
    config = _new(
        self._trt,
        "IBuilderConfig",
        _flags={self._trt.BuilderFlag.TF32},
        _profiles=[],
        _pools={},
        _cache=None,
        _capabilities=[],
        _value_of_profiling_verbosity=self._trt.ProfilingVerbosity.LAYER_NAMES_ONLY,
        _value_of_builder_optimization_level=3,
        _value_of_progress_monitor=None,
    )
    self._trt.behaviour.configs.append(config)
    return config


def _add_profile(self: Any, profile: Any) -> int:
    self._profiles.append(profile._shapes)
    return len(self._profiles) - 1 if profile._shapes else -1


def _set_shape(self: Any, input: str, min: Any, opt: Any, max: Any) -> None:
    if not all(a <= b <= c for a, b, c in zip(min, opt, max, strict=True)):
        raise ValueError("inconsistent shapes")
    self._shapes[input] = [tuple(min), tuple(opt), tuple(max)]


def _set_timing_cache(self: Any, cache: Any, ignore_mismatch: bool) -> bool:
    if cache._data not in (b"", self._trt.__version__.encode()) and not ignore_mismatch:
        return False
    self._cache = cache
    return True


def _build(self: Any, network: Any, config: Any) -> Any:
    behaviour, monitor = self._trt.behaviour, config.progress_monitor
    graph = network._graph
    behaviour.graphs.append(graph)
    given = graph.graph.input[0].name
    assert config._profiles, "a dynamic input needs a profile"
    assert all(list(shapes) == [given] for shapes in config._profiles)
    monitor.phase_start("Building Engine", None, 3)
    for step in range(3):
        behaviour.at_step()
        if not monitor.step_complete("Building Engine", step):
            _log_error(self._logger, "the build was cancelled")
            monitor.phase_finish("Building Engine")
            return None
    monitor.phase_finish("Building Engine")
    inputs = [layer for layer in network._layers if layer.type == self._trt.LayerType.ATTENTION_INPUT]
    behaviour.decomposable += [layer._attention.decomposable for layer in inputs]
    # No fused kernel takes attention in float32, and what may not be taken apart then cannot be built.
    types = _types_of(graph)
    for layer in network._layers:
        node = layer._node
        stuck = node.op_type == "Attention" and types[node.input[0]] == TensorProto.FLOAT
        if (stuck and not layer._attention.decomposable) or behaviour.unbuildable(graph):
            _log_error(self._logger, f"Could not find any implementation for node {node.name}")
            return None
    plan = {
        "version": self._trt.__version__,
        "gpu": None if config._capabilities else self._trt.cuda.gpu,
        "capabilities": config._capabilities,
        "graph": graph.SerializeToString(),
        "profiles": [shapes[given] for shapes in config._profiles],
        "detailed": config.profiling_verbosity == self._trt.ProfilingVerbosity.DETAILED,
        "wrong": behaviour.wrong(graph),
    }
    return _host_memory(self._trt, b"TRT0" + pickle.dumps(plan))


def _init_parser(self: Any, network: Any, logger: Any) -> None:
    self._network, self._logger, self._errors = network, logger, []


def _parse(self: Any, model: str) -> bool:
    graph = onnx.load(model)
    onnx.checker.check_model(model, full_check=True)  # a network with strong types refuses what this refuses
    assert not graph.functions
    is_rtx = hasattr(self._trt, "ComputeCapability")  # whose versions are others
    version = (11, 0) if is_rtx else tuple(map(int, self._trt.__version__.split(".")[:2]))
    unknown = [
        (node.name, node.op_type, "no importer registered for this operator")
        for node in graph.graph.node
        if node.domain or (node.op_type == "Attention" and version < (10, 14))
    ]
    errors = [*self._trt.behaviour.parser_errors, *unknown]
    self._errors = [_new(self._trt, "ParserError", _error=error) for error in errors]
    self._network._graph = graph
    for node in graph.graph.node:
        if node.op_type == "Attention":
            attention = _new(self._trt, "IAttention", _value_of_decomposable=False)
            for end in ("ATTENTION_INPUT", "ATTENTION_OUTPUT"):
                kind = getattr(self._trt.LayerType, end)
                self._network._layers.append(_new(self._trt, "ILayer", _kind=kind, _node=node, _attention=attention))
        else:
            kind = self._trt.LayerType.IDENTITY
            self._network._layers.append(_new(self._trt, "ILayer", _kind=kind, _node=node))
    return not errors


def _deserialize(self: Any, plan: bytes) -> Any:
    try:
        assert plan[:4] == b"TRT0"
        values = pickle.loads(plan[4:])
    except (AssertionError, pickle.UnpicklingError, EOFError):
        _log_error(self._logger, "Magic tag does not match")
        return None
    major, minor = self._trt.cuda.gpu[1]
    fits = f"SM{major}{minor}" in values["capabilities"] or values["gpu"] == self._trt.cuda.gpu
    if values["version"] != self._trt.__version__ or not fits:
        _log_error(self._logger, "The engine plan file is not compatible with this version of TensorRT")
        return None
    graph = onnx.load_from_string(values["graph"])
    return _new(self._trt, "ICudaEngine", _plan=values, _graph=graph, _session=_session(values["graph"]))


def _tensor_of(engine: Any, name: str) -> Any:
    return next(t for t in (*engine._graph.graph.input, *engine._graph.graph.output) if t.name == name)


def _tensor_shape(engine: Any, name: str) -> tuple[int, ...]:
    return tuple(dim.dim_value or -1 for dim in _tensor_of(engine, name).type.tensor_type.shape.dim)


def _tensor_dtype(engine: Any, name: str) -> Any:
    return getattr(engine._trt.DataType, _DTYPES[_tensor_of(engine, name).type.tensor_type.elem_type][0])


def _tensor_mode(engine: Any, name: str) -> Any:
    given = name == engine._graph.graph.input[0].name
    return engine._trt.TensorIOMode.INPUT if given else engine._trt.TensorIOMode.OUTPUT


def _profile_shape(engine: Any, name: str, profile_index: int) -> list[tuple[int, ...]]:
    assert name == engine._graph.graph.input[0].name
    return list(engine._plan["profiles"][profile_index])


def _scratch(engine: Any) -> int:
    """Bytes for the largest profile: what a context must be given, whichever of them it runs."""
    return 512 * max(largest[0] for _, _, largest in engine._plan["profiles"])


def _create_context(self: Any, strategy: Any = None) -> Any:
    assert strategy == self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
    if "create_execution_context" in self._trt.behaviour.refused:
        return None
    self._trt.behaviour.contexts += 1
    return _new(
        self._trt,
        "IExecutionContext",
        _engine=self,
        _profile=None,
        _scratch=(0, 0),
        _shape=None,
        _addresses={},
        _changes=0,
    )


def _set_capability(self: Any, compute_capability: Any, index: int) -> bool:
    assert index == len(self._capabilities) < self.num_compute_capabilities
    self._capabilities.append(compute_capability.name)
    return True


def _create_runtime_config(self: Any) -> Any:
    return _new(self._trt, "IRuntimeConfig", _strategy=None, _cache=None)


def _create_context_of_config(self: Any, config: Any = None) -> Any:
    kernels = self._trt.DynamicShapesKernelSpecializationStrategy
    assert config.dynamic_shapes_kernel_specialization_strategy == kernels.EAGER
    assert config.cuda_graph_strategy == self._trt.CudaGraphStrategy.DISABLED
    config._cache._code = _code_for(self._trt)  # what a real one makes when a shape is first run
    return _create_context(self, config._strategy)


def _code_for(trt: ModuleType) -> bytes:
    return f"code for {trt.cuda.gpu} by {trt.__version__}".encode()


def _set_runtime_cache(self: Any, cache: Any = None) -> bool:
    self._cache = cache
    return "set_runtime_cache" not in self._trt.behaviour.refused


def _serialize_code(self: Any) -> Any:
    return _host_memory(self._trt, self._code)


def _deserialize_code(self: Any, blob: bytes) -> bool:
    if blob != _code_for(self._trt):
        return False
    self._code = blob
    self._trt.behaviour.code_loaded += 1
    return True


def _set_memory(self: Any, memory: int, size: int) -> None:
    self._scratch = (memory, size)
    self._changes += 1


def _set_profile(self: Any, profile_index: int, stream_handle: int) -> bool:
    refused = "set_optimization_profile_async" in self._trt.behaviour.refused
    if refused or not 0 <= profile_index < len(self._engine._plan["profiles"]):
        return False
    self._profile, self._shape = profile_index, None
    self._changes += 1
    return self._trt.cuda.queue(stream_handle, lambda: True)


def _set_input_shape(self: Any, name: str, shape: tuple[int, ...]) -> bool:
    refused = "set_input_shape" in self._trt.behaviour.refused
    if refused or self._profile is None or name != self._engine._graph.graph.input[0].name:
        return False
    smallest, _, largest = self._engine._plan["profiles"][self._profile]
    if not all(low <= size <= high for low, size, high in zip(smallest, shape, largest, strict=True)):
        return False
    self._shape = tuple(shape)
    self._changes += 1
    return True


def _set_address(self: Any, name: str, memory: int) -> bool:
    known = (self._engine._graph.graph.input[0].name, self._engine._graph.graph.output[0].name)
    if "set_tensor_address" in self._trt.behaviour.refused or name not in known:
        return False
    self._addresses[name] = memory
    self._changes += 1
    return True


def _execute(self: Any, stream_handle: int) -> bool:
    cuda, engine, behaviour = self._trt.cuda, self._engine, self._trt.behaviour
    if behaviour.refuse_capture:
        cuda.spoil_recording(stream_handle)
    graph = engine._graph.graph
    given, returned = graph.input[0].name, graph.output[0].name
    ready = self._shape is not None and set(self._addresses) == {given, returned}
    if not ready or "execute_async_v3" in behaviour.refused:
        return False
    dtype = helper.tensor_dtype_to_np_dtype(graph.input[0].type.tensor_type.elem_type)
    shape, labels, addresses = self._shape, _tensor_shape(engine, returned)[1], dict(self._addresses)
    scratch, needed = self._scratch, _scratch(engine)
    sizes = {given: int(np.prod(shape)) * dtype.itemsize, returned: shape[0] * labels * 4}
    changes = self._changes

    def work() -> bool:
        if self._changes != changes:
            return False  # it was recorded from a context that is another by now
        if any(cuda.room(addresses[name], "device") < size for name, size in sizes.items()):
            return False
        if cuda.room(scratch[0], "device") < max(needed, 1) or scratch[1] < needed:
            return False
        behaviour.at_run()
        batch = _array_at(addresses[given], shape, dtype)
        (logits,) = engine._session.run([returned], {given: batch})
        _array_at(addresses[returned], (shape[0], labels), np.dtype(np.float32))[:] = (
            -logits if engine._plan["wrong"] else logits
        )
        return True

    return cuda.queue(stream_handle, work)


def _array_at(address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    import ctypes

    raw: Any = (ctypes.c_uint8 * (int(np.prod(shape)) * dtype.itemsize)).from_address(address)
    return np.frombuffer(raw, dtype).reshape(shape)


def _information(self: Any, format: Any) -> str:
    assert format == self._trt.LayerInformationFormat.JSON
    graph = self._engine._graph
    if not self._engine._plan["detailed"]:
        return json.dumps({"Layers": [node.name for node in graph.graph.node]})
    types: dict[str, Any] = dict(_types_of(graph))

    def tensors(names: Iterator[str]) -> list[dict[str, str]]:
        typeless = self._trt.behaviour.typeless
        return [
            {"Name": name, "Format/Datatype": "Float" if typeless else _DTYPES[types[name]][1]}
            for name in names
            if types[name] in _DTYPES
        ]

    if self._trt.behaviour.opaque:
        outside = [{"Name": "x", "Format/Datatype": "Float"}]
        layer = {"Name": "{ForeignNode[a...b]}", "LayerType": "Myelin", "Inputs": outside, "Outputs": outside}
        return json.dumps({"Layers": [layer]})
    layers = [
        {
            "Name": node.name,
            "LayerType": "kgen",
            "Inputs": tensors(iter(node.input[:1])),
            "Outputs": tensors(iter(node.output)),
        }
        for node in graph.graph.node
    ]
    return json.dumps({"Layers": layers, "I/O Tensors": []})


def _types_of(graph: ModelProto) -> dict[str, int]:
    """ONNX's own inference of every tensor's type."""
    inferred = onnx.shape_inference.infer_shapes(graph, strict_mode=True).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in inferred.initializer}


@functools.lru_cache(maxsize=16)
def _session(graph: bytes) -> onnxruntime.InferenceSession:
    """ONNX Runtime's CPU provider has no kernels in bfloat16: those compute in float32, on the rounded weights."""
    model = onnx.load_from_string(graph)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.BFLOAT16:
                attribute.i = TensorProto.FLOAT
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.x64quantprecision", "1")  # 8-bit integers are exact on a GPU
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _nothing(self: Any, *_: Any) -> None: ...


_BEHIND: Behind = {
    "ILogger": {"__init__": _nothing},
    "IProgressMonitor": {"__init__": _nothing},
    "Builder": {
        "__init__": _init_builder,
        "create_network": _create_network,
        "create_builder_config": _create_config,
        "create_optimization_profile": lambda self: _new(self._trt, "IOptimizationProfile", _shapes={}),
        "build_serialized_network": _build,
    },
    "IBuilderConfig": {
        "set_flag": lambda self, flag: self._flags.add(flag),
        "clear_flag": lambda self, flag: self._flags.discard(flag),
        "get_flag": lambda self, flag: flag in self._flags,
        "set_memory_pool_limit": lambda self, pool, pool_size: self._pools.__setitem__(pool, pool_size),
        "get_memory_pool_limit": lambda self, pool: self._pools[pool],
        "add_optimization_profile": _add_profile,
        "create_timing_cache": lambda self, data: _new(self._trt, "ITimingCache", _data=bytes(data)),
        "set_timing_cache": _set_timing_cache,
    },
    "ITimingCache": {"serialize": lambda self: _host_memory(self._trt, self._trt.__version__.encode())},
    "IOptimizationProfile": {"set_shape": _set_shape},
    "INetworkDefinition": {
        "num_layers": lambda self: len(self._layers),
        "get_layer": lambda self, index: self._layers[index],
    },
    "ILayer": {"type": lambda self: self._kind},
    "IAttentionBoundaryLayer": {"attention": lambda self: self._attention},
    "OnnxParser": {
        "__init__": _init_parser,
        "parse_from_file": _parse,
        "num_errors": lambda self: len(self._errors),
        "get_error": lambda self, index: self._errors[index],
    },
    "ParserError": {
        "node": lambda _: 0,
        "node_name": lambda self: self._error[0],
        "node_operator": lambda self: self._error[1],
        "desc": lambda self: self._error[2],
    },
    "Runtime": {"__init__": _init_builder, "deserialize_cuda_engine": _deserialize},
    "ICudaEngine": {
        "num_io_tensors": lambda _: 2,
        "num_optimization_profiles": lambda self: len(self._plan["profiles"]),
        "get_tensor_name": lambda self, index: [self._graph.graph.output[0], self._graph.graph.input[0]][index].name,
        "get_tensor_mode": _tensor_mode,
        "get_tensor_dtype": _tensor_dtype,
        "get_tensor_shape": _tensor_shape,
        "get_tensor_profile_shape": _profile_shape,
        "device_memory_size_v2": _scratch,
        "create_execution_context": _create_context,
        "create_engine_inspector": lambda self: _new(self._trt, "EngineInspector", _engine=self),
    },
    "IExecutionContext": {
        "set_device_memory": _set_memory,
        "set_optimization_profile_async": _set_profile,
        "set_input_shape": _set_input_shape,
        "set_tensor_address": _set_address,
        "execute_async_v3": _execute,
    },
    "EngineInspector": {"get_engine_information": _information},
    "IHostMemory": {"nbytes": lambda self: len(self)},
}
