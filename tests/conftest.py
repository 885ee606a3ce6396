"""Bundles and videos that several test files use, made once for each worker."""

import importlib.util
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

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
    return _export(tmp_path_factory.mktemp("vivit"), "vivit")


@pytest.fixture(scope="session")
def videomae_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny VideoMAE, exported with `--input frames`. Not to be changed."""
    return _export(tmp_path_factory.mktemp("videomae"), "videomae", input_name="frames")


@pytest.fixture(scope="session")
def lowered_bundles(
    tmp_path_factory: pytest.TempPathFactory, vivit_bundle: Path, videomae_bundle: Path
) -> dict[str, Path]:
    """The two bundles above, each with every precision. Not to be changed."""
    from tubelet.exporter.precision import add_graph
    from tubelet.runtime import Bundle

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
    tiny = {
        "use_mean_pooling": False,
        "decoder_hidden_size": 24,
        "decoder_num_attention_heads": 3,
        "decoder_num_hidden_layers": 2,
        "decoder_intermediate_size": 40,
    }
    return _export(tmp_path_factory.mktemp("masked"), "videomae", task="masked-modeling", **tiny)


@pytest.fixture(scope="session")
def attentive_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bare ViViT with a pooler that gives all there is; its checkpoint is in vivit/. Not to be changed."""
    extras = ("hidden_states", "attentions")
    return _export(tmp_path_factory.mktemp("attentive"), "vivit", extras=extras, task="feature-extraction", pooler=True)


def _export(
    folder: Path, family: str, *, input_name: str = "pixel_values", extras: tuple[str, ...] = (), **options: Any
) -> Path:
    # Imported here, because the tests of the wheel run where there is no torch.
    from checkpoints import write_checkpoint
    from tubelet.exporter.checkpoint import load_checkpoint
    from tubelet.exporter.export import export_bundle

    checkpoint = load_checkpoint(str(write_checkpoint(folder / family, family, **options)), report=lambda _: None)
    bundle, _ = export_bundle(checkpoint, folder / "bundle", input_name=input_name, extras=extras)
    return bundle.path
