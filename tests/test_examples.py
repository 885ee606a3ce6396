"""examples/ as a user runs them, and the Python of docs/python.md, on bundles of the demo models."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from demo import film_samples

import tubelet

pytestmark = pytest.mark.examples

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
BUNDLES = {
    "demo-videomae": tubelet.ExportOptions(),
    "demo-videomae-frames": tubelet.ExportOptions(input_name="frames"),
    "demo-features": tubelet.ExportOptions(task="feature-extraction"),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the artifacts/ that the examples name: the demo models, bundles of them, and videos."""
    home = tmp_path_factory.mktemp("examples")
    artifacts = home / "artifacts"
    artifacts.mkdir()
    (artifacts / "demo").symlink_to(ROOT / "artifacts" / "demo")
    for name, options in BUNDLES.items():
        tubelet.export(artifacts / "demo" / "videomae", artifacts / name, options)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        film_samples()
    return home


def _run(home: Path, *command: str, without_torch: bool = True) -> str:
    """Run a command in `home` and return what it printed."""
    blocked = home / "no-torch"
    (blocked / "torch").mkdir(parents=True, exist_ok=True)
    (blocked / "torch" / "__init__.py").write_text("raise ImportError('an example asked for torch')\n")
    environment = os.environ | ({"PYTHONPATH": str(blocked)} if without_torch else {})
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _python(home: Path, example: str, *arguments: str) -> str:
    return _run(home, sys.executable, str(EXAMPLES / example), *arguments)


def test_classify_names_the_motion(home: Path) -> None:
    grows, turns = "artifacts/demo-videos/grows.mp4", "artifacts/demo-videos/turns-counter-clockwise.mp4"
    lines = _python(home, "classify.py", "artifacts/demo-videomae", grows, turns).splitlines()
    assert [line.split(",")[0] for line in lines[::4]] == [grows, turns]
    assert lines[1].endswith("%  grows")
    assert lines[5].endswith("%  turns counter-clockwise")


def test_features_find_the_same_video_first(home: Path) -> None:
    grows, changes = "artifacts/demo-videos/grows.mp4", "artifacts/demo-videos/changes.mp4"
    first, second = _python(home, "features.py", "artifacts/demo-features", grows, changes, grows).splitlines()
    assert first == f"1.0000  {grows}"
    assert second.endswith(changes)


def test_raw_frames_refuse_a_bundle_that_takes_no_frames(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "raw_frames.py", "artifacts/demo-videomae", "artifacts/demo-videos/grows.mp4", "x"],
        cwd=home,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == "artifacts/demo-videomae takes pixel_values; export it with --input frames\n"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_javascript_gives_the_logits_of_python(home: Path) -> None:
    bundle, video = "artifacts/demo-videomae-frames", "artifacts/demo-videos/grows.mp4"
    _python(home, "raw_frames.py", bundle, video, "grows.rgb")
    said = json.loads(_run(home, "node", str(EXAMPLES / "classify.mjs"), bundle, "grows.rgb", "--json"))
    with tubelet.load(home / bundle) as model:
        expected = model.logits(model.prepare(model.read(home / video)))[0]
        best = model.classify(home / video)
    np.testing.assert_allclose(said["logits"], expected, rtol=0, atol=1e-4)
    assert [ranked["label"] for ranked in said["predictions"][:5]] == [label for label, _ in best]
    scores = [ranked["score"] for ranked in said["predictions"][:5]]
    np.testing.assert_allclose(scores, [score for _, score in best], rtol=0, atol=1e-4)


def test_the_python_page_runs_and_has_every_name(home: Path) -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    absent = [name for name in tubelet.__all__ if not re.search(rf"\b{name}\b", page)]
    assert not absent
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.M | re.S)
    assert blocks
    _run(home, sys.executable, "-c", "\n".join(blocks), without_torch=False)
