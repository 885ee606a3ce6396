"""Videos to clips in Triton's python backend, in front of a graph that another backend runs.

`tubelet triton` copies this file into the model repository; nothing imports it. The Python that Triton runs must have
tubelet: pip install tubelet. No engine is needed.
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
from tubelet.runtime.reading import prepare_crops, read_crops


class TritonPythonModel:
    """One instance: Triton makes it in a process of its own, and calls it with the requests of one batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read how clips are made from the manifest of the bundle that lies beside this file."""
        config = json.loads(args["model_config"])
        instances = sum(group["count"] for group in config["instance_group"])
        threads = int(config["parameters"]["threads"]["string_value"])
        self.is_video = config["parameters"]["input"]["string_value"] == "video"
        self.input_name = config["input"][0]["name"]
        self.spec = tubelet.Bundle.described(Path(args["model_repository"], args["model_version"])).spec
        self.readers = ThreadPoolExecutor(threads or max(1, len(os.sched_getaffinity(0)) // instances))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request with its clips, or with what is wrong with it."""
        return list(self.readers.map(self._answered, requests))

    def finalize(self) -> None:
        """End the threads that read."""
        self.readers.shutdown()

    def _answered(self, request: Any) -> Any:
        given = pb_utils.get_input_tensor_by_name(request, self.input_name).as_numpy()  # (B, ...)
        try:
            clips = np.concatenate([self._read(row) for row in given])
        except tubelet.TubeletError as error:
            wrong = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=wrong)
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(self.spec.input_name, clips)])

    def _read(self, row: NDArray[np.uint8]) -> NDArray[Any]:
        """One row of the input to the model input of its clip, (1, ...)."""
        video = row.tobytes() if self.is_video else row
        return prepare_crops(read_crops(video, self.spec, tubelet.Reading()), self.spec)
