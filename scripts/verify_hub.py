"""Published checkpoints against published logits: downloads, exports and runs each, and ends with PASS or FAIL.

    python scripts/verify_hub.py
    python scripts/verify_hub.py --model MCG-NJU/videomae-base-finetuned-kinetics

The logits are those that the tests and conversion scripts of transformers state, for clips of the dataset
hf-internal-testing/spaghetti-video. The preprocessing is that of those tests, which is not always the checkpoint's
own. PASS means that all of them are met, by ONNX Runtime and without torch. A checkpoint for which none are published
is exported and proven against torch alone. All of it takes 12 GB of downloads, and as much memory as the largest needs.
"""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
from numpy.typing import NDArray

from tubelet.exporter.checkpoint.hub import fetch_from_dataset, fetch_from_model
from tubelet.exporter.checkpoint.load import Checkpoint, load_checkpoint
from tubelet.exporter.checkpoint.processor import spec_from_hub
from tubelet.exporter.export import export_bundle
from tubelet.exporter.families.registry import family_named
from tubelet.exporter.families.videomae_pretraining import VideoMAEForPreTraining, split_tokens
from tubelet.preprocess.errors import CheckpointError, TubeletError
from tubelet.preprocess.frames import Frames
from tubelet.preprocess.prepare import prepare
from tubelet.runtime.backends import DEFAULT_BACKEND, open_backend
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.progress import Progress, StatusLine

CLIPS = "hf-internal-testing/spaghetti-video"
MASK = "hf-internal-testing/bool-masked-pos"
ONES = "ones"  # 16 frames of 256x256 whose every value is 1
CLIP_OF_16, CLIP_OF_32 = "eating_spaghetti.npy", "eating_spaghetti_32_frames.npy"
# What transformers' own test of VideoMAE allows, beside numbers that are given to four places.
LIMIT = 2e-4
# VideoMAEImageProcessor as the tests of VideoMAE make it.
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}


@dataclass(frozen=True)
class Classifier:
    """A published classifier, and its first logits for a clip; none where nobody states any.

    processor: the preprocessor_config.json of the test. Its clips are frames as they were decoded, or the first of
               them where the model takes fewer
    first:     which logit is the first of those
    limit:     how far from them is near enough
    """

    model: str
    family: str
    logits: Sequence[float] = ()
    clip: str = CLIP_OF_16
    processor: Mapping[str, Any] = field(default_factory=lambda: HALF)
    first: int = 0
    limit: float = LIMIT


@dataclass(frozen=True)
class Pretraining:
    """A published pretraining checkpoint: the first three logits of its first three masked tubelets, and its loss.

    For the mask of MASK; clip and processor as of a Classifier.
    """

    model: str
    logits: Sequence[Sequence[float]]
    loss: float | None = None
    clip: str = CLIP_OF_16
    processor: Mapping[str, Any] = field(default_factory=lambda: HALF)


@dataclass(frozen=True)
class Encoder:
    """A published encoder without a head, for which nobody states any numbers."""

    model: str


Published = Classifier | Pretraining | Encoder

# transformers: tests/models/vivit/test_modeling_vivit.py, tests/models/videomae/test_modeling_videomae.py,
# src/transformers/models/videomae/convert_videomae_to_pytorch.py, tests/models/timesformer/test_modeling_timesformer.py
# and its conversion script, which states logits of the larger TimeSformers for clips of another size, or none.
CLASSIFIERS = (
    Classifier("google/vivit-b-16x2-kinetics400", "vivit", (-0.9498, 2.7971, -1.4049, 0.1024, -1.8353), CLIP_OF_32, {}),
    Classifier("google/vivit-b-16x2", "vivit"),
    Classifier("MCG-NJU/videomae-small-finetuned-kinetics", "videomae", (-0.9291, -0.4061, -0.9307)),
    Classifier("MCG-NJU/videomae-small-finetuned-ssv2", "videomae", (0.2671, -0.4689, -0.8235)),
    Classifier("MCG-NJU/videomae-base-short-finetuned-kinetics", "videomae", (0.6588, 0.0990, -0.2493)),
    Classifier("MCG-NJU/videomae-base-short-finetuned-ssv2", "videomae", (-0.0537, -0.1539, -0.3266)),
    Classifier("MCG-NJU/videomae-base-finetuned-kinetics", "videomae", (0.3669, -0.0688, -0.2421)),
    Classifier("MCG-NJU/videomae-base-finetuned-ssv2", "videomae", (0.1961, -0.8337, -0.6389)),
    Classifier("MCG-NJU/videomae-large-finetuned-kinetics", "videomae", (0.0771, 0.0011, -0.3625)),
    Classifier("MCG-NJU/videomae-huge-finetuned-kinetics", "videomae", (0.2433, 0.1632, -0.4894)),
    # tests/models/vjepa2/test_modeling_vjepa2.py, and what it allows
    Classifier(
        "facebook/vjepa2-vitl-fpc16-256-ssv2", "vjepa2", (0.8814, -0.1195, -0.6389), ONES, {}, first=100, limit=1e-2
    ),
    Classifier("facebook/vjepa2-vitl-fpc32-256-diving48", "vjepa2"),
    Classifier("facebook/timesformer-base-finetuned-k400", "timesformer", (-0.3016, -0.7713, -0.4205)),
    Classifier("facebook/timesformer-base-finetuned-k600", "timesformer", (-0.7267, -0.7466, 3.2404)),
    Classifier("facebook/timesformer-base-finetuned-ssv2", "timesformer", (-0.9059, 0.6433, -3.1457)),
    Classifier("facebook/timesformer-hr-finetuned-k400", "timesformer"),
    Classifier("facebook/timesformer-hr-finetuned-k600", "timesformer"),
    Classifier("facebook/timesformer-hr-finetuned-ssv2", "timesformer"),
    Classifier("facebook/timesformer-large-finetuned-k400", "timesformer"),
    Classifier("facebook/timesformer-large-finetuned-k600", "timesformer"),
    Classifier("facebook/timesformer-large-finetuned-ssv2", "timesformer"),
)
PRETRAINING = (
    Pretraining(
        "MCG-NJU/videomae-base",
        ((0.7739, 0.7968, 0.7089), (0.6701, 0.7487, 0.6209), (0.4287, 0.5158, 0.4773)),
    ),
    Pretraining(
        "MCG-NJU/videomae-base-short",
        ((0.7994, 0.9612, 0.8508), (0.7401, 0.8958, 0.8302), (0.5862, 0.7468, 0.7325)),
        loss=0.5142,
    ),
    Pretraining(
        "MCG-NJU/videomae-large",
        ((0.7149, 0.7997, 0.6966), (0.6768, 0.7869, 0.6948), (0.5139, 0.6221, 0.5605)),
    ),
    Pretraining(
        "MCG-NJU/videomae-base-ssv2",
        ((0.8131, 0.8727, 0.8546), (0.7366, 0.9377, 0.8870), (0.5935, 0.8874, 0.8564)),
    ),
    Pretraining(
        "MCG-NJU/videomae-base-short-ssv2",
        ((0.4712, 0.5296, 0.5786), (0.2278, 0.2729, 0.4026), (0.0352, 0.0730, 0.2506)),
    ),
)
ENCODERS = (Encoder("OpenGVLab/VideoMAEv2-Base"),)


@dataclass(frozen=True)
class Outcome:
    """What came of one checkpoint. outcome: "pass" or "fail"."""

    model: str
    outcome: str
    detail: str


def verify_classifier(published: Classifier, folder: Path, progress: Progress) -> Outcome:
    """Export the checkpoint into `folder`, which raises where the graph is not torch's, and run it on the clip."""
    bundle, _ = exported(published.model, folder, progress)
    if not published.logits:
        return proven(published.model, bundle)
    clip = published_clip(published.clip, published.processor, published.family, bundle)
    with open_backend(DEFAULT_BACKEND, bundle, "fp32") as backend:
        logits = backend.infer(clip)[0]
    found = logits[published.first : published.first + len(published.logits)]
    return compared(published.model, bundle, found, np.asarray(published.logits), published.limit)


def verify_pretraining(published: Pretraining, folder: Path, progress: Progress) -> Outcome:
    """Export the checkpoint into `folder`, and have its graph draw the masked tubelets of the clip."""
    import torch

    bundle, checkpoint = exported(published.model, folder, progress)
    mask = torch.load(fetch_from_model(MASK, "bool_masked_pos.pt"), weights_only=True)  # bool (1, N)
    visible, masked = split_tokens(mask)
    clip = published_clip(published.clip, published.processor, "videomae", bundle)
    with open_backend(DEFAULT_BACKEND, bundle, "fp32") as backend:
        inputs = {bundle.spec.input_name: clip, "visible": visible.numpy(), "masked": masked.numpy()}
        logits = backend.run(inputs)["logits"]
    found = logits[0, :3, :3].ravel()
    expected = np.ravel(published.logits)
    if published.loss is not None:
        pretrained = cast(VideoMAEForPreTraining, checkpoint.model)
        loss = pretrained.loss(torch.from_numpy(logits), torch.from_numpy(clip), masked)
        found, expected = np.append(found, float(loss)), np.append(expected, published.loss)
    return compared(published.model, bundle, found, expected)


def verify_encoder(published: Encoder, folder: Path, progress: Progress) -> Outcome:
    """Export the checkpoint into `folder`, which raises where the graph is not torch's."""
    bundle, _ = exported(published.model, folder, progress)
    return proven(published.model, bundle)


def exported(model: str, folder: Path, progress: Progress) -> tuple[Bundle, Checkpoint]:
    progress(f"loading {model}")
    checkpoint = load_checkpoint(model, report=progress)
    bundle, _ = export_bundle(checkpoint, folder / "bundle", progress=progress)
    return bundle, checkpoint


def published_clip(name: str, processor: Mapping[str, Any], family: str, bundle: Bundle) -> NDArray[np.float32]:
    """The published clip as the published test prepares it: float32 (1, T, C, H, W)."""
    ones = np.ones((16, 256, 256, 3), np.uint8)
    pixels = ones if name == ONES else np.load(fetch_from_dataset(CLIPS, name))  # uint8 (T, H, W, 3)
    made = bundle.spec
    spec = spec_from_hub(
        processor,
        family=family_named(family),
        num_frames=made.num_frames,
        evaluation=made.evaluation,
        arithmetic=made.arithmetic,
    )
    return prepare(Frames.from_array(pixels[: made.num_frames]), spec)[np.newaxis]


def proven(model: str, bundle: Bundle) -> Outcome:
    return Outcome(model, "pass", f"commit {bundle.commit}: as torch computes it; no logits are published")


def compared(model: str, bundle: Bundle, found: NDArray[Any], expected: NDArray[Any], limit: float = LIMIT) -> Outcome:
    if found.shape != expected.shape or not found.size:
        return Outcome(model, "fail", f"{found.shape} logits cannot be compared with the {expected.shape} published")
    differences = np.abs(found - expected)
    good = bool((differences <= limit + limit * np.abs(expected)).all())
    return Outcome(
        model,
        "pass" if good else "fail",
        f"commit {bundle.commit}: {listed(found)}, published {listed(expected)}, largest difference "
        f"{differences.max():.1e}",
    )


def listed(values: Sequence[float] | NDArray[np.float32]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def verify(published: Published, progress: Progress) -> Outcome:
    """What came of one entry of the tables; an error of tubelet's own is a failure."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            match published:
                case Classifier():
                    return verify_classifier(published, Path(folder), progress)
                case Pretraining():
                    return verify_pretraining(published, Path(folder), progress)
                case Encoder():
                    return verify_encoder(published, Path(folder), progress)
    except TubeletError as error:
        return Outcome(published.model, "fail", str(error))


KINDS: dict[str, type[Published]] = {"classifier": Classifier, "pretraining": Pretraining, "encoder": Encoder}


def read_table(path: Path) -> tuple[Published, ...]:
    """The entries in a JSON file: a list of objects, each with its kind and the fields of that."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return tuple(KINDS[entry.pop("kind")](**entry) for entry in entries)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{path} must be a list of objects, each with a kind ({', '.join(KINDS)}) and its fields: {error!r}"
        ) from error


@click.command(help=__doc__)
@click.option("--model", "models", multiple=True, metavar="ID", help="Only this one of the table; may be repeated.")
@click.option(
    "--table",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Another table: JSON, a list of {kind, model, logits, ...}, as the ones in this script.",
)
def main(models: tuple[str, ...], table: Path | None) -> None:
    try:
        known: Sequence[Published] = (*CLASSIFIERS, *PRETRAINING, *ENCODERS) if table is None else read_table(table)
    except TubeletError as error:
        raise click.ClickException(str(error)) from error
    by_name = {entry.model: entry for entry in known}
    if unknown := [model for model in models if model not in by_name]:
        raise click.UsageError(f"{', '.join(unknown)} is not in the table, which has {', '.join(by_name)}")
    outcomes = []
    with StatusLine() as progress:
        for model in models or by_name:
            outcomes.append(verify(by_name[model], progress))
            progress.clear()
            click.echo(f"{outcomes[-1].outcome:<8}{outcomes[-1].model}: {outcomes[-1].detail}")
    found = [outcome.outcome for outcome in outcomes]
    good = "pass" in found and "fail" not in found
    click.echo(f"\n{'PASS' if good else 'FAIL'}: " + ", ".join(f"{found.count(one)} {one}" for one in sorted({*found})))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
