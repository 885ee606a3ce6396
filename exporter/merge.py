"""What an export with `--merge` holds: the merged model, how many tokens it merges, and how far it is from its own.

The arithmetic is in families/merging.py. Needs torch.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..preprocess.errors import CheckpointError, OutOfBounds
from ..preprocess.spec import ClipSpec
from ..runtime.bundle.merging import Merging
from ..runtime.limits import cosines
from ..runtime.progress import Progress
from .checkpoint.load import Checkpoint
from .families.merging import most_removed, tokens_by_layer
from .families.model import Model
from .graph.record import torch_run
from .graph.sharing import sharing_weights
from .graph.tasks import exported_model
from .lower.calibration import CalibrationClips
from .options import ExportOptions
from .steady import SteadyClips


def merged_model(model: Model, removed: int) -> Model:
    """Make the model that merges `removed` tokens in each layer. It has the weights of `model`, which stays as it is.

    Raises:
        CheckpointError: where its tokens cannot be merged.
        OutOfBounds: where the first layer has not as many to merge.
    """
    merged = sharing_weights(model)
    merged.merge(removed)
    most = most_removed(_tokens(model), first_stays=_first_stays(model))
    if not 1 <= removed <= most:
        raise OutOfBounds(
            f"--merge must be from 1 to {most}, half of the {_tokens(model)} tokens of a clip, got {removed}"
        )
    return merged


def _tokens(model: Model) -> int:
    return prod(model.config.grid) + (model.readout == "class-token")


def _first_stays(model: Model) -> bool:
    return model.readout != "mean"


def tokens_of(model: Model) -> tuple[int, ...]:
    """Count the tokens that enter each layer of a merged model."""
    layers = model.config.num_hidden_layers
    return tokens_by_layer(_tokens(model), model.removed, layers, first_stays=_first_stays(model))


def describe_merging(
    model: Model,
    merged: Model,
    spec: ClipSpec,
    clips: CalibrationClips,
    *,
    steady: SteadyClips,
    ranked: bool,
    progress: Progress,
) -> Merging:
    """Hold the merged model against its own, unmerged, on `clips`, and write down what an export says of it."""
    progress(f"asking torch for {clips}, merged and unmerged")
    ours, theirs = (_logits(one, spec, clips) for one in (merged, model))
    return Merging(
        removed=merged.removed,
        tokens=tokens_of(merged),
        narrowest=steady.narrowest,
        moved=steady.moved,
        moved_elsewhere=steady.elsewhere,
        compared_on=str(clips),
        cosine=float(cosines(ours, theirs).min()) if ranked else None,
        same_label=float((ours.argmax(1) == theirs.argmax(1)).mean()) if ranked else None,
        farthest=None if ranked else _farthest(ours, theirs),
    )


def _farthest(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """The largest difference of a value, as a share of the root mean square of its unmerged ones, (clips, K)."""
    sizes = np.sqrt((theirs**2).mean(axis=0))  # (K,)
    return float((np.abs(ours - theirs) / np.maximum(sizes, np.finfo(np.float32).tiny)).max())


def _logits(model: Model, spec: ClipSpec, clips: CalibrationClips) -> NDArray[np.float64]:
    """What torch answers for each clip, (clips, K)."""
    run = torch_run(exported_model(model), spec)
    return np.concatenate([run(inputs)["logits"] for inputs in clips]).astype(np.float64)


@dataclass(frozen=True)
class Trial:
    """One number of tokens a layer that was tried. loss: in percent."""

    removed: int
    loss: float

    def __str__(self) -> str:
        return f"{self.removed} (loses {self.loss:.2f} %)"


def search(most: int, loss_at: Callable[[int], float], max_loss: float) -> list[Trial]:
    """Look for the largest number from 1 to `most` that loses at most `max_loss`, as if more always lost more.

    Returns:
        All that was tried, in order. The largest of those that are within is what was found, and was measured itself.
    """
    trials = [Trial(most, loss_at(most))]
    within, beyond = 0, most
    if trials[0].loss <= max_loss:
        return trials
    while beyond - within > 1:
        middle = (within + beyond) // 2
        trials.append(Trial(middle, loss_at(middle)))
        within, beyond = (middle, beyond) if trials[-1].loss <= max_loss else (within, middle)
    return trials


def find_removed(
    checkpoint: Checkpoint, spec: ClipSpec, clips: CalibrationClips, max_loss: float, *, progress: Progress
) -> tuple[int, str]:
    """Find how many tokens a layer can merge. The videos of `clips` are read anew for each number that is tried.

    Where the folder of every video is called as a label, the loss is in accuracy. Otherwise it is the share of clips
    whose best label is another than without merging.

    Returns:
        The largest number that loses at most `max_loss` percent, and what was tried, in words.

    Raises:
        CheckpointError: where even one token a layer loses more, or the model's tokens cannot be merged; and where
            there is no best label.
    """
    model = checkpoint.model
    _require_labels(checkpoint)
    merged_model(model, 1)
    truth = _truth(clips.videos, checkpoint.labels)
    progress(f"asking torch for {clips}, unmerged")
    unmerged = _logits(model, spec, clips).argmax(1)

    def loss_at(removed: int) -> float:
        progress(f"trying {removed} tokens merged a layer on {clips}")
        found = _logits(merged_model(model, removed), spec, clips).argmax(1)
        if truth is None:
            return 100 * float((found != unmerged).mean())
        return 100 * float((unmerged == truth).mean() - (found == truth).mean())

    trials = search(most_removed(_tokens(model), first_stays=_first_stays(model)), loss_at, max_loss)
    judged = "best labels that change" if truth is None else f"accuracy, of {(unmerged == truth).mean():.2%} unmerged"
    tried = f"{judged}, on {clips}; tried {', '.join(map(str, trials))}"
    within = [trial for trial in trials if trial.loss <= max_loss]
    if not within:
        raise CheckpointError(
            f"no number of merged tokens loses at most {max_loss:g} %: {tried}",
            fix=f"a larger --max-loss, or more clips, of which one is {100 / len(clips.videos):.2g} % now",
        )
    removed = max(trial.removed for trial in within)
    return removed, f"--merge auto took {removed}, the most that loses at most {max_loss:g} %: {tried}"


def _truth(videos: Sequence[Path], labels: Sequence[str]) -> NDArray[np.int64] | None:
    """The label of each video, where the folder that it lies in is called so; None where one is not."""
    # A link counts for the folder that it lies in, not for that of the file.
    folders = [Path(os.path.abspath(video)).parent.name for video in videos]
    if not all(folder in labels for folder in folders):
        return None
    return np.array([labels.index(folder) for folder in folders], np.int64)


def _require_labels(checkpoint: Checkpoint) -> None:
    if checkpoint.problem_type == "regression" or len(checkpoint.labels) < 2:
        raise CheckpointError(
            "--merge auto looks at the best label, and this model has no several to choose from",
            fix="say how many tokens: --merge R",
        )


def require_mergeable(checkpoint: Checkpoint, options: ExportOptions) -> None:
    """Raise what an export with these options would raise for the model's tokens, before anything is done."""
    if options.merge == "auto":
        _require_labels(checkpoint)
    if options.merge is not None:
        merged = merged_model(checkpoint.model, 1 if options.merge == "auto" else options.merge)
        exported_model(merged, options.extras)
