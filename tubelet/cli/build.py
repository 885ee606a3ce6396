"""`tubelet build`."""

import dataclasses
import importlib.util
from pathlib import Path

import click

from ..preprocess.errors import MissingExtra
from ..runtime.bundle.bundle import Bundle
from ..runtime.bundle.engines import SOURCES, EngineOptions, Profile
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


@click.command()
@bundle_argument
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
@json_option
def build(
    bundle: Path,
    precision: str,
    profiles: tuple[Profile, ...],
    opt_level: int,
    workspace_gb: float | None,
    no_fallback: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Build a TensorRT engine from BUNDLE, on the machine that will run it.

    Ends by running the bundle's reference clips through the engine and comparing with torch's logits.
    Outside tolerance the engine is not kept, and other recipes are tried and named: bf16, attention in
    float32, attention unfused, fp32. In int8-static and fp8 the linear layers multiply 8 bits and the
    rest float16. Exits with 3 when none is within tolerance.

    \b
    Example:
      tubelet build artifacts/vivit-b-16x2-kinetics400 --precision fp16 --batch 1:4:8
      tubelet classify artifacts/vivit-b-16x2-kinetics400 VIDEO --backend tensorrt --precision fp16
    """
    options = EngineOptions(precision, profiles or EngineOptions.profiles, opt_level, workspace_gb)
    opened = Bundle.open(bundle)
    for package in ("onnx", "onnx_ir"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "tensorrt", purpose="to build an engine")
    from ..exporter.tensorrt.build import build_engine

    with StatusLine() as progress:
        built = build_engine(
            opened,
            options,
            fallbacks=not no_fallback,
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
        f"  tubelet classify {opened.path} VIDEO --backend tensorrt --precision {record.options.precision}"
    )
