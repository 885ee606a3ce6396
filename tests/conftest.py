"""Bundles and videos that several test files use, made once for all workers."""

import functools
import gc
import importlib.util
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

FOLDER = os.environ.get("TUBELET_BUNDLES")
DEMO = Path(__file__).parents[1] / "artifacts" / "demo"

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
    # A quarter of the time of a small export: torch reads its 500 translations from their sources again for each.
    apis = importlib.import_module("torch.onnx._internal._lazy_import").onnxscript_apis
    vars(apis)["get_torchlib_ops"] = functools.cache(lambda: importlib.import_module(apis._name).get_torchlib_ops())


def pytest_collection_finish() -> None:
    """Leave out of every later collection of garbage what the imports made, torch and transformers above all."""
    gc.freeze()


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

    def lower(folder: Path) -> None:
        for family, path in (("vivit", vivit_bundle), ("videomae", videomae_bundle)):
            bundle = Bundle.open(shutil.copytree(path, folder / family))
            for precision in ("fp16", "int8", "int8-static", "fp8"):
                bundle, _ = add_graph(bundle, precision)

    made = made_once("lowered", tmp_path_factory, lower)
    return {family: made / family for family in ("vivit", "videomae")}


@pytest.fixture(scope="session")
def demo_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The bundle of the trained demo model of a family. Not to be changed."""
    from tubelet.exporter.checkpoint.load import load_checkpoint
    from tubelet.exporter.export import export_bundle

    def bundle_of(family: str) -> Path:
        def export(folder: Path) -> None:
            export_bundle(load_checkpoint(str(DEMO / family), report=lambda _: None), folder)

        return made_once(f"demo-{family}", tmp_path_factory, export)

    return bundle_of


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 frames of 96x64 that carry their numbers."""
    from videos import make_video

    path = tmp_path_factory.mktemp("video") / "numbered.mp4"
    make_video(path)
    return path


@pytest.fixture(scope="session")
def plain_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny VideoMAE as it is exported without any option, its checkpoint beside it. Not to be changed."""
    return _bundle("plain", tmp_path_factory)


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

    def write(folder: Path) -> None:
        from bundles import write_bundle  # imports torch

        write_bundle(name, folder)

    return made_once(name, tmp_path_factory, write) / "bundle"


def made_once(name: str, tmp_path_factory: pytest.TempPathFactory, make: Callable[[Path], object]) -> Path:
    """A folder that the first worker to ask for it makes, whole, and all others find."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made" / name
    folder.parent.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            beside = folder.with_name(f"{name}.part")
            shutil.rmtree(beside, ignore_errors=True)  # what a test that failed here left
            make(beside)
            beside.rename(folder)
    return folder
