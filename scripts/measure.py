"""Time, memory and cold start of a bundle beside the checkpoint in torch, in turn, each in processes of its own.

python scripts/measure.py BUNDLE CHECKPOINT [--rounds 3] [--clips 5] [--json]

CHECKPOINT is the folder that the bundle was exported from; transformers runs it with sdpa attention in float32,
which is what people run today. Each round starts one process of either kind, A B A B, so that a machine whose
speed drifts does so for both. A process loads the model, computes the logits of one clip of noise (the cold start,
counted from the start of the process), then times it again and again. Memory is the peak of the whole process. torch
is given all cores; ONNX Runtime takes those that it finds.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDES = ("bundle", "torch")
Infer = Callable[[NDArray[Any]], Any]


def open_bundle(folder: str) -> tuple[Infer, tuple[int, ...], str]:
    from tubelet.runtime import load

    model = load(folder)
    graph_input = model.bundle.graphs[0].inputs[0]
    return model.logits, tuple(int(size) for size in graph_input.shape[1:]), graph_input.dtype


def open_torch(folder: str) -> tuple[Infer, tuple[int, ...], str]:
    import torch
    from transformers import AutoModelForVideoClassification

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = AutoModelForVideoClassification.from_pretrained(folder, attn_implementation="sdpa").eval()
    config = model.config

    def infer(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = model(pixel_values=torch.from_numpy(batch)).logits.numpy()
            return logits

    return infer, (config.num_frames, 3, config.image_size, config.image_size), "float32"


def measure_here(side: str, folder: str, clips: int, started: float) -> dict[str, Any]:
    """In the child: seconds from the start of the process to the first logits, then of each clip, and peak memory."""
    infer, shape, dtype = {"bundle": open_bundle, "torch": open_torch}[side](folder)
    batch = np.random.default_rng(0).integers(0, 256, (1, *shape)).astype(dtype)
    infer(batch)
    cold_seconds = time.time() - started
    seconds = []
    for _ in range(clips):
        start = time.perf_counter()
        infer(batch)
        seconds.append(time.perf_counter() - start)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cold_seconds": cold_seconds, "seconds": seconds, "peak_mb": peak_mb}


def measure_in_child(side: str, folder: str, clips: int) -> dict[str, Any]:
    command = [sys.executable, __file__, folder, "-", "--child", side, "--clips", str(clips)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    child = subprocess.run(
        [*command, "--started", repr(time.time())], capture_output=True, text=True, env=environment, check=False
    )
    if child.returncode != 0:
        sys.exit(f"measuring {side} failed:\n{child.stderr}")
    result: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return result


def table(runs: dict[str, list[dict[str, Any]]]) -> str:
    medians = {
        side: {
            "clip, seconds": statistics.median(second for run in runs[side] for second in run["seconds"]),
            "cold start, seconds": statistics.median(run["cold_seconds"] for run in runs[side]),
            "peak memory, MB": statistics.median(run["peak_mb"] for run in runs[side]),
        }
        for side in SIDES
    }
    lines = [f"{'median':<22}{'bundle':>10}{'torch sdpa':>12}{'bundle / torch':>16}"]
    for name in medians["bundle"]:
        ours, theirs = medians["bundle"][name], medians["torch"][name]
        lines.append(f"{name:<22}{ours:>10.2f}{theirs:>12.2f}{ours / theirs:>15.2f}x")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("checkpoint")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure_here(options.child, options.bundle, options.clips, options.started)))
        return
    folders = {"bundle": options.bundle, "torch": options.checkpoint}
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for number in range(options.rounds):
        for side in SIDES:
            print(f"round {number + 1} of {options.rounds}: {side}", file=sys.stderr)
            runs[side].append(measure_in_child(side, folders[side], options.clips))
    print(json.dumps(runs, indent=2) if options.json else table(runs))


if __name__ == "__main__":
    main()
