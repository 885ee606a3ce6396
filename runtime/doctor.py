"""What this machine can do: which packages are installed, which engines really start, and what is missing."""

import dataclasses
import platform
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from ..preprocess.errors import BackendError, MissingExtra
from .backends.cuda import Cuda
from .backends.ort import import_onnxruntime, open_session
from .backends.ort_cuda import CUDA_PROVIDER, TENSORRT_PROVIDER, open_gpu_session
from .backends.ort_rtx import RTX_PLUGIN
from .backends.trt_library import library_name, load_tensorrt, load_tensorrt_rtx
from .packages import PACKAGES, PLUGIN_PACKAGE, installed_version
from .system import examine_gpus

# An ONNX model, y = Identity(x) with x float32 (1,), IR version 7, opset 13: enough to see a provider start.
_IDENTITY_MODEL = (
    b'\x08\x07:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


@dataclass(frozen=True)
class Provider:
    """An execution provider that ONNX Runtime lists, or a library of NVIDIA's. Or ONNX Runtime itself, where it does
    not load. error is None where a session on it, or the library, really started.
    """

    name: str
    error: str | None


@dataclass(frozen=True)
class Examination:
    """What was found. packages: versions, None for what is absent; gpus: name, driver and memory of each."""

    python: str
    system: str
    packages: dict[str, str | None]
    providers: tuple[Provider, ...]
    libraries: tuple[Provider, ...]
    gpus: tuple[str, ...]
    gpu_note: str | None
    advice: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def table(self) -> str:
        lines = [f"Python {self.python} on {self.system}", "", "packages"]
        width = max(map(len, self.packages))
        lines += [f"  {name:<{width}} {version or 'not installed'}" for name, version in self.packages.items()]
        lines += ["", "ONNX Runtime providers"]
        lines += [f"  {p.name:<30} {'starts' if p.error is None else p.error}" for p in self.providers] or ["  none"]
        lines += ["", "CUDA and TensorRT"]
        lines += [f"  {p.name:<30} {'starts' if p.error is None else p.error}" for p in self.libraries]
        lines += ["", "GPUs"]
        lines += [f"  {gpu}" for gpu in self.gpus] or [f"  none ({self.gpu_note})"]
        lines += ["", "to do"]
        lines += [f"  {line}" for line in self.advice] or ["  nothing"]
        return "\n".join(lines)


def examine_providers() -> tuple[Provider, ...]:
    """Start a session on each provider that ONNX Runtime lists; listing alone proves nothing."""
    try:
        onnxruntime = import_onnxruntime()
    except MissingExtra:
        return ()
    except BackendError as error:
        return (Provider("onnxruntime", error.message.splitlines()[0]),)
    providers = []
    for name in onnxruntime.get_available_providers():
        try:
            if name in (CUDA_PROVIDER, TENSORRT_PROVIDER):
                open_gpu_session(_IDENTITY_MODEL, [(name, {})])
            else:
                open_session(_IDENTITY_MODEL, name)
        except BackendError as error:
            providers.append(Provider(name, error.message.splitlines()[0]))
        else:
            providers.append(Provider(name, None))
    return tuple(providers)


# Asked in a process of its own, since the plugin and TensorRT for RTX cannot be in one.
_ASK_PLUGIN = """
from tubelet.preprocess.errors import TubeletError
from tubelet.runtime.backends.ort_rtx import rtx_devices
try:
    print("" if rtx_devices() else "it finds no GPU that it supports")
except TubeletError as error:
    print(error.message.splitlines()[0])
"""


def examine_plugin() -> tuple[Provider, ...]:
    """Ask ONNX Runtime's TensorRT for RTX, where it is installed, for a GPU."""
    if installed_version(PLUGIN_PACKAGE) is None:
        return ()
    asked = subprocess.run([sys.executable, "-c", _ASK_PLUGIN], capture_output=True, text=True, check=False)
    said = asked.stdout.strip() if asked.returncode == 0 else f"it ended its process: {asked.stderr.strip()[-200:]}"
    return (Provider(RTX_PLUGIN.provider, said or None),)


def examine_libraries() -> tuple[Provider, ...]:
    """CUDA on the first GPU, and TensorRT with its version."""
    found = []
    try:
        found.append(Provider(f"CUDA {Cuda().device().cuda}", None))
    except (BackendError, MissingExtra) as error:
        found.append(Provider("CUDA", error.message))
    for name, load in (("TensorRT", load_tensorrt), ("TensorRT for RTX", load_tensorrt_rtx)):
        try:
            found.append(Provider(library_name(load()), None))
        except (BackendError, MissingExtra) as error:
            found.append(Provider(name, error.message))
    return tuple(found)


def _advice(packages: dict[str, str | None], *, gpu: bool) -> tuple[str, ...]:
    lines = []
    if gpu and not packages["onnxruntime-gpu"]:
        lines.append("to run graphs on the GPU: pip uninstall onnxruntime, then pip install 'tubelet[gpu]'")
    if gpu and not (packages["tensorrt"] and packages["cuda-bindings"]):
        lines.append("to build and run TensorRT engines: pip install 'tubelet[tensorrt]'")
    if gpu and not packages["tensorrt-rtx-cu13"]:
        lines.append("to build and run engines for RTX GPUs: pip install 'tubelet[rtx]'")
    if packages["onnxruntime-gpu"] and packages["tensorrt"] and not packages["tensorrt"].startswith("10."):
        lines.append(
            "for --backend onnxruntime-tensorrt: pip install 'tensorrt<11', which is what ONNX Runtime links to"
        )
    if packages["onnxruntime"] and packages["onnxruntime-gpu"]:
        lines.append(
            "onnxruntime and onnxruntime-gpu overwrite each other: "
            "pip uninstall onnxruntime onnxruntime-gpu, then install the one you want"
        )
    if not any(packages[name] for name in ("onnxruntime", "onnxruntime-gpu", "openvino")):
        lines.append("to run bundles: pip install 'tubelet[cpu]'")
    if not all(packages[name] for name, extra in PACKAGES.items() if extra == "export"):
        lines.append("to export checkpoints: pip install 'tubelet[cpu,export]'")
    elif not packages["huggingface_hub"]:
        lines.append("to export checkpoints of the Hugging Face Hub: pip install 'tubelet[hub]'")
    return tuple(lines)


def examine() -> Examination:
    """Examine this machine. It takes a second or so, since it starts every provider there is."""
    packages = {name: installed_version(name) for name in PACKAGES}
    gpus, note = examine_gpus()
    libraries = examine_libraries()  # first: ONNX Runtime's TensorRT provider finds what is loaded then
    return Examination(
        python=platform.python_version(),
        system=f"{sys.platform} {platform.machine()}",
        packages=packages,
        libraries=libraries,
        providers=(*examine_providers(), *examine_plugin()),
        gpus=gpus,
        gpu_note=note,
        advice=_advice(packages, gpu=bool(gpus)),
    )
