"""One command for a machine with a GPU: exports, builds, checks and times whatever is installed there, writes a report,
and ends with PASS or FAIL.

    python scripts/verify_gpu.py --model google/vivit-b-16x2-kinetics400 --report gpu.json

PASS means that at least one GPU backend ran, and that every one that could run computed what torch computed, in every
precision and with both forms of input. Times go from clips in host memory to logits in host memory.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from tubelet.preprocess.errors import BackendError, MissingExtra, ParityError, TubeletError
from tubelet.preprocess.frames import Frames
from tubelet.preprocess.prepare import prepare
from tubelet.preprocess.spec import LAYOUTS, InputName
from tubelet.runtime import Bundle
from tubelet.runtime.backends import open_backend
from tubelet.runtime.engines import EngineOptions, Profile
from tubelet.runtime.parity import Infer, check_parity
from tubelet.runtime.reference import Reference

ENGINES = (
    ("onnxruntime-cuda", "fp32"),
    ("onnxruntime-cuda", "fp16"),
    ("onnxruntime-tensorrt", "fp16"),
    ("tensorrt", "fp32"),
    ("tensorrt", "fp16"),
)
BASELINE = "torch compiled fp16"
PROFILES = (Profile(1, 1, 1), Profile(2, 4, 8), Profile(9, 32, 32))
GOAL = 1.3  # clips a second against BASELINE at batches 1 and 8, on a Hopper GPU
ROUNDS = 7
PEAK_SIZE = 8192  # of the square matrices that the GPU's own limit is measured with


@dataclass(frozen=True)
class Check:
    """One thing that was tried. outcome: "pass", "fail", or "absent" for what is not installed here."""

    name: str
    outcome: str
    detail: str


@dataclass(frozen=True)
class Timing:
    """The median over the rounds. share: of the matrix peak in half precision, None without torch to measure it."""

    subject: str
    batch: int
    latency_ms: float
    clips_per_second: float
    against_baseline: float | None
    share_of_peak: float | None


def export_forms(model: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """A bundle with fp32 and fp16 graphs for each form of input."""
    from tubelet.exporter.checkpoint import load_checkpoint
    from tubelet.exporter.export import export_bundle

    checkpoint = load_checkpoint(model, report=click.echo)
    names: tuple[InputName, ...] = tuple(LAYOUTS)
    for name in names:
        click.echo(f"exporting with input {name}")
        bundle, _ = export_bundle(checkpoint, folder / name, input_name=name, precisions=("fp16",))
        yield name, bundle.path


def check_engine(bundle: Bundle, backend: str, precision: str) -> Check:
    """Builds the engine where the backend needs one, and compares it with torch's logits."""
    name = f"{backend} {precision} {bundle.graph('fp32').inputs[0].name}"
    try:
        if backend == "tensorrt":
            from tubelet.exporter.to_engine import build_engine

            built = build_engine(bundle, EngineOptions(precision, PROFILES), fallbacks=False, force=True)
            layers = ", ".join(f"{count} {kind}" for kind, count in built.record.layers.items())
            detail = f"built in {built.record.build_seconds:.0f} s, layers: {layers}; "
        else:
            detail = ""
        with open_backend(backend, bundle, precision) as engine:
            reference = Reference.load(bundle.verified(bundle.reference))
            report = check_parity(engine.infer, reference, bundle.spec, backend=backend, precision=precision)
    except MissingExtra as error:
        return Check(name, "absent", error.message)
    except ParityError as error:
        return Check(name, "fail", str(error))
    except BackendError as error:
        absent = "was built without" in error.message or "cudaErrorInsufficientDriver" in error.message
        return Check(name, "absent" if absent else "fail", str(error))
    worst = max((row.excess for row in report.batches if row.excess is not None), default=float("nan"))
    return Check(name, "pass" if report.passed else "fail", f"{detail}{worst:.1%} of the limit")


def torch_subjects(model: str) -> dict[str, Infer]:
    """Our own torch modules on the GPU in half precision: attention step by step, fused, and compiled."""
    import torch
    from tubelet.exporter.checkpoint import load_checkpoint
    from tubelet.exporter.models.attention import attend_with, eager_attention

    def load() -> Any:
        return load_checkpoint(model, report=lambda _: None).model.eval().half().cuda()

    eager, fused = load(), load()
    attend_with(eager, eager_attention)
    compiled = torch.compile(load(), mode="reduce-overhead")

    def infer(module: Any, batch: NDArray[Any]) -> NDArray[np.float32]:
        with torch.inference_mode():
            clips = torch.from_numpy(batch).pin_memory().cuda(non_blocking=True).half()
            logits: NDArray[np.float32] = module(clips).float().cpu().numpy()
            return logits

    modules = {"torch eager fp16": eager, "torch sdpa fp16": fused, BASELINE: compiled}
    return {name: partial(infer, module) for name, module in modules.items()}


def matrix_peak() -> float:
    """Multiplications a second of a large product in float16, as torch does it: the best of several, in FLOP/s."""
    import torch

    left, right = (torch.randn(PEAK_SIZE, PEAK_SIZE, device="cuda", dtype=torch.float16) for _ in range(2))
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    best = float("inf")
    for _ in range(20):
        start.record()
        torch.matmul(left, right)
        end.record()
        torch.cuda.synchronize()
        best = min(best, start.elapsed_time(end) / 1000)
    return float(2 * PEAK_SIZE**3 / best)


def time_subjects(subjects: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median of each in seconds. In turn, so that a clock that drifts hurts all alike."""
    for run in subjects.values():
        for _ in range(3):
            run()
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, run in subjects.items():
            run()  # the caches and the clock are this subject's own then
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def time_everything(
    engines: dict[str, tuple[Bundle, Infer]], baselines: dict[str, Infer], batches: list[int], peak: float | None
) -> list[Timing]:
    rows = []
    for batch in batches:
        subjects: dict[str, Callable[[], object]] = {}
        for name, (bundle, infer) in engines.items():
            subjects[name] = partial(infer, clips_of(bundle, batch))
        pixels = next((bundle for bundle, _ in engines.values() if bundle.spec.layout == "TCHW"), None)
        if pixels is not None:
            subjects |= {name: partial(infer, clips_of(pixels, batch)) for name, infer in baselines.items()}
        times = time_subjects(subjects, ROUNDS)
        for name, seconds in times.items():
            bundle = next(iter(engines.values()))[0]
            flop = 2 * sum(product.macs for product in bundle.products) * batch
            baseline = times.get(BASELINE)
            rows.append(
                Timing(
                    name,
                    batch,
                    seconds * 1000,
                    batch / seconds,
                    None if baseline is None else baseline / seconds,
                    None if peak is None else flop / seconds / peak,
                )
            )
    return rows


def clips_of(bundle: Bundle, batch: int) -> NDArray[Any]:
    """The reference clips, prepared, one after the other until the batch is full."""
    reference = Reference.load(bundle.verified(bundle.reference))
    prepared = [prepare(Frames.from_array(clip), bundle.spec) for clip in reference.clips]
    return np.stack([prepared[i % len(prepared)] for i in range(batch)])


def timing_table(rows: list[Timing]) -> str:
    lines = [f"{'':<36}{'batch':>6}{'ms':>10}{'clips/s':>10}{'x compiled':>12}{'of peak':>9}"]
    for row in rows:
        against = "-" if row.against_baseline is None else f"{row.against_baseline:.2f}"
        share = "-" if row.share_of_peak is None else f"{row.share_of_peak:.1%}"
        lines.append(
            f"{row.subject:<36}{row.batch:>6}{row.latency_ms:>10.2f}{row.clips_per_second:>10.1f}{against:>12}{share:>9}"
        )
    return "\n".join(lines)


def goal_line(rows: list[Timing]) -> str:
    """Whether an fp16 engine reaches GOAL at batches 1 and 8; no part of PASS, since it is a goal for Hopper alone."""
    best = {
        batch: max(
            (
                row.against_baseline
                for row in rows
                if row.batch == batch and "torch" not in row.subject and "fp16" in row.subject and row.against_baseline
            ),
            default=None,
        )
        for batch in (1, 8)
    }
    if None in best.values():
        return f"goal ({GOAL}x {BASELINE} on Hopper): not measured"
    reached = ", ".join(f"{ratio:.2f}x at batch {batch}" for batch, ratio in best.items())
    return f"goal ({GOAL}x {BASELINE} on Hopper): {reached}"


def gpu_of_torch() -> str | None:
    """The GPU's name, None where torch is absent or sees none."""
    try:
        import torch
    except ImportError:
        return None
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


@click.command(help=__doc__)
@click.option("--model", metavar="ID|FOLDER", help="A checkpoint, exported first; torch on the GPU is timed beside it.")
@click.option("--bundle", type=click.Path(exists=True, path_type=Path), help="A bundle, instead, with fp32 and fp16.")
@click.option(
    "--batch", "batches", multiple=True, type=click.IntRange(min=1), default=(1, 2, 4, 8, 16, 32), show_default=True
)
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write all of it as JSON.")
def main(model: str | None, bundle: Path | None, batches: tuple[int, ...], report: Path | None) -> None:
    if (model is None) == (bundle is None):
        raise click.UsageError("give either --model or --bundle")
    with ExitStack() as stack:
        try:
            if model is not None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                paths = [path for _, path in export_forms(model, folder)]
            else:
                paths = [bundle] if bundle is not None else []
            bundles = [Bundle.open(path) for path in paths]
            checks = [check_engine(one, *engine) for one in bundles for engine in ENGINES]
        except TubeletError as error:
            raise click.ClickException(str(error)) from error
        for check in checks:
            click.echo(f"{check.outcome:<8}{check.name}: {check.detail}")
        engines: dict[str, tuple[Bundle, Infer]] = {}
        passed = {check.name for check in checks if check.outcome == "pass"}
        for one in bundles:
            for backend, precision in ENGINES:
                name = f"{backend} {precision} {one.graph('fp32').inputs[0].name}"
                if name in passed:
                    engines[name] = (one, stack.enter_context(open_backend(backend, one, precision)).infer)
        gpu = gpu_of_torch()
        baselines = torch_subjects(model) if model is not None and gpu is not None else {}
        peak = matrix_peak() if gpu is not None else None
        rows = time_everything(engines, baselines, list(batches), peak) if engines else []
    if rows:
        click.echo(f"\n{timing_table(rows)}\n\n{goal_line(rows)}")
        click.echo(
            "matrix peak: "
            + ("not measured, without torch on the GPU" if peak is None else f"{peak / 1e12:.0f} TFLOP/s")
        )
    good = bool(engines) and all(check.outcome != "fail" for check in checks)
    if report is not None:
        document = {
            "passed": good,
            "gpu": gpu,
            "peak_flops": peak,
            "checks": [asdict(check) for check in checks],
            "timings": [asdict(row) for row in rows],
        }
        report.write_text(json.dumps(document, indent=2) + "\n")
    click.echo(f"\n{'PASS' if good else 'FAIL'}" + ("" if engines else ": no GPU backend could run here"))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
