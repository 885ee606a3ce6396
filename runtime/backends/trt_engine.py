"""A TensorRT plan, loaded, and how a batch of any size goes through it."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ...preprocess.errors import BackendError
from ..bundle.engines import Profile
from .trt_library import start, tensorrt_log


@dataclass(frozen=True)
class BatchPart:
    """One execution: `clips` of the batch, by a profile (its number), at a size that may hold padding beside them."""

    profile: int
    size: int
    clips: int


def split_batch(clips: int, profiles: Sequence[Profile]) -> list[BatchPart]:
    """How a batch of any size goes through an engine.

    As many parts of the largest batch as fit, then one for the rest. That goes to the profile that takes it and was
    tuned nearest to it. Where none takes it (below all or between two), it is padded to the next size that one takes.
    """
    largest = max(range(len(profiles)), key=lambda i: profiles[i].max)
    full, rest = divmod(clips, profiles[largest].max)
    parts = [BatchPart(largest, profiles[largest].max, profiles[largest].max)] * full
    if rest:
        taking = [i for i, profile in enumerate(profiles) if profile.min <= rest <= profile.max]
        if taking:
            parts.append(BatchPart(min(taking, key=lambda i: abs(profiles[i].opt - rest)), rest, rest))
        else:
            next_up = min(
                (i for i, profile in enumerate(profiles) if profile.min > rest), key=lambda i: profiles[i].min
            )
            parts.append(BatchPart(next_up, profiles[next_up].min, rest))
    return parts


class LoadedEngine:
    """A plan, deserialised, and what it says of itself.

    input_name takes input_dtype (B, *clip_shape), output_name gives float32 (B, K).
    """

    def __init__(self, trt: ModuleType, plan: bytes) -> None:
        """Raise BackendError where TensorRT refuses the plan, or where it is not the engine of a bundle's graph."""
        self.trt = trt
        self.log = tensorrt_log(trt)
        self._runtime = start(trt.Runtime, self.log)
        self.engine = self._runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise BackendError(f"TensorRT cannot load the engine: {self.log.take_errors()}", fix="build it again")
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        modes = [self.engine.get_tensor_mode(name) for name in names]
        if sorted(modes, key=int) != [trt.TensorIOMode.INPUT, trt.TensorIOMode.OUTPUT]:
            raise BackendError(f"an engine with one input and one output was expected, this one has {', '.join(names)}")
        self.input_name = names[modes.index(trt.TensorIOMode.INPUT)]
        self.output_name = names[modes.index(trt.TensorIOMode.OUTPUT)]
        self.input_dtype = self._dtype(self.input_name)
        if self._dtype(self.output_name) != np.float32:
            raise BackendError(f"{self.output_name} must be float32, the engine gives {self._dtype(self.output_name)}")
        self.clip_shape = tuple(self.engine.get_tensor_shape(self.input_name))[1:]
        self.labels = tuple(self.engine.get_tensor_shape(self.output_name))[1]
        self.profiles = tuple(
            Profile(*(shape[0] for shape in self.engine.get_tensor_profile_shape(self.input_name, i)))
            for i in range(self.engine.num_optimization_profiles)
        )

    def _dtype(self, name: str) -> np.dtype[Any]:
        types = {self.trt.DataType.FLOAT: np.float32, self.trt.DataType.UINT8: np.uint8}
        found = self.engine.get_tensor_dtype(name)
        if found not in types:
            raise BackendError(f"{name} must be float32 or uint8, the engine has {found}")
        return np.dtype(types[found])

    def create_context(self) -> Any:
        """An execution context that is given its scratch memory, or None where TensorRT gives none."""
        return self.engine.create_execution_context(self.trt.ExecutionContextAllocationStrategy.USER_MANAGED)

    @property
    def scratch_bytes(self) -> int:
        """The memory on the GPU that an execution needs beside its input, output and weights, whatever its profile."""
        return int(self.engine.device_memory_size_v2)
