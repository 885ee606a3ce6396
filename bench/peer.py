"""What other tools make of the checkpoint, measured as a bundle is, in the process of subject.py.

    transformers-onnx        transformers' own exporter, batch dynamic, on ONNX Runtime
    transformers-onnx-fused  the same with its fusions for ONNX Runtime on the CPU
    transformers-onnx-int8   the same with ONNX Runtime's dynamic quantization
    openvino-convert         OpenVINO's conversion of the model of transformers, computed in float32
    openvino-nncf            the same in int8, calibrated by NNCF on the bundle's reference clips

The first process of a peer converts into the folder of the bench, and its times are thrown away. Those after it load
what lies there, without torch, as the peer's users do.
"""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..preprocess.errors import BackendError
from ..preprocess.frames import Frames
from ..preprocess.prepare import prepare
from ..runtime.backends.openvino import DEVICE, import_openvino
from ..runtime.backends.ort import CPU_PROVIDER, import_onnxruntime
from ..runtime.bundle.bundle import Bundle
from ..runtime.bundle.reference import load_reference
from ..runtime.proof.parity import Infer
from .worker import Loaded, Settings, load_pixel_values

# Calibration clips (N, T, C, H, W), and where the graph goes.
Convert = Callable[[Any, NDArray[np.float32], Path], None]


def _by_transformers(model: Any, clips: NDArray[np.float32], path: Path, **config: Any) -> None:
    import torch

    exporters = import_module("transformers.exporters")
    name = model.main_input_name  # pixel_values, or pixel_values_videos of V-JEPA 2
    batch = {name: {0: torch.export.Dim("batch")}}
    inputs = {name: torch.from_numpy(np.repeat(clips[:1], 2, axis=0))}  # a batch of 1 would be taken for a constant
    exported = exporters.OnnxExporter().export(
        model, inputs, config=exporters.OnnxConfig(dynamic_shapes=batch, **config)
    )
    exporters.OnnxExporter.save_program(exported.program, path)


def _plain(model: Any, clips: NDArray[np.float32], path: Path) -> None:
    _by_transformers(model, clips, path)


def _fused(model: Any, clips: NDArray[np.float32], path: Path) -> None:
    _by_transformers(model, clips, path, ort_fusions="cpu")


def _int8(model: Any, clips: NDArray[np.float32], path: Path) -> None:
    exporters = import_module("transformers.exporters")
    quantizer = exporters.OnnxRuntimeQuantizer(exporters.OnnxRuntimeDynamicConfig())
    _by_transformers(model, clips, path, quantizer=quantizer)


def _openvino_model(model: Any, clips: NDArray[np.float32]) -> Any:
    import torch

    class Logits(torch.nn.Module):  # OpenVINO takes tensors, not the outputs of transformers
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: torch.Tensor) -> Any:
            return self.model(pixel_values).logits

    shape = [-1, *clips.shape[1:]]
    return import_openvino().convert_model(
        Logits().eval(), example_input=torch.from_numpy(clips[:1]), input=[("pixel_values", shape)]
    )


def _openvino(model: Any, clips: NDArray[np.float32], path: Path) -> None:
    import_openvino().save_model(_openvino_model(model, clips), path, compress_to_fp16=False)


def _nncf(model: Any, clips: NDArray[np.float32], path: Path) -> None:
    nncf = import_module("nncf")
    dataset = nncf.Dataset([clip[np.newaxis] for clip in clips])
    quantized = nncf.quantize(_openvino_model(model, clips), dataset, model_type=nncf.ModelType.TRANSFORMER)
    import_openvino().save_model(quantized, path, compress_to_fp16=False)


CONVERTS: dict[str, Convert] = {
    "transformers-onnx": _plain,
    "transformers-onnx-fused": _fused,
    "transformers-onnx-int8": _int8,
    "openvino-convert": _openvino,
    "openvino-nncf": _nncf,
}


def _clips(bundle: Bundle) -> NDArray[np.float32]:
    """The bundle's reference clips as pixel_values (N, T, C, H, W)."""
    spec = replace(bundle.spec, layout="TCHW")
    return np.stack([prepare(Frames.from_array(clip), spec) for clip in load_reference(bundle).clips])


def _convert(settings: Settings, path: Path) -> None:
    from .transformers_baseline import from_pretrained

    model, clips = from_pretrained(settings.model or ""), _clips(Bundle.open(settings.bundle))
    try:
        CONVERTS[settings.engine](model, clips, path)
    except Exception as error:  # whatever another tool's converter fails with is its answer
        raise BackendError(f"{settings.engine} cannot convert {settings.model}: {error}") from error


def _on_onnxruntime(path: Path, threads: int) -> Infer:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=[CPU_PROVIDER])
    (name,) = (each.name for each in session.get_inputs())

    def infer(pixel_values: NDArray[Any]) -> NDArray[np.float32]:
        (logits,) = session.run(["logits"], {name: pixel_values})
        return np.asarray(logits, np.float32)

    return infer


def _on_openvino(path: Path, threads: int) -> Infer:
    # Without the hint it computes in bfloat16 where the CPU can, and its logits are others.
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    request = import_openvino().Core().compile_model(path, DEVICE, hints).create_infer_request()

    def infer(pixel_values: NDArray[Any]) -> NDArray[np.float32]:
        (logits,) = request.infer([pixel_values]).values()
        return np.array(logits, np.float32)

    return infer


def load_peer(values: dict[str, Any]) -> Loaded:
    """Convert the checkpoint where that is still to do, and load what came of it."""
    settings = Settings(**values)
    path = Path(settings.made or "")
    if not path.exists():
        _convert(settings, path)
    load = _on_onnxruntime if path.suffix == ".onnx" else _on_openvino
    return load_pixel_values(load(path, settings.threads), settings)
