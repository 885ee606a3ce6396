"""Bundles and videos that several test files use, made once for each worker."""

import importlib.util
import os
import shutil
import signal
from pathlib import Path

import pytest

FOLDER = os.environ.get("TUBELET_BUNDLES")

# As the library sets it before it imports ONNX Runtime, which some tests import themselves.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# A job that a shell started in the background ignores Ctrl-C, and so would every process that it starts; some tests
# interrupt what they started.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Tensors as small as those of the tests cost more to share out among threads than to compute. Full-size models run
# in processes of their own.
if importlib.util.find_spec("torch"):
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def vivit_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ViViT, exported; its labels are "activity 0" to "activity 4". Not to be changed."""
    return _bundle("vivit", tmp_path_factory)


@pytest.fixture(scope="session")
def videomae_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny VideoMAE, exported with `--input frames`. Not to be changed."""
    return _bundle("videomae", tmp_path_factory)


@pytest.fixture(scope="session")
def lowered_bundles(
    tmp_path_factory: pytest.TempPathFactory, vivit_bundle: Path, videomae_bundle: Path
) -> dict[str, Path]:
    """The two bundles above, each with every precision. Not to be changed."""
    from tubelet.exporter.lower.search import add_graph
    from tubelet.runtime.bundle.bundle import Bundle

    found = {}
    for family, path in (("vivit", vivit_bundle), ("videomae", videomae_bundle)):
        found[family] = Path(shutil.copytree(path, tmp_path_factory.mktemp(family) / "bundle"))
        bundle = Bundle.open(found[family])
        for precision in ("fp16", "int8", "int8-static", "fp8"):
            bundle, _ = add_graph(bundle, precision)
    return found


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 frames of 96x64 that carry their numbers."""
    from videos import make_video

    path = tmp_path_factory.mktemp("video") / "numbered.mp4"
    make_video(path)
    return path


@pytest.fixture(scope="session")
def masked_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pretrained VideoMAE, its checkpoint beside it in videomae/. Not to be changed."""
    return _bundle("masked", tmp_path_factory)


@pytest.fixture(scope="session")
def explained_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny VideoMAE that classifies, and gives its attentions. Not to be changed."""
    return _bundle("explained", tmp_path_factory)


@pytest.fixture(scope="session")
def attentive_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bare ViViT with a pooler that gives all there is; its checkpoint is in vivit/. Not to be changed."""
    return _bundle("attentive", tmp_path_factory)


def _bundle(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of `bundles.BUNDLES`: exported here, or by scripts/write_test_bundles.py where there is no torch."""
    if FOLDER:
        return Path(FOLDER) / name / "bundle"
    from bundles import write_bundle  # imports torch

    return write_bundle(name, tmp_path_factory.mktemp(name))
