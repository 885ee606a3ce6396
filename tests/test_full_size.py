"""One of each family at full size with seeded random weights: the truth about parity, batches, time and memory.

Times and memory are printed and not asserted: run with `make test-full-size`.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from checkpoints import tiny_config, write_checkpoint
from videos import make_video

from tubelet.runtime.bundle.bundle import Bundle, Task
from tubelet.runtime.load import load

FULL_SIZE: dict[str, dict[str, Any]] = {
    "vivit": {"image_size": (224, 224), "num_frames": 32, "tubelet_size": (2, 16, 16)},
    "videomae": {"image_size": (224, 224), "num_frames": 16, "tubelet_size": 2, "patch_size": (16, 16)},
    "vjepa2": {  # the ViT-L, as for Something-Something v2
        "image_size": (256, 256),
        "num_frames": 16,
        "tubelet_size": 2,
        "patch_size": 16,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "num_labels": 174,
    },
    "timesformer": {"image_size": (224, 224), "num_frames": 8, "patch_size": (16, 16)},
}
WIDTHS: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "num_labels": 400,
}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    code = "from tubelet.cli.tree import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=1200, check=False
    )


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.full_size
@pytest.mark.parametrize("family", ["videomae", "vivit", "timesformer", "vjepa2"])
def test_a_full_size_checkpoint_becomes_a_bundle_that_classifies(family: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / family, family, **WIDTHS | FULL_SIZE[family])
    start = time.perf_counter()
    exported = run("export", "--model", folder, "-o", tmp_path / "bundle", "--json")
    export_seconds = time.perf_counter() - start
    assert exported.returncode == 0, exported.stderr
    parity = json.loads(exported.stdout)["parity"]
    assert [batch["batch"] for batch in parity["batches"]] == [1, 2, 3, 8]
    assert parity["passed"] is True

    bundle = Bundle.open(tmp_path / "bundle")
    (graph,) = bundle.graphs
    assert [file.name for file in graph.files] == ["model.onnx", "model.onnx.data"]

    video = tmp_path / "video.mp4"
    make_video(video, frames=80, size=(340, 256))
    with load(bundle.path) as model:
        frames = model.read(video).clip(0)
        start = time.perf_counter()
        predictions = model.classify(frames)
        classify_seconds = time.perf_counter() - start
    assert len(frames) == bundle.spec.num_frames
    assert len(predictions) == 5

    worst = max(batch["largest_difference"] for batch in parity["batches"])
    size = sum(file.bytes for file in graph.files) / 1e6
    print(f"\n{family}: export {export_seconds:.1f} s, largest difference {worst:.2e}, graph {size:.0f} MB")
    print(f"one clip {classify_seconds:.2f} s, the process that ran it {peak_mb():.0f} MB at its peak")


@pytest.mark.full_size
def test_a_full_size_model_that_merges_tokens_is_proven(tmp_path: Path) -> None:
    """Thousands of choices are made in each clip, many of them closer than rounding."""
    folder = write_checkpoint(tmp_path / "videomae", "videomae", **WIDTHS | FULL_SIZE["videomae"])
    start = time.perf_counter()
    exported = run("export", "--model", folder, "-o", tmp_path / "bundle", "--merge", 150, "--json")
    assert exported.returncode == 0, exported.stderr
    told = json.loads(exported.stdout)
    assert told["parity"]["passed"] is True
    assert told["merging"]["tokens"][-1] == 55
    worst = max(batch["excess"] for batch in told["parity"]["batches"])
    print(f"\nvideomae merging 150: export {time.perf_counter() - start:.1f} s, {worst:.1%} of the limit")
    print({name: told["merging"][name] for name in ("narrowest", "moved", "moved_elsewhere")})


@pytest.mark.full_size
@pytest.mark.parametrize(
    ("family", "task", "outputs"),
    [
        ("vivit", "feature-extraction", "hidden_states"),
        ("videomae", "feature-extraction", "hidden_states,attentions"),
        ("videomae", "masked-modeling", None),
    ],
)
def test_a_full_size_checkpoint_becomes_a_bundle_of_every_task(
    family: str, task: Task, outputs: str | None, tmp_path: Path
) -> None:
    mean_pooling: dict[str, Any] = {"use_mean_pooling": False} if family == "videomae" else {}
    folder = write_checkpoint(
        tmp_path / family, family, task=task, pooler=family == "vivit", **WIDTHS, **FULL_SIZE[family], **mean_pooling
    )
    start = time.perf_counter()
    asked = [] if outputs is None else ["--outputs", outputs]
    exported = run("export", "--model", folder, "-o", tmp_path / "bundle", "--json", *asked)
    assert exported.returncode == 0, exported.stderr
    parity = json.loads(exported.stdout)["parity"]
    assert parity["passed"] is True
    worst = max(batch["excess"] for batch in parity["batches"])
    sizes = sorted({batch["batch"] for batch in parity["batches"]})
    print(f"\n{family} {task}: export {time.perf_counter() - start:.1f} s, batches {sizes}, {worst:.1%} of the limit")
    print(f"left out {parity['left_out']}; {exported.stderr.strip()}")


@pytest.mark.full_size
@pytest.mark.parametrize(
    ("family", "task"),
    [
        ("vivit", "video-classification"),
        ("vivit", "feature-extraction"),
        ("videomae", "video-classification"),
        ("vjepa2", "video-classification"),
        ("videomae", "feature-extraction"),
        ("videomae", "masked-modeling"),
        ("timesformer", "video-classification"),
    ],
)
def test_full_size_outputs_equal_those_of_transformers(family: str, task: Task) -> None:
    import torch
    from transformers_models import LIMIT, clips, masks, seeded

    from tubelet.exporter.families.videomae_pretraining import split_tokens

    torch.set_num_threads(2)
    mean_pooling: dict[str, Any] = {"use_mean_pooling": False} if family == "videomae" else {}
    changes = {**WIDTHS, **FULL_SIZE[family], **mean_pooling}
    with torch.inference_mode():
        ours, theirs = seeded(family, task, changes)
        pixel_values = clips(tiny_config(family, **changes), batch=1)
        mask = masks(ours, 1) if task == "masked-modeling" else None
        given = {} if mask is None else {"bool_masked_pos": mask}
        expected = theirs(pixel_values, output_hidden_states=True, **given)
        found = ours.outputs(pixel_values, *(() if mask is None else split_tokens(mask)))
    name = "last_hidden_state" if task == "feature-extraction" else "logits"
    pairs = [(found[name], expected[name])]
    pairs += [(found[f"hidden_states.{i}"], state) for i, state in enumerate(expected.hidden_states)]
    # Hidden states grow from layer to layer with seeded weights: 1e-5 of their size.
    worst = max(float((a - b).abs().max() / max(1.0, float(b.abs().max()))) for a, b in pairs)
    print(f"\n{family} {task}: largest difference to transformers {worst:.1e} of the largest value")
    assert worst <= LIMIT
