"""The `tubelet` command. Each command is its options, one call into the library, and what to print."""

import importlib.util
import json
import math
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from ..preprocess.errors import MissingExtra, ParityError, TubeletError, VideoError
from ..preprocess.spec import LAYOUTS, InputName
from .backends import BACKENDS, DEFAULT_BACKEND, open_backend
from .bundle import Bundle
from .classifier import SamplingName, VideoClassifier
from .doctor import examine, installed_version
from .parity import ParityReport, Reference, check_parity
from .progress import StatusLine
from .stages import StageReport, check_video

EXIT_PARITY = 3

Command = Callable[..., None]


class ParityFailure(click.ClickException):
    """A graph outside tolerance, told from every other failure by the exit code."""

    exit_code = EXIT_PARITY


class TubeletGroup(click.Group):
    """Turns tubelet's errors into messages and exit codes, in this one place."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TubeletError as error:
            raise (ParityFailure if isinstance(error, ParityError) else click.ClickException)(str(error)) from error


@click.group(cls=TubeletGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(installed_version("tubelet"), message=f"tubelet %(version)s, Python {platform.python_version()}")
def main() -> None:
    """Put video transformers into production.

    A bundle is a folder made from a ViViT or VideoMAE checkpoint. It classifies videos without torch, and
    carries what torch answered, so that any machine can prove that it computes the same.
    """


EXPORT_PACKAGES = ("torch", "onnx", "onnxscript", "safetensors", "onnxruntime")


def require_export_packages() -> None:
    """Raises MissingExtra for the first package that an export would miss, before anything is begun."""
    for package in EXPORT_PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "cpu,export", purpose="to export a checkpoint")


bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


def engine_options(command: Command) -> Command:
    """--backend and --precision, the same for every command that runs a graph."""
    command = click.option(
        "--precision", default="fp32", show_default=True, help="Which of the bundle's graphs to run."
    )(command)
    return click.option(
        "--backend",
        type=click.Choice(list(BACKENDS)),
        default=DEFAULT_BACKEND,
        show_default=True,
        help="What executes the graph.",
    )(command)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def note(message: str) -> None:
    """Says something once that the user should know, beside the result."""
    click.echo(f"note: {message}", err=True)


@main.command()
@click.option("--model", required=True, metavar="ID|FOLDER", help="A checkpoint on the Hub, or in a folder.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The folder of the bundle.  [default: artifacts/ and the name of the model]",
)
@click.option("--revision", metavar="REV", help="A branch, tag or commit on the Hub; ID@REV says the same.")
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Names of the labels: one a line, or JSON, for checkpoints that only have LABEL_0, LABEL_1, ...",
)
@click.option(
    "--input",
    "input_name",
    type=click.Choice(list(LAYOUTS)),
    default="pixel_values",
    show_default=True,
    help="What the graph takes: normalised float32, or uint8 RGB frames that it normalises itself.",
)
@click.option(
    "--video",
    "videos",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Record every stage of this video, for `tubelet check --video` on other machines; may be repeated.",
)
@click.option("--opset", type=click.IntRange(23, 24), default=23, show_default=True, help="ONNX opset.")
@click.option("--force", is_flag=True, help="Replace a bundle that is there already.")
@click.option("--dry-run", is_flag=True, help="Say what would be exported, and write nothing.")
@json_option
def export(
    model: str,
    output: Path | None,
    revision: str | None,
    labels: Path | None,
    input_name: InputName,
    videos: tuple[Path, ...],
    opset: int,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Turn a ViViT or VideoMAE checkpoint into a bundle.

    Ends by comparing the graph with torch on the bundle's reference clips; exits with 3, and leaves no
    bundle, when it is outside tolerance.

    \b
    Example:
      tubelet export --model google/vivit-b-16x2-kinetics400
      tubelet export --model ./my-finetuned-videomae -o artifacts/gestures
    """
    require_export_packages()
    from ..exporter.checkpoint import load_checkpoint
    from ..exporter.export import check_target, default_output, export_bundle, plan_export

    target = default_output(model) if output is None else output
    check_target(target, force=force)  # before anything is downloaded
    with StatusLine() as progress:
        progress(f"loading {model}")
        checkpoint = load_checkpoint(model, revision=revision, labels=labels, report=progress.aside(note))
        plan = plan_export(checkpoint, target, input_name=input_name, opset=opset)
        if dry_run:
            progress.clear()
            print_json(plan.to_json()) if as_json else click.echo(plan.summary())
            return
        bundle, report = export_bundle(
            checkpoint,
            target,
            input_name=input_name,
            videos=videos,
            opset=opset,
            force=force,
            progress=progress,
        )
    for message in bundle.notes:
        note(message)
    if as_json:
        print_json({"bundle": str(bundle.path), "parity": report.to_json()})
    else:
        click.echo(f"{report.table()}\n\n{bundle.path} is ready\n  tubelet classify {bundle.path} VIDEO")


@main.command()
@bundle_argument
@engine_options
@click.option(
    "--video",
    "videos",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Check every stage of a video that was named at the export, instead; may be repeated.",
)
@json_option
def check(bundle: Path, backend: str, precision: str, videos: tuple[Path, ...], as_json: bool) -> None:
    """Prove that BUNDLE computes here what torch computed.

    Prepares the bundle's reference clips, runs them at several batch sizes, and compares with the logits
    that torch gave when the bundle was made. With --video, compares stage by stage what the exporting
    machine recorded for that file: the frames taken, their pixels, the model input, the logits. Exits with
    3 when anything is outside tolerance.

    \b
    Example:
      tubelet check artifacts/vivit-b-16x2-kinetics400
      tubelet check artifacts/vivit-b-16x2-kinetics400 --video archery.mp4
    """
    opened = Bundle.open(bundle)
    named = {"backend": backend, "precision": precision}
    reports: list[ParityReport] | list[StageReport]
    with StatusLine() as progress:
        progress("loading")
        with open_backend(backend, opened, precision) as engine:
            if videos:
                reports = [check_video(video, opened.videos, opened.spec, engine.infer, **named) for video in videos]
            else:
                reference = Reference.load(opened.verified(opened.reference))
                reports = [check_parity(engine.infer, reference, opened.spec, progress=progress, **named)]
    if as_json:
        documents = [report.to_json() for report in reports]
        print_json(documents if len(videos) > 1 else documents[0])
    else:
        click.echo("\n\n".join(report.table() for report in reports))
    if not all(report.passed for report in reports):
        raise click.exceptions.Exit(EXIT_PARITY)


@main.command()
@bundle_argument
@click.argument("videos", metavar="VIDEO...", nargs=-1, required=True)
@engine_options
@click.option("--top-k", type=click.IntRange(min=1), default=5, show_default=True, help="Labels to show.")
@click.option(
    "--sampling",
    type=click.Choice(get_args(SamplingName)),
    default="eval",
    show_default=True,
    help="eval: the frames of the family's published evaluation, centre view; uniform: evenly over the file.",
)
@json_option
def classify(
    bundle: Path,
    videos: tuple[str, ...],
    backend: str,
    precision: str,
    top_k: int,
    sampling: SamplingName,
    as_json: bool,
) -> None:
    """Say what happens in each VIDEO.

    A video that cannot be read is reported, the others are classified, and the exit code is 1.

    \b
    Example:
      tubelet classify artifacts/vivit-b-16x2-kinetics400 archery.mp4 --top-k 3
    """
    opened = Bundle.open(bundle)
    results = []
    failed = False
    with StatusLine() as progress:
        progress("loading")
        with VideoClassifier(opened, open_backend(backend, opened, precision), sampling=sampling) as model:
            for video in videos:
                progress(f"classifying {video}")
                try:
                    result = classify_one(model, video, top_k)
                except VideoError as error:
                    failed = True
                    progress.clear()
                    click.echo(f"Error: {error}", err=True)
                    results.append({"video": video, "error": error.message})
                    continue
                results.append(result)
                if not as_json:
                    progress.clear()
                    print_predictions(result, name_video=len(videos) > 1)
    if as_json:
        print_json(results if len(videos) > 1 else results[0])
    if failed:
        raise click.exceptions.Exit(1)


def classify_one(model: VideoClassifier, video: str, top_k: int) -> dict[str, Any]:
    """The result of one video as JSON has it; seconds are null where the file has no timestamps."""
    frames = model.read(video)
    return {
        "video": video,
        "predictions": [prediction._asdict() for prediction in model.classify(frames, top_k=top_k)],
        "frames": frames.indices.tolist(),
        "seconds": [None if math.isnan(second) else round(second, 6) for second in frames.seconds.tolist()],
    }


def print_predictions(result: dict[str, Any], *, name_video: bool) -> None:
    if name_video:
        click.echo(result["video"])
    for prediction in result["predictions"]:
        click.echo(f"{prediction['score']:7.2%}  {prediction['label']}")


@main.command()
@bundle_argument
@json_option
def info(bundle: Path, as_json: bool) -> None:
    """Show what BUNDLE is: its model, its input, its graphs, and how it was proven.

    \b
    Example:
      tubelet info artifacts/vivit-b-16x2-kinetics400
    """
    opened = Bundle.open(bundle)
    if as_json:
        print_json(opened.to_json())
    else:
        click.echo(opened.summary())


@main.command()
@json_option
def doctor(as_json: bool) -> None:
    """Show what is installed, which engines really start here, and what to install for the rest.

    \b
    Example:
      tubelet doctor
    """
    examination = examine()
    if as_json:
        print_json(examination.to_json())
    else:
        click.echo(examination.table())
