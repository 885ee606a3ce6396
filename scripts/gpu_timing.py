"""How fast things are on a GPU, beside one another and beside torch: what scripts/verify_gpu.py measures with.

Times go from clips in host memory to logits in host memory.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tubelet.preprocess.errors import BackendError
from tubelet.preprocess.frames import Frames
from tubelet.preprocess.prepare import prepare
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.reference import load_reference
from tubelet.runtime.precisions import PRECISIONS
from tubelet.runtime.proof.parity import Infer, clips_of_batch, compare_logits

BASELINE = "torch compiled fp16"
GOAL = 1.3  # clips a second against BASELINE at batches 1 and 8, on a Hopper GPU
ROUNDS = 7
WARM_UP = 3
PEAK_SIZE = 8192  # of the square matrices that the GPU's own limit is measured with
PEAK_PRODUCTS = 10  # one after the other, so that the time to start them does not count


@dataclass(frozen=True)
class Subject:
    """Something to time. bundle: whose clips it takes, prepared as that says; precision: what its logits must hold."""

    name: str
    precision: str
    bundle: Bundle
    infer: Infer


@dataclass(frozen=True)
class Timing:
    """The median over the rounds, against the median of BASELINE; share_of_peak: of the GPU's rate in half precision;
    None for what was not measured. cosine: of the logits and torch's in float32, the smallest."""

    subject: str
    batch: int
    latency_ms: float
    clips_per_second: float
    against_baseline: float | None
    share_of_peak: float | None
    cosine: float


@dataclass(frozen=True)
class Failure:
    """A subject that could not be timed at a batch size, or whose logits were wrong there."""

    subject: str
    batch: int
    reason: str


def torch_device() -> str | None:
    """Where torch computes on the GPU; None where torch is absent or sees none."""
    try:
        import torch
    except ImportError:
        return None
    return "cuda" if torch.cuda.is_available() else None


def torch_baselines(model: str, bundle: Bundle, device: str) -> list[Subject]:
    """Our own torch modules in half precision: attention step by step, fused, and compiled. They have the weights of
    the checkpoint that `bundle`, which takes pixel_values, was exported from.
    """
    import torch

    from tubelet.exporter.checkpoint.load import load_checkpoint
    from tubelet.exporter.families.attention import attend_with, eager_attention

    def load() -> Any:
        return load_checkpoint(model, report=lambda _: None).model.eval().half().to(device)

    eager, fused, to_compile = load(), load(), load()
    attend_with(eager, eager_attention)
    # A form for each shape, as engines have it, and CUDA graphs where there are any.
    compiled = torch.compile(to_compile, mode="reduce-overhead", dynamic=False)

    def infer(module: Any, batch: NDArray[Any]) -> NDArray[np.float32]:
        try:
            with torch.inference_mode():
                clips = torch.from_numpy(batch)
                if device == "cuda":
                    clips = clips.pin_memory().to(device, non_blocking=True)
                logits: NDArray[np.float32] = module(clips.half()).float().cpu().numpy()
                return logits
        except RuntimeError as error:  # what the compiler and a lack of memory raise too
            raise BackendError(f"torch failed: {type(error).__name__}: {error}") from error

    modules = {"torch eager fp16": eager, "torch sdpa fp16": fused, BASELINE: compiled}
    return [Subject(name, "fp16", bundle, partial(infer, module)) for name, module in modules.items()]


def forget_compiled() -> None:
    """Frees what torch compiled for other shapes, so that no more than its limit ever comes together."""
    import torch

    torch.compiler.reset()


def matrix_peak(device: str, size: int = PEAK_SIZE) -> float:
    """Operations a second of large products in float16, as torch does them: the best of several, in FLOP/s."""
    import torch

    left, right = (torch.randn(size, size, device=device, dtype=torch.float16) for _ in range(2))

    def multiply() -> None:
        for _ in range(PEAK_PRODUCTS):
            torch.matmul(left, right)
        if device == "cuda":
            torch.cuda.synchronize()

    multiply()
    return 2 * size**3 * PEAK_PRODUCTS / min(seconds(multiply) for _ in range(10))


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def time_everything(
    subjects: Sequence[Subject], batches: Sequence[int], *, peak: float | None
) -> tuple[list[Timing], list[Failure]]:
    """Each subject at each batch size; peak: see `matrix_peak`. One that fails is left out where it does, and said."""
    timings: list[Timing] = []
    failures: list[Failure] = []
    for batch in batches:
        if any(subject.name == BASELINE for subject in subjects):
            forget_compiled()
        clips = {subject.bundle.path: clips_of(subject.bundle, batch) for subject in subjects}
        ready: dict[str, tuple[Subject, Callable[[], NDArray[np.float32]], float]] = {}
        for subject in subjects:
            run = partial(subject.infer, clips[subject.bundle.path])
            outcome = _first_runs(subject, run, batch)
            if isinstance(outcome, Failure):
                failures.append(outcome)
            else:
                ready[subject.name] = (subject, run, outcome)
        medians = _time_in_turn({name: run for name, (_, run, _) in ready.items()})
        for name, latency in medians.items():
            subject, _, cosine = ready[name]
            flop = 2 * batch * sum(product.macs for product in subject.bundle.products)
            timings.append(
                Timing(
                    name,
                    batch,
                    latency_ms=latency * 1000,
                    clips_per_second=batch / latency,
                    against_baseline=medians[BASELINE] / latency if BASELINE in medians else None,
                    share_of_peak=None if peak is None else flop / latency / peak,
                    cosine=cosine,
                )
            )
    return timings, failures


def _first_runs(subject: Subject, run: Callable[[], NDArray[np.float32]], batch: int) -> float | Failure:
    """The cosine of its logits, once it is warm."""
    try:
        for _ in range(WARM_UP):
            logits = run()
    except Exception as error:  # whatever it is, the others are still to be timed
        return Failure(subject.name, batch, f"{type(error).__name__}: {error}")
    reference = load_reference(subject.bundle)
    taken = clips_of_batch(batch, len(reference.clips))
    limit = PRECISIONS[subject.precision].limit
    parity = compare_logits(logits, reference.logits[taken], taken, limit)
    if parity.passed and parity.cosine is not None:
        return parity.cosine
    return Failure(subject.name, batch, f"its logits are outside {limit}: cosine {parity.cosine}")


def _time_in_turn(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median of each in seconds. In turn, so that a clock that drifts hurts all alike."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            run()  # the caches and the clock are this subject's own then
            times[name].append(seconds(run))
    return {name: statistics.median(values) for name, values in times.items()}


def clips_of(bundle: Bundle, batch: int) -> NDArray[Any]:
    """The reference clips, prepared, one after the other until the batch is full. They start with the second, as in
    the other batches that are checked.
    """
    reference = load_reference(bundle)
    prepared = [prepare(Frames.from_array(clip), bundle.spec) for clip in reference.clips]
    return np.stack([prepared[i] for i in clips_of_batch(batch, len(prepared))])


def timing_table(rows: Sequence[Timing]) -> str:
    lines = [f"{'':<38}{'batch':>6}{'ms':>10}{'clips/s':>10}{'x compiled':>12}{'of peak':>9}{'cosine':>11}"]
    for row in rows:
        against = "-" if row.against_baseline is None else f"{row.against_baseline:.2f}"
        share = "-" if row.share_of_peak is None else f"{row.share_of_peak:.1%}"
        rates = f"{row.latency_ms:>10.2f}{row.clips_per_second:>10.1f}{against:>12}{share:>9}"
        lines.append(f"{row.subject:<38}{row.batch:>6}{rates}{row.cosine:>11.6f}")
    return "\n".join(lines)


def goal_line(rows: Sequence[Timing]) -> str:
    """Whether an fp16 engine reaches GOAL at batches 1 and 8. It is no part of PASS: the goal is for Hopper alone."""
    reached = []
    for batch in (1, 8):
        ratios = [
            row.against_baseline
            for row in rows
            if row.batch == batch and not row.subject.startswith("torch") and " fp16 " in row.subject
            if row.against_baseline is not None
        ]
        if not ratios:
            return f"goal ({GOAL}x {BASELINE} on Hopper): not measured"
        reached.append(f"{max(ratios):.2f}x at batch {batch}")
    return f"goal ({GOAL}x {BASELINE} on Hopper): {', '.join(reached)}"
