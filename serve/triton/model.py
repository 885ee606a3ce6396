"""A bundle in Triton's python backend. `tubelet triton` copies this file into the model repository; nothing imports it.

The Python that Triton runs must have tubelet and an engine: pip install 'tubelet[cpu]'. What it does is said by the
parameters in config.pbtxt:

    input       video: bytes of a file, uint8 (B, bytes) -> labels, scores, logits
                frames: RGB frames of any size, uint8 (B, T, H, W, 3) -> labels, scores, logits
                clips: what the graph takes, prepared by the client -> logits
    engine      of tubelet, such as onnxruntime, onnxruntime-cuda or openvino
    precision   which of the bundle's graphs
    threads     of the CPU, for each instance; 0 shares the cores among the instances
    top_k       how many labels
"""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

import tubelet
from tubelet.runtime.predictions import answer
from tubelet.runtime.reading import prepare_crops, read_crops


class TritonPythonModel:
    """One instance: Triton makes it in a process of its own, and calls it with the requests of one batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the bundle that lies beside this file."""
        config = json.loads(args["model_config"])
        settings = {key: value["string_value"] for key, value in config["parameters"].items()}
        instances = sum(group["count"] for group in config["instance_group"])
        threads = int(settings["threads"]) or max(1, len(os.sched_getaffinity(0)) // instances)
        self.input_name = config["input"][0]["name"]
        self.kind = settings["input"]
        self.top_k = int(settings["top_k"])
        self.model = tubelet.load(
            Path(args["model_repository"], args["model_version"], "bundle"),
            backend=settings["engine"],
            precision=settings["precision"],
            threads=threads,
        )
        self.readers = ThreadPoolExecutor(threads)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request: all clips of a batch go through the graph together, an error is that request's alone."""
        # Clips of each request (B, ...), or what is wrong with it.
        prepared = list(self.readers.map(self._prepared, requests))
        clips = [found for found in prepared if not isinstance(found, tubelet.TubeletError)]
        try:
            logits = self.model.logits(np.concatenate(clips)) if clips else None  # (B of all, K)
        except tubelet.TubeletError as error:
            return [_failed(error, pb_utils.TritonError.INTERNAL) for _ in requests]
        responses, done = [], 0
        for found in prepared:
            if isinstance(found, tubelet.TubeletError) or logits is None:
                responses.append(_failed(found, pb_utils.TritonError.INVALID_ARG))
            else:
                responses.append(self._answered(logits[done : done + len(found)]))
                done += len(found)
        return responses

    def finalize(self) -> None:
        """Give back what the engine holds."""
        self.readers.shutdown()
        self.model.close()

    def _prepared(self, request: Any) -> NDArray[Any] | tubelet.TubeletError:
        given = pb_utils.get_input_tensor_by_name(request, self.input_name).as_numpy()  # (B, ...)
        try:
            if self.kind == "clips":
                return _finite(given)
            return np.concatenate([self._read(row) for row in given])
        except tubelet.TubeletError as error:
            return error

    def _read(self, row: NDArray[np.uint8]) -> NDArray[Any]:
        """One row of the input to the model input of its clip, (1, ...)."""
        video = row.tobytes() if self.kind == "video" else row
        return prepare_crops(read_crops(video, self.model.spec, self.model.reading), self.model.spec)

    def _answered(self, logits: NDArray[np.float32]) -> Any:
        """logits (B, K) of one request."""
        outputs = [pb_utils.Tensor("logits", logits)]
        if self.kind != "clips":
            said = [
                answer(row, self.model.spec.evaluation.averages, self.model.problem_type, self.model.labels, self.top_k)
                for row in logits[:, np.newaxis]  # (views 1, K)
            ]
            labels = [[one.label.encode() for one in row] for row in said]
            scores = [[one[1] for one in row] for row in said]
            outputs += [
                pb_utils.Tensor("labels", np.array(labels, dtype=np.object_)),
                pb_utils.Tensor("scores", np.array(scores, dtype=np.float32)),
            ]
        return pb_utils.InferenceResponse(output_tensors=outputs)


def _finite(clips: NDArray[Any]) -> NDArray[Any]:
    """The clips of one request, whose NaN would otherwise be the error of the whole batch."""
    if not np.isfinite(clips).all():
        raise tubelet.VideoError("clips must be finite, got NaN or infinite values")
    return clips


def _failed(error: Any, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))
