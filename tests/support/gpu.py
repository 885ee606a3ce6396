"""A machine with a GPU and TensorRT, made of the two doubles."""

import sys
from dataclasses import dataclass
from types import ModuleType

import pytest
from cuda_double import HostCuda
from tensorrt_double import Behaviour, make_tensorrt, make_tensorrt_rtx


@dataclass
class Gpu:
    cuda: HostCuda
    behaviour: Behaviour
    tensorrt: ModuleType


def plug_in(
    patch: pytest.MonkeyPatch,
    version: str,
    *,
    calls_itself: str | None = None,
    name: str = "NVIDIA H200",
    compute_capability: tuple[int, int] = (9, 0),
) -> Gpu:
    """Makes the doubles what `import` gives until the end of the test."""
    cuda, behaviour = HostCuda(name=name, compute_capability=compute_capability), Behaviour()
    tensorrt = make_tensorrt(version, cuda, behaviour, calls_itself=calls_itself)
    patch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
    patch.setitem(sys.modules, "tensorrt", tensorrt)
    patch.setitem(sys.modules, "tensorrt_rtx", None)  # the real one would not see this GPU
    return Gpu(cuda, behaviour, tensorrt)


def plug_in_rtx(
    patch: pytest.MonkeyPatch,
    real: ModuleType,
    *,
    name: str = "NVIDIA GeForce RTX 4090",
    compute_capability: tuple[int, int] = (8, 9),
) -> Gpu:
    """Makes doubles of CUDA and of TensorRT for RTX what `import` gives until the end of the test."""
    cuda, behaviour = HostCuda(name=name, compute_capability=compute_capability), Behaviour()
    tensorrt = make_tensorrt_rtx(real, cuda, behaviour)
    patch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
    patch.setitem(sys.modules, "tensorrt_rtx", tensorrt)
    return Gpu(cuda, behaviour, tensorrt)
