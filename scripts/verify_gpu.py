"""One command for a machine with a GPU: exports, builds, checks and times whatever is installed there. It writes a
report, and ends with PASS or FAIL.

    python scripts/verify_gpu.py --model google/vivit-b-16x2-kinetics400 --report gpu.json

PASS means that at least one GPU backend ran, and that every one that could run computed what torch computed. That is in
every precision, with both forms of input and at every batch size that was timed. What is not installed here is absent,
and no failure: engines for RTX GPUs are on a Hopper GPU, say. Times go from clips in host
memory to logits in host memory.
"""

import dataclasses
import json
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import click
import gpu_timing
from gpu_timing import Failure, Subject, Timing, goal_line, time_everything, timing_table, torch_baselines

from tubelet.preprocess.errors import MissingExtra, NotAvailable, ParityError, TubeletError
from tubelet.preprocess.spec import LAYOUTS, InputName
from tubelet.runtime.backends import open_backend
from tubelet.runtime.backends.backend import Backend
from tubelet.runtime.backends.cuda import Cuda
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.engines import EngineOptions, Profile
from tubelet.runtime.bundle.reference import load_reference
from tubelet.runtime.doctor import examine
from tubelet.runtime.packages import PLUGIN_PACKAGE, installed_version
from tubelet.runtime.precisions import BackendName, GraphPrecision, graphs_for
from tubelet.runtime.progress import StatusLine
from tubelet.runtime.proof.parity import check_parity, limit_of

# What is checked and timed with each form of input, and what with the first alone: it differs in the first node only.
ENGINES: tuple[tuple[BackendName, str], ...] = (
    ("onnxruntime-cuda", "fp32"),
    ("onnxruntime-cuda", "fp16"),
    ("onnxruntime-tensorrt", "fp16"),
    ("tensorrt", "fp32"),
    ("tensorrt", "fp16"),
    ("tensorrt-rtx", "fp32"),
    ("tensorrt-rtx", "fp16"),
)
ONCE: tuple[tuple[BackendName, str], ...] = (
    *(("tensorrt", precision) for precision in ("tf32", "bf16", "int8-static", "fp8")),
    *(("tensorrt-rtx", precision) for precision in ("tf32", "bf16", "int8-static", "fp8")),
    ("onnxruntime-tensorrt-rtx", "fp16"),
)
# Brings the library of tensorrt-rtx in another build, and so is checked in a process of its own, and not timed.
ALONE = "onnxruntime-tensorrt-rtx"
EIGHT_BIT: tuple[GraphPrecision, ...] = ("int8-static", "fp8")
PROFILES = (Profile(1, 1, 1), Profile(2, 4, 8), Profile(9, 32, 32))


@dataclass(frozen=True)
class Check:
    """One thing that was tried. outcome: "pass", "fail", or "absent" for what this machine or bundle does not have."""

    name: str
    outcome: str
    detail: str


def export_forms(model: str, folder: Path) -> Iterator[Bundle]:
    """A bundle for each form of input, with fp32 and fp16 graphs; and in 8 bits the first."""
    from tubelet.exporter.checkpoint.load import load_checkpoint
    from tubelet.exporter.export import export_bundle
    from tubelet.exporter.lower.search import add_graph
    from tubelet.exporter.options import ExportOptions

    checkpoint = load_checkpoint(model, report=click.echo)
    names: tuple[InputName, ...] = tuple(LAYOUTS)
    for name in names:
        click.echo(f"exporting with input {name}")
        with StatusLine() as progress:
            bundle, _ = export_bundle(
                checkpoint, folder / name, ExportOptions(input_name=name, precisions=("fp16",)), progress=progress
            )
            for precision in EIGHT_BIT if name == names[0] else ():
                try:
                    bundle, _ = add_graph(bundle, precision, progress=progress)
                except ParityError as error:  # of this model in 8 bits; its engine is absent then
                    click.echo(str(error))
        yield bundle


def engines_of(bundles: list[Bundle]) -> Iterator[tuple[Bundle, BackendName, str]]:
    for number, bundle in enumerate(bundles):
        for backend, precision in (*ENGINES, *ONCE) if number == 0 else ENGINES:
            yield bundle, backend, precision


def name_of(bundle: Bundle, backend: str, precision: str) -> str:
    return f"{backend} {precision} {bundle.graph('fp32').inputs[0].name}"


def check_alone(bundle: Bundle, backend: BackendName, precision: str) -> Check:
    """`check_engine` in a process of its own."""
    if installed_version(PLUGIN_PACKAGE) is None:
        return Check(name_of(bundle, backend, precision), "absent", f"{PLUGIN_PACKAGE} is not installed")
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(check_engine, bundle, backend, precision).result()


def check_engine(bundle: Bundle, backend: BackendName, precision: str) -> Check:
    """Build the engine where the backend needs one, and compare it with torch's logits."""
    name = name_of(bundle, backend, precision)
    source = graphs_for(backend)[precision]
    if source not in {graph.precision for graph in bundle.graphs}:
        fix = f"tubelet quantize {bundle.path} --precision {source}"
        return Check(name, "absent", f"the bundle has no {source} graph\n  fix: {fix}")
    try:
        with warnings.catch_warnings(record=True) as noted:
            warnings.simplefilter("always")
            passed, detail = _try_engine(bundle, backend, precision)
    except (MissingExtra, NotAvailable) as error:
        return Check(name, "absent", str(error))
    except TubeletError as error:
        return Check(name, "fail", str(error))
    except Exception:  # of TensorRT, CUDA or ONNX Runtime: whatever it is, the rest is still to be checked
        return Check(name, "fail", traceback.format_exc())
    notes = [f"\n  {warning.category.__name__}: {warning.message}" for warning in noted]
    return Check(name, "pass" if passed else "fail", detail + "".join(dict.fromkeys(notes)))


def _try_engine(bundle: Bundle, backend: BackendName, precision: str) -> tuple[bool, str]:
    """Whether it computes what torch computes, and how nearly."""
    detail = ""
    if backend == "tensorrt":
        from tubelet.exporter.tensorrt.build import build_engine

        options = EngineOptions(precision, PROFILES)
        with StatusLine() as progress:
            built = build_engine(bundle, options, fallbacks=False, force=True, progress=progress)
        detail = f"built in {built.record.build_seconds:.0f} s; {built.record.describe_layers()}; "
    if backend == "tensorrt-rtx":
        from tubelet.exporter.tensorrt.rtx import build_rtx_engine

        capability = Cuda().device().compute_capability  # Hopper is refused for what it is
        with StatusLine() as progress:
            rtx = build_rtx_engine(
                bundle, EngineOptions(precision, PROFILES), [capability], force=True, progress=progress
            )
        detail = f"built in {rtx.record.build_seconds:.0f} s; "
    with open_backend(backend, bundle, precision) as engine:
        reference = load_reference(bundle)
        limit = limit_of(bundle, precision, reference)
        report = check_parity(engine.infer, reference, bundle.spec, limit=limit, backend=backend, precision=precision)
    worst = max((row.excess for row in report.batches if row.excess is not None), default=float("nan"))
    return report.passed, detail + (f"{worst:.1%} of the limit" if report.passed else f"\n{report.table()}")


def open_subjects(bundles: list[Bundle], checks: list[Check], stack: ExitStack) -> Iterator[Subject | Check]:
    """Whatever passed, loaded once more, for timing; a check that fails for what does not load beside the others."""
    passed = {check.name for check in checks if check.outcome == "pass"}
    for bundle, backend, precision in engines_of(bundles):
        name = name_of(bundle, backend, precision)
        if name in passed and backend != ALONE:
            try:
                engine: Backend = stack.enter_context(open_backend(backend, bundle, precision))
            except Exception:  # the GPU's memory, say
                yield Check(f"{name}, loaded beside the others", "fail", traceback.format_exc())
            else:
                yield Subject(name, precision, bundle, engine.infer)


def torch_part(model: str | None, bundles: list[Bundle]) -> tuple[list[Subject], float | None, Check | None]:
    """torch's baselines and the GPU's matrix peak, as far as torch is here and starts; otherwise what is wrong."""
    device = gpu_timing.torch_device()
    if device is None:
        return [], None, Check("torch", "absent", "it is not installed, or sees no GPU")
    peak = None
    try:
        peak = gpu_timing.matrix_peak(device)
        if model is None:
            return [], peak, Check("torch", "absent", "it computes a checkpoint, which --model names")
        pixels = next(bundle for bundle in bundles if bundle.spec.layout == "TCHW")
        return torch_baselines(model, pixels, device), peak, None
    except Exception:  # engines are timed all the same
        return [], peak, Check("torch", "fail", traceback.format_exc())


def verdict(checks: list[Check], failures: list[Failure]) -> str:
    """PASS, or FAIL and why. torch's own failures are no fault of an engine."""
    if not any(check.outcome == "pass" for check in checks):
        return "FAIL: no GPU backend could run here"
    wrong = [check.name for check in checks if check.outcome == "fail" and check.name != "torch"]
    wrong += [f"{one.subject} at batch {one.batch}" for one in failures if not one.subject.startswith("torch")]
    return f"FAIL: {', '.join(wrong)}" if wrong else "PASS"


@click.command(help=__doc__)
@click.option("--model", metavar="ID|FOLDER", help="A checkpoint, exported first; torch on the GPU is timed beside it.")
@click.option("--bundle", type=click.Path(path_type=Path), help="A bundle, instead; it is copied, not changed.")
@click.option(
    "--batch", "batches", multiple=True, type=click.IntRange(min=1), default=(1, 2, 4, 8, 16, 32), show_default=True
)
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write all of it as JSON.")
def main(model: str | None, bundle: Path | None, batches: tuple[int, ...], report: Path | None) -> None:
    if (model is None) == (bundle is None):
        raise click.UsageError("give either --model or --bundle")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            if model is not None:
                bundles = list(export_forms(model, folder))
            else:
                bundles = [Bundle.open(copy_of(Bundle.open(bundle or ""), folder / "bundle"))]
        except TubeletError as error:
            raise click.ClickException(str(error)) from error
        checks: list[Check] = []

        def note(check: Check) -> None:
            checks.append(check)
            click.echo(f"{check.outcome:<8}{check.name}: {check.detail}")

        for one, backend, precision in engines_of(bundles):
            check = check_alone if backend == ALONE else check_engine
            note(check(one, backend, precision))
        subjects: list[Subject] = []
        for opened in list(open_subjects(bundles, checks, stack)):
            subjects.append(opened) if isinstance(opened, Subject) else note(opened)
        timings: list[Timing] = []
        failures: list[Failure] = []
        peak = None
        if subjects:
            baselines, peak, trouble = torch_part(model, bundles)
            if trouble is not None:
                note(trouble)
            timings, failures = time_everything([*subjects, *baselines], batches, peak=peak)
        say(timings, failures, peak)
        outcome = verdict(checks, failures)
        if report is not None:
            document = {
                "verdict": outcome,
                "machine": examine().to_json(),
                "peak_flops": peak,
                "checks": [dataclasses.asdict(check) for check in checks],
                "failures": [dataclasses.asdict(failure) for failure in failures],
                "timings": [dataclasses.asdict(row) for row in timings],
            }
            report.write_text(json.dumps(document, indent=2) + "\n")
    click.echo(f"\n{outcome}")
    sys.exit(0 if outcome == "PASS" else 1)


def copy_of(bundle: Bundle, folder: Path) -> Path:
    """The bundle without the engines that it may have."""
    folder.mkdir()
    for path in bundle.path.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    return folder


def say(timings: list[Timing], failures: list[Failure], peak: float | None) -> None:
    for failure in failures:
        click.echo(f"fail    {failure.subject} at batch {failure.batch}: {failure.reason}")
    if timings:
        click.echo(f"\n{timing_table(timings)}\n\n{goal_line(timings)}")
        rate = "not measured, without torch on the GPU" if peak is None else f"{peak / 1e12:.4g} TFLOP/s in float16"
        click.echo(f"matrix peak: {rate}")


if __name__ == "__main__":
    main()
