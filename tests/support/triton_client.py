"""Asks a Triton server with the real tritonclient: run by the Python of triton/python, which has it.

    python triton_client.py REQUESTS.json

Requests are dicts: model; over (http, grpc or shared-memory); inputs, the path of an array in .npy by name; outputs,
the names that are wanted, none for all. Those of a group are sent at once. Prints for each either its outputs, nested
lists by name, or its error.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, shared_memory

asked = json.loads(Path(sys.argv[1]).read_text())
grpc = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{asked['grpc']}")


def infer(numbered: tuple[int, dict[str, Any]]) -> dict[str, Any]:
    number, request = numbered
    http = tritonclient.http.InferenceServerClient(f"127.0.0.1:{asked['http']}")  # which is of one thread
    kind, client = (tritonclient.grpc, grpc) if request["over"] == "grpc" else (tritonclient.http, http)
    regions: list[tuple[str, Any]] = []
    inputs = []
    for name, path in request["inputs"].items():
        array = np.load(path)
        given = kind.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
        if request["over"] == "shared-memory":
            key = f"tubelet_{asked['http']}_{number}_{name}"
            region = shared_memory.create_shared_memory_region(key, f"/{key}", array.nbytes)
            shared_memory.set_shared_memory_region(region, [array])
            http.register_system_shared_memory(key, f"/{key}", array.nbytes)
            regions.append((key, region))
            given.set_shared_memory(key, array.nbytes)
        else:
            given.set_data_from_numpy(array)
        inputs.append(given)
    wanted = [kind.InferRequestedOutput(name) for name in request.get("outputs", [])] or None
    try:
        answer = client.infer(request["model"], inputs, outputs=wanted)
        response = answer.get_response(as_json=True) if kind is tritonclient.grpc else answer.get_response()
        names = request.get("outputs") or [output["name"] for output in response["outputs"]]
        return {name: json_of(answer.as_numpy(name)) for name in names}
    except InferenceServerException as error:
        return {"error": str(error)}
    finally:
        for key, region in regions:
            http.unregister_system_shared_memory(key)
            shared_memory.destroy_shared_memory_region(region)
        http.close()


def json_of(array: Any) -> Any:
    """Float32 as float64 has them, which loses nothing; bytes as text."""
    return [[cell.decode() for cell in row] for row in array] if array.dtype == np.object_ else array.tolist()


with ThreadPoolExecutor(16) as pool:
    answers = [list(pool.map(infer, enumerate(group))) for group in asked["groups"]]
print(json.dumps(answers))
