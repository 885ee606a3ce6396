"""Trains a small classifier of a family from scratch on generated motion, and writes it as a checkpoint.

    python scripts/train_demo.py timesformer
    python scripts/train_demo.py vivit --out build/vivit
    python scripts/train_demo.py vivit --from build/vivit

With --from it goes on from the weights of a checkpoint that was trained without. Every second clip is then such as a
window of a stream is: a motion may begin or end in it.

It runs on one thread of the CPU, so that two can be trained at once on two cores. Stopped at any point, the same
command continues from the state that was saved last. Every clip is made on the fly from a seed of its own, and none is
seen twice.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import torch
import torch.nn.functional as F
from demo_checkpoint import CONFIGS, Scores, Training, build, demo_spec, write_checkpoint
from motion import FIRST_FURTHER_SEED, FIRST_TRAINING_SEED
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from score_demo import filmed_frames, rendered_frames, score
from torch import Tensor, nn
from torch.utils.data import DataLoader
from training_clips import TrainingClips

from tubelet.exporter.families.attention import Attended
from tubelet.exporter.families.model import Model
from tubelet.exporter.families.transformer import Stack
from tubelet.exporter.families.videomae_encoder import sinusoid_table
from tubelet.preprocess.spec import ClipSpec
from tubelet.runtime.bundle.files import file_sha256
from tubelet.runtime.progress import StatusLine
from tubelet.runtime.storage.written import written_file

STEPS = 2200
BATCH = 32
MOST_STEPS = (FIRST_FURTHER_SEED - FIRST_TRAINING_SEED) // BATCH  # a first run takes no clip of a further one
LEARNING_RATE = 1.5e-3
STEPS_BETWEEN_SAVES = 100
HELD_OUT_CLIPS = 1000
WEIGHTS = "model.safetensors"


class PoseProbe(nn.Module):
    """Reads the shape's place, size and angle from the tokens half way through the encoder, for training only.

    Labels alone soon teach where a shape goes, but which way it turns very slowly. That is a product of two angles,
    and nothing says that angles matter. With them asked for half way, the layers behind only have to compare.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.read = nn.Linear(model.config.hidden_size, 5)
        self.times, self.order = model.config.grid.slices, model.token_order
        layers = next(module for module in model.modules() if isinstance(module, Stack)).layer
        layers[(len(layers) + 1) // 2 - 1].register_forward_hook(self._keep)

    def _keep(self, _layer: nn.Module, _given: tuple[Tensor, ...], found: Attended) -> None:
        self.tokens = found.context

    def forward(self) -> Tensor:
        """(B, T', 5) of the clips that the model saw last."""
        count = self.tokens.shape[1] // self.times * self.times  # without a class token
        if self.order == "slice-by-slice":
            by_time = torch.unflatten(self.tokens[:, -count:], 1, (self.times, -1))  # (B, N, D) -> (B, T', N / T', D)
            return cast(Tensor, self.read(by_time.mean(dim=2)))
        by_place = torch.unflatten(self.tokens[:, -count:], 1, (-1, self.times))  # (B, N, D) -> (B, N / T', T', D)
        return cast(Tensor, self.read(by_place.mean(dim=1)))


@dataclass
class TrainingRun:
    """A training run at some step. first_seed: of its clips; seconds: time spent on it so far."""

    model: Model
    probe: PoseProbe
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    first_seed: int
    step: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """There is always a whole state to continue from."""
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        with written_file(path) as beside:
            torch.save({"step": self.step, "seconds": self.seconds, **parts}, beside)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.step, self.seconds = state["step"], state["seconds"]
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "probe": self.probe, "optimizer": self.optimizer, "schedule": self.schedule}


def initialise(model: Model) -> None:
    """Random weights: matrices so that values keep about their size from layer to layer, and a classifier that
    starts undecided. Learned positions start as VideoMAE's fixed ones, in which a step in space or time is the same
    everywhere. The class token, in front of them, starts as an average over all tokens."""
    for name, parameter in model.named_parameters():
        if name.startswith("classifier"):
            nn.init.zeros_(parameter)
        elif parameter.ndim == 2:
            nn.init.trunc_normal_(parameter, std=0.7 * parameter.shape[1] ** -0.5)
        elif name.endswith("position_embeddings"):
            _, tokens, width = parameter.shape
            nn.init.zeros_(parameter)
            parameter.data[:, 1:] = sinusoid_table(tokens - 1, width)
        elif name.endswith("time_embeddings"):  # its columns the other way round, so that time differs from space
            _, times, width = parameter.shape
            parameter.data.copy_(sinusoid_table(times, width).flip(-1))


def start(family: str, steps: int, checkpoint: Path | None = None) -> TrainingRun:
    """A run at its beginning: AdamW under a one-cycle schedule, everything seeded. The weights are random, or those of
    a checkpoint."""
    torch.manual_seed(0)
    model = build(family)
    if checkpoint is None:
        initialise(model)
    else:
        try:
            model.load_state_dict(load_file(checkpoint / WEIGHTS))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0].rstrip(":")
            raise click.ClickException(f"{checkpoint} holds no weights of the demo {family}: {reason}") from error
    probe = PoseProbe(model)
    optimizer = torch.optim.AdamW(
        [*model.parameters(), *probe.parameters()], lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.05, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    return TrainingRun(
        model, probe, optimizer, schedule, FIRST_TRAINING_SEED if checkpoint is None else FIRST_FURTHER_SEED
    )


def state_file(family: str, steps: int, checkpoint: Path | None) -> Path:
    """Where a run is saved. One that goes on from other weights is another run."""
    origin = "" if checkpoint is None else f"-from-{file_sha256(checkpoint / WEIGHTS)[:8]}"
    return Path("build/train-demo") / f"{family}-{steps}{origin}.pt"


def train(
    run: TrainingRun, spec: ClipSpec, steps: int, save: Callable[[], None], report: Callable[[str], None]
) -> None:
    """Take the run from the step where it is to the last one."""
    seeds = range(run.first_seed + run.step * BATCH, run.first_seed + steps * BATCH)
    clips = TrainingClips(spec, run.model.config.grid.slices, seeds)
    batches = DataLoader(clips, batch_size=BATCH, num_workers=1, prefetch_factor=4)
    before = run.seconds
    began = time.perf_counter()
    losses, errors, right = [], [], 0
    for pixel_values, labels, poses, visible in batches:
        logits = run.model(pixel_values)  # (B, K)
        error = ((run.probe() - poses) ** 2).mean(dim=-1)  # (B, T', 5) -> (B, T')
        loss = F.cross_entropy(logits, labels, label_smoothing=0.05) + (error * visible).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
        run.optimizer.step()
        run.schedule.step()
        run.optimizer.zero_grad()

        run.step += 1
        run.seconds = before + time.perf_counter() - began
        losses.append(loss.item())
        errors.append((error * visible).mean().item())
        right += int((logits.argmax(dim=1) == labels).sum())
        if run.step % STEPS_BETWEEN_SAVES == 0 or run.step == steps:
            save()
            share = right / (len(losses) * BATCH)
            report(
                f"step {run.step}/{steps}  loss {np.mean(losses):.3f}  pose {np.mean(errors):.3f}  right {share:6.1%}  "
                f"{run.seconds / 60:.1f} minutes"
            )
            losses, errors, right = [], [], 0


def score_model(model: Model, spec: ClipSpec) -> Scores:
    """Score the torch model itself on the held-out clips."""

    def infer(batch: NDArray[Any]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return cast(NDArray[np.float32], model(torch.from_numpy(batch)).numpy())

    model.eval()
    with StatusLine() as progress, tempfile.TemporaryDirectory() as folder:
        measure = partial(score, infer, spec, clips=HELD_OUT_CLIPS, progress=progress)
        return Scores(
            drawn=measure(partial(rendered_frames, spec)),
            filmed=measure(partial(filmed_frames, spec, folder=Path(folder))),
            single_frame=measure(partial(rendered_frames, spec, single_frame=True)),
        )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("family", type=click.Choice(list(CONFIGS)))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="The checkpoint's folder.  [default: artifacts/demo/FAMILY]",
)
@click.option(
    "--steps",
    type=click.IntRange(20, MOST_STEPS),
    default=STEPS,
    show_default=True,
    help=f"How many, of {BATCH} clips each.",
)
@click.option(
    "--from",
    "checkpoint",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Go on from the weights of this checkpoint, with motions that begin and end.",
)
def main(family: str, out: Path | None, steps: int, checkpoint: Path | None) -> None:
    """Train the demo model of FAMILY and write it as a checkpoint."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    spec = demo_spec(family)
    run = start(family, steps, checkpoint)
    state = state_file(family, steps, checkpoint)
    if state.exists():
        run.load(state)
        click.echo(f"continues after step {run.step}, as saved in {state}")
    train(run, spec, steps, lambda: run.save(state), click.echo)

    click.echo(f"scoring on {HELD_OUT_CLIPS} held-out clips")
    scores = score_model(run.model, spec)
    folder = Path("artifacts/demo") / family if out is None else out
    training = Training(steps, BATCH, run.seconds / 60, run.first_seed)
    write_checkpoint(folder, run.model, family, training, scores)
    click.echo(
        f"drawn         {scores.drawn}\nfilmed        {scores.filmed}\nsingle frame  {scores.single_frame}\n"
        f"written to {folder}"
    )


if __name__ == "__main__":
    main()
