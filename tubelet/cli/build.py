"""`tubelet build`."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import get_args

import click

from ..preprocess.errors import MissingExtra
from ..runtime.bundle.bundle import Bundle
from ..runtime.bundle.engines import SOURCES, EngineOptions, Profile
from ..runtime.bundle.rtx_engines import Capability, Target, parse_sm
from ..runtime.progress import StatusLine
from .options import bundle_argument, json_option, note, print_json


class ProfileType(click.ParamType[Profile]):
    """MIN:OPT:MAX, or one number."""

    name = "profile"

    def convert(self, value: str, parameter: click.Parameter | None, context: click.Context | None) -> Profile:
        try:
            return Profile.parse(value)
        except ValueError as error:
            self.fail(str(error), parameter, context)


class CapabilityList(click.ParamType[tuple[Capability, ...]]):
    """Compute capabilities as NVIDIA's compilers call them, separated by commas: 89 is 8.9, 120 is 12.0."""

    name = "capabilities"

    def convert(
        self, value: str | tuple[Capability, ...], parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[Capability, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(parse_sm(part) for part in value.split(","))
        except ValueError as error:
            self.fail(str(error), parameter, context)


@click.command()
@bundle_argument
@click.option(
    "--target",
    type=click.Choice(get_args(Target)),
    default="gpu",
    show_default=True,
    help="gpu: the one here. rtx: GPUs of the RTX kind, built on any machine, proven later on each.",
)
@click.option(
    "--sm",
    "capabilities",
    type=CapabilityList(),
    default=(),
    metavar="N,...",
    help="With --target rtx, for which compute capabilities, such as 89,120.  [default: all that can]",
)
@click.option(
    "--precision",
    type=click.Choice(list(SOURCES)),
    default="fp16",
    show_default=True,
    help="What the engine computes in. tf32 is fp32 with products on TF32 tensor cores.",
)
@click.option(
    "--batch",
    "profiles",
    multiple=True,
    type=ProfileType(),
    metavar="MIN:OPT:MAX",
    help="Batch sizes, and the one to tune for; repeated, for several profiles.  [default: 1:4:8]",
)
@click.option(
    "--opt-level", type=click.IntRange(0, 5), default=3, show_default=True, help="How long TensorRT searches."
)
@click.option(
    "--workspace-gb",
    type=float,
    help="GPU memory that a kernel may take for itself.  [default: all]",
)
@click.option("--no-fallback", is_flag=True, help="Fail where the engine is wrong, instead of trying another recipe.")
@click.option("--force", is_flag=True, help="Replace an engine that is there already.")
@click.option("--dry-run", is_flag=True, help="Read the graphs, show their layers and types, and build nothing.")
@json_option
def build(
    bundle: Path,
    target: Target,
    capabilities: tuple[Capability, ...],
    precision: str,
    profiles: tuple[Profile, ...],
    opt_level: int,
    workspace_gb: float | None,
    no_fallback: bool,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Build a TensorRT engine from BUNDLE, on the machine that will run it, or for RTX GPUs on any.

    For the GPU here it ends by running the bundle's reference clips through the engine and comparing with torch's
    logits. Outside tolerance the engine is not kept, and other recipes are tried. They are named: bf16, attention in
    float32, attention unfused, fp32. In int8-static and fp8 the linear layers multiply 8 bits and the rest float16.
    Exits with 3 when none is within tolerance.

    With --target rtx nothing runs here, and no GPU is needed. The engine is not yet proven: on the GPU, `tubelet check
    --backend tensorrt-rtx` does that.

    With --dry-run the graphs go as far as TensorRT's parser, where a TensorRT is installed. That for RTX needs no GPU.
    Exits with 1 where something would be refused.

    \b
    Example:
      tubelet build artifacts/vivit-b-16x2-kinetics400 --precision fp16 --batch 1:4:8
      tubelet build artifacts/vivit-b-16x2-kinetics400 --target rtx --sm 89,120
      tubelet classify artifacts/vivit-b-16x2-kinetics400 VIDEO --backend tensorrt --precision fp16
    """
    options = EngineOptions(precision, profiles or EngineOptions.profiles, opt_level, workspace_gb)
    if target == "gpu" and capabilities:
        raise click.UsageError("--sm goes with --target rtx; without it the engine is for the GPU here")
    if target == "rtx" and no_fallback:
        raise click.UsageError("--no-fallback goes without --target rtx, for which nothing else is tried")
    opened = Bundle.open(bundle)
    for package in ("onnx", "onnx_ir"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "rtx" if target == "rtx" else "tensorrt", purpose="to build an engine")
    if dry_run:
        _show_dry_run(opened, options, target, capabilities, fallbacks=not no_fallback, force=force, as_json=as_json)
    elif target == "rtx":
        _build_for_rtx(opened, options, capabilities, force=force, as_json=as_json)
    else:
        _build_for_this_gpu(opened, options, fallbacks=not no_fallback, force=force, as_json=as_json)


def _show_dry_run(
    bundle: Bundle,
    options: EngineOptions,
    target: Target,
    capabilities: tuple[Capability, ...],
    *,
    fallbacks: bool,
    force: bool,
    as_json: bool,
) -> None:
    from ..exporter.tensorrt.dry_run import dry_run

    with StatusLine() as progress:
        found = dry_run(
            bundle,
            options,
            target=target,
            compute_capabilities=capabilities,
            fallbacks=fallbacks,
            force=force,
            progress=progress,
        )
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(found.table())
    if not found.would_build:
        raise click.exceptions.Exit(1)


def _build_for_rtx(
    bundle: Bundle, options: EngineOptions, capabilities: tuple[Capability, ...], *, force: bool, as_json: bool
) -> None:
    from ..exporter.tensorrt.rtx import build_rtx_engine

    with StatusLine() as progress:
        built = build_rtx_engine(
            bundle, options, capabilities, force=force, progress=progress, say=progress.aside(note)
        )
    record = built.record
    if as_json:
        print_json({"engine": str(built.plan)} | dataclasses.asdict(record))
        return
    gpus = ", ".join("{}.{}".format(*capability) for capability in record.compute_capabilities)
    click.echo(
        f"built in {record.build_seconds:.0f} s with TensorRT for RTX {record.tensorrt_rtx}, "
        f"for GPUs of compute capability {gpus}\n\n{built.plan} is built, and not yet proven; on the GPU:\n"
        f"  tubelet check {bundle.path} --backend tensorrt-rtx --precision {options.precision}\n"
        f"  tubelet classify {bundle.path} VIDEO --backend tensorrt-rtx --precision {options.precision}"
    )


def _build_for_this_gpu(bundle: Bundle, options: EngineOptions, *, fallbacks: bool, force: bool, as_json: bool) -> None:
    from ..exporter.tensorrt.build import build_engine

    with StatusLine() as progress:
        built = build_engine(
            bundle,
            options,
            fallbacks=fallbacks,
            force=force,
            progress=progress,
            say=progress.aside(note),
        )
    record = built.record
    for attempt in built.failed:
        note(attempt.describe())
    if built.failed:
        note(f"the engine that was kept is {record.recipe}, after {len(built.failed)} that did not do")
    if as_json:
        print_json({"engine": str(built.plan)} | dataclasses.asdict(record))
        return
    click.echo(
        f"{built.report.table()}\n\n{record.describe_layers()}\n"
        f"built in {record.build_seconds:.0f} s on {record.machine}\n\n{built.plan} is ready\n"
        f"  tubelet classify {bundle.path} VIDEO --backend tensorrt --precision {record.options.precision}"
    )
