"""What runs in the processes of oracle.py, beside one of the libraries: python oracle_process.py LIBRARY"""

import os
import pickle
import sys

import numpy as np


def resize(frame, size, number):
    """uint8 (H, W, 3) to uint8 (*size, 3), by Pillow."""
    from PIL import Image

    height, width = size
    return np.asarray(Image.fromarray(frame).resize((width, height), number))


def process(name, config, pixels):
    """What the processor called `name` makes of frames (T, H, W, 3): float32 (T, 3, H, W)."""
    frames = list(pixels) if "ImageProcessor" in name else pixels
    batch = _class_of(name)(**config)(frames, return_tensors="np", input_data_format="channels_last")
    (values,) = map(np.asarray, batch.values())
    return values[0] if values.ndim == 5 else values  # a picture model's: frames are its batch


def save(name, folder):
    """Saves the processor called `name`, as it is without a config, to `folder`."""
    _class_of(name)().save_pretrained(folder)


def library_of(folder):
    """What the processor that transformers loads from a checkpoint's `folder` computes with."""
    import transformers
    from transformers.image_processing_backends import TorchvisionBackend

    is_video = os.path.isfile(os.path.join(folder, "video_preprocessor_config.json"))
    auto = transformers.AutoVideoProcessor if is_video else transformers.AutoImageProcessor
    return "torchvision" if isinstance(auto.from_pretrained(folder), TorchvisionBackend) else "pillow"


def triton_describes(port, model):
    """What Triton's client hears of a server and of a model."""
    client = _triton(port)
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model ready": [client.is_model_ready(model), client.is_model_ready(model, "1"), client.is_model_ready("none")],
        "server": client.get_server_metadata(),
        "model": client.get_model_metadata(model),
    }


def triton_infers(port, model, inputs, outputs, options):
    """What Triton's client gets for arrays by name, each as bytes or in JSON; outputs: (name, as bytes, labels)."""
    from tritonclient.http import InferInput, InferRequestedOutput
    from tritonclient.utils import np_to_triton_dtype

    given = []
    for name, (array, as_bytes) in inputs.items():
        tensor = InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array, binary_data=as_bytes)
        given.append(tensor)
    asked = [InferRequestedOutput(name, binary_data=as_bytes, class_count=labels) for name, as_bytes, labels in outputs]
    answer = _triton(port).infer(model, given, outputs=asked or None, **options)
    response = answer.get_response()
    return response, {output["name"]: answer.as_numpy(output["name"]) for output in response["outputs"]}


def _triton(port):
    from tritonclient.http import InferenceServerClient

    return InferenceServerClient(f"127.0.0.1:{port}")


def _class_of(name):
    import transformers
    from transformers.models.vivit.image_processing_vivit import VivitImageProcessor
    from transformers.models.vivit.video_processing_vivit import VivitVideoProcessor

    vivits = {kind.__name__: kind for kind in (VivitImageProcessor, VivitVideoProcessor)}
    return vivits.get(name) or getattr(transformers, name)


def _check_pillow(library):
    import PIL

    assert library == f"pillow-{PIL.__version__.split('.')[0]}", PIL.__version__


def _load_torchvision():
    """Imports torchvision without its compiled part, which then has no operators to register."""
    import torch

    # It resizes in 8 bits where the CPU has these instructions. What it does elsewhere is another arithmetic.
    assert torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"), torch.backends.cpu.get_cpu_capability()
    torch.set_num_threads(1)
    register_fake = torch.library.register_fake

    def unless_torchvisions(operator, *arguments, **options):
        if isinstance(operator, str) and operator.startswith("torchvision::"):
            return lambda function: function
        return register_fake(operator, *arguments, **options)

    torch.library.register_fake = unless_torchvisions
    import torchvision  # noqa: F401

    torch.library.register_fake = register_fake


def main(library):
    """Answers questions on stdin until there are no more. Whatever else is printed goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if library == "torchvision":
        _load_torchvision()
    elif library != "tritonclient":
        _check_pillow(library)
    while True:
        try:
            function, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer: tuple[object, str | None]
        try:
            answer = globals()[function](*arguments), None
        except Exception as error:
            answer = None, f"{type(error).__name__}: {error}"
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
