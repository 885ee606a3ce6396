"""The bundles that tests share: tiny checkpoints of random weights, exported where torch is."""

from pathlib import Path
from typing import Any

from checkpoints import write_checkpoint

from tubelet.exporter.checkpoint.load import load_checkpoint
from tubelet.exporter.export import export_bundle
from tubelet.exporter.options import ExportOptions

# name -> family of the checkpoint, what the export is given, and what the checkpoint is given
BUNDLES: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "vivit": ("vivit", {}, {}),
    "videomae": ("videomae", {"input_name": "frames"}, {}),
    "plain": ("videomae", {}, {}),
    "masked": (
        "videomae",
        {},
        {
            "task": "masked-modeling",
            "use_mean_pooling": False,
            "decoder_hidden_size": 24,
            "decoder_num_attention_heads": 3,
            "decoder_num_hidden_layers": 2,
            "decoder_intermediate_size": 40,
        },
    ),
    "explained": ("videomae", {"extras": ("attentions",)}, {}),
    "attentive": (
        "vivit",
        {"extras": ("hidden_states", "attentions")},
        {"task": "feature-extraction", "pooler": True},
    ),
}


def write_bundle(name: str, folder: Path) -> Path:
    """Exports one of BUNDLES to `folder`/bundle and returns it; its checkpoint is beside it, named after its family."""
    family, export, checkpoint = BUNDLES[name]
    written = write_checkpoint(folder / family, family, **checkpoint)
    bundle, _ = export_bundle(
        load_checkpoint(str(written), report=lambda _: None), folder / "bundle", ExportOptions(**export)
    )
    return bundle.path
