"""scripts/verify_hub.py: over a Hub on the loopback address, by the real client; over the real one where it answers."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import checkpoints
import numpy as np
import pytest
import torch
import transformers
from hub_server import Hub
from transformers import VideoMAEImageProcessorPil
from transformers.models.vivit.image_processing_vivit import VivitImageProcessor

SCRIPT = Path(__file__).parents[2] / "scripts" / "verify_hub.py"
SIZE = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
CLIP = "clip.npy"
FAMILIES = ("vivit", "videomae")
PRETRAINING: dict[str, Any] = {
    "use_mean_pooling": False,
    "decoder_hidden_size": 24,
    "decoder_num_attention_heads": 3,
    "decoder_num_hidden_layers": 1,
}
OWN = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.7, 0.8, 0.9]}


def run(*arguments: object, timeout: float, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny checkpoints, with other pixels than a published test's, as the real ones; and a clip of four frames."""
    folder = tmp_path_factory.mktemp("sources")
    for family in FAMILIES:
        checkpoints.write_checkpoint(folder / family, family, processor=OWN)
    checkpoints.write_checkpoint(
        folder / "pretraining", "videomae", processor=OWN, task="masked-modeling", **PRETRAINING
    )
    checkpoints.write_checkpoint(folder / "encoder", "vivit", task="feature-extraction")
    (folder / "mask").mkdir()
    mask = torch.zeros(1, 32, dtype=torch.bool)
    mask[:, 2:30] = True  # as many as a mask of 0.9 hides
    torch.save(mask, folder / "mask" / "bool_masked_pos.pt")
    (folder / "clips").mkdir()
    np.save(folder / "clips" / CLIP, np.random.default_rng(0).integers(0, 256, (4, 40, 60, 3), dtype=np.uint8))
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, sources: Path) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("home"))
    hub.add("lab/vivit", sources / "vivit")
    hub.add("lab/videomae", sources / "videomae")
    hub.add("lab/again", sources / "videomae")
    hub.add("lab/pretraining", sources / "pretraining")
    hub.add("lab/encoder", sources / "encoder")
    hub.add("hf-internal-testing/bool-masked-pos", sources / "mask")
    hub.add("datasets/hf-internal-testing/spaghetti-video", sources / "clips")
    hub.start()
    yield hub
    hub.stop()


def published(sources: Path, family: str) -> dict[str, Any]:
    """The entry that a test of transformers would give for the checkpoint, computed by transformers."""
    kinds: dict[str, tuple[Any, Any]] = {
        "vivit": (VivitImageProcessor, transformers.VivitForVideoClassification),
        "videomae": (VideoMAEImageProcessorPil, transformers.VideoMAEForVideoClassification),
    }
    processor, model = kinds[family]
    given = SIZE if family == "vivit" else {**SIZE, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    pixels = np.load(sources / "clips" / CLIP)
    inputs = processor(**given)(list(pixels), return_tensors="pt")
    with torch.inference_mode():
        logits = model.from_pretrained(sources / family).eval()(**inputs).logits[0, :3]
    return {
        "kind": "classifier",
        "model": f"lab/{family}",
        "family": family,
        "clip": CLIP,
        "processor": given,
        "logits": [round(value, 4) for value in logits.tolist()],
    }


def published_pretraining(sources: Path) -> dict[str, Any]:
    """The entry of a pretraining checkpoint, computed by transformers."""
    given: dict[str, Any] = {**SIZE, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    inputs = VideoMAEImageProcessorPil(**given)(list(np.load(sources / "clips" / CLIP)), return_tensors="pt")
    mask = torch.load(sources / "mask" / "bool_masked_pos.pt", weights_only=True)
    with torch.inference_mode():
        model = transformers.VideoMAEForPreTraining.from_pretrained(sources / "pretraining").eval()
        outputs = model(**inputs, bool_masked_pos=mask)
    return {
        "kind": "pretraining",
        "model": "lab/pretraining",
        "clip": CLIP,
        "processor": given,
        "logits": outputs.logits[0, :3, :3].round(decimals=4).tolist(),
        "loss": round(float(outputs.loss), 4),
    }


def verify(hub: Hub, table: Path, entries: list[dict[str, Any]], *arguments: str) -> subprocess.CompletedProcess[str]:
    table.write_text(json.dumps(entries))
    return run(
        "--table",
        table,
        *arguments,
        timeout=120,
        HF_ENDPOINT=f"http://127.0.0.1:{hub.port}",
        HF_HOME=str(hub.home),
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_DISABLE_XET="1",
        HF_HUB_OFFLINE="0",
        HF_TOKEN="",
        NO_PROXY="127.0.0.1",
    )


@pytest.mark.parametrize("families", [FAMILIES[:1], pytest.param(FAMILIES, marks=pytest.mark.slow)])
def test_logits_that_are_met_pass(hub: Hub, sources: Path, tmp_path: Path, families: tuple[str, ...]) -> None:
    result = verify(hub, tmp_path / "table.json", [published(sources, family) for family in families])
    assert result.returncode == 0, result.stdout + result.stderr
    *lines, blank, verdict = result.stdout.splitlines()
    assert [line.split(": commit ")[0] for line in lines] == [f"pass    lab/{family}" for family in families]
    assert (blank, verdict) == ("", f"PASS: {len(families)} pass")
    assert hub.fetched("lab/vivit")[:2] == ["config.json", "preprocessor_config.json"]


def test_logits_that_are_not_met_fail_and_so_does_a_checkpoint_that_is_not_there(
    hub: Hub, sources: Path, tmp_path: Path
) -> None:
    wrong = published(sources, "vivit")
    wrong["logits"][1] += 0.01
    # Prepared as the checkpoint says and not as the test did, the clip gives other logits.
    prepared = {**published(sources, "videomae"), "model": "lab/again", "processor": {**SIZE, **OWN}}
    unstated = {"kind": "classifier", "model": "lab/videomae", "family": "videomae"}
    absent = {"kind": "classifier", "model": "lab/nowhere", "family": "vivit", "logits": [0.0]}
    result = verify(hub, tmp_path / "table.json", [wrong, prepared, unstated, absent])
    assert result.returncode == 1
    failed, otherwise, proven, missing, *rest = result.stdout.splitlines()
    assert otherwise.startswith("fail    lab/again: commit ")
    assert failed.startswith("fail    lab/vivit: commit ")
    assert "largest difference 1.0e-02" in failed
    assert proven.startswith("pass    lab/videomae: commit ")
    assert proven.endswith(": as torch computes it; no logits are published")
    assert missing.startswith("fail    lab/nowhere: the Hub has no repository lab/nowhere that this account may see")
    assert rest[-1] == "FAIL: 3 fail, 1 pass"


@pytest.mark.slow
def test_pretraining_checkpoints_and_encoders(hub: Hub, sources: Path, tmp_path: Path) -> None:
    good = published_pretraining(sources)
    encoder = {"kind": "encoder", "model": "lab/encoder"}
    result = verify(hub, tmp_path / "table.json", [good, encoder])
    assert result.returncode == 0, result.stdout + result.stderr
    drawn, proven = result.stdout.splitlines()[:2]
    assert drawn.startswith("pass    lab/pretraining: commit ")
    assert proven.startswith("pass    lab/encoder: commit ")
    result = verify(hub, tmp_path / "table.json", [{**good, "loss": good["loss"] + 0.01}])
    assert result.returncode == 1
    assert "largest difference 1.0e-02" in result.stdout


@pytest.mark.slow
def test_one_of_the_table_can_be_chosen(hub: Hub, sources: Path, tmp_path: Path) -> None:
    entries = [published(sources, "vivit"), {"kind": "classifier", "model": "lab/nowhere", "family": "vivit"}]
    assert verify(hub, tmp_path / "table.json", entries, "--model", "lab/vivit").stdout.endswith("PASS: 1 pass\n")
    result = verify(hub, tmp_path / "table.json", entries, "--model", "lab/other")
    assert result.returncode == 2
    assert "lab/other is not in the table, which has lab/vivit, lab/nowhere" in result.stderr


def test_a_table_that_is_none(hub: Hub, tmp_path: Path) -> None:
    result = verify(hub, tmp_path / "table.json", [{"name": "lab/vivit"}])
    assert result.returncode == 1
    assert "must be a list of objects, each with a kind (classifier, pretraining, encoder)" in result.stderr


@pytest.mark.network
def test_published_checkpoints() -> None:
    """All of the script's own table: 12 GB."""
    from huggingface_hub import constants

    address = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname, address.port or 443), timeout=3).close()
    except OSError as error:
        pytest.skip(f"{constants.ENDPOINT} cannot be reached: {error}")
    result = run(timeout=7200)
    print(result.stdout)
    assert result.returncode == 0, result.stdout + result.stderr
