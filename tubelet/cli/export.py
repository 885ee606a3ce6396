"""`tubelet export`: the one command that needs torch, which is imported when it runs."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any, get_args

import click

from ..preprocess.spec import LAYOUTS, Arithmetic
from ..runtime.bounds import NUM_FRAMES, OPSETS
from ..runtime.bundle.bundle import Task
from ..runtime.bundle.files import EXTRAS
from ..runtime.bundle.parity_report import ParityReport, worst
from ..runtime.limits import CosineLimit
from ..runtime.precisions import GRAPH_PRECISIONS
from ..runtime.progress import StatusLine
from .options import (
    EXISTING_FILE,
    Bounded,
    ImageSize,
    LayerList,
    MergedTokens,
    NameList,
    calibrate_option,
    each_once,
    json_option,
    note,
    print_json,
)

# What to do with a bundle of each task.
COMMANDS: dict[Task, str] = {
    "video-classification": "classify {} VIDEO",
    "feature-extraction": "features {} VIDEO --npz FEATURES.npz",
    "masked-modeling": "reconstruct {} VIDEO -o PICTURE.png",
}


@click.command()
@click.option(
    "--model",
    required=True,
    metavar="ID|FOLDER|FILE",
    help="A checkpoint on the Hub, in a folder, or in a file of the original VideoMAE (.pth) or TimeSformer (.pyth).",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The folder of the bundle.  [default: artifacts/ and the name of the model]",
)
@click.option("--revision", metavar="REV", help="A branch, tag or commit on the Hub; ID@REV says the same.")
@click.option(
    "--task",
    type=click.Choice(get_args(Task)),
    help="What the bundle is for.  [default: what config.json names in its architectures]",
)
@click.option(
    "--outputs",
    "extras",
    multiple=True,
    callback=each_once,
    type=NameList(EXTRAS),
    metavar="O[,O...]",
    help="What else the graph gives: hidden_states or attentions of every layer.",
)
@click.option(
    "--labels",
    type=EXISTING_FILE,
    metavar="FILE",
    help="Names of the labels: one a line, JSON or CSV, for checkpoints that only have LABEL_0, LABEL_1, ...",
)
@click.option(
    "--image-size",
    type=ImageSize(),
    metavar="N|HxW",
    help="Clips of another size than the checkpoint's, in pixels; positions are made to fit.",
)
@click.option("--num-frames", type=Bounded(NUM_FRAMES), metavar="N", help="Clips of another length, in frames.")
@click.option(
    "--positions",
    type=click.Choice(["recomputed", "interpolated"]),
    help="How positions follow another size: interpolated from those of the training, or recomputed, as transformers "
    "does for a VideoMAE that was trained at that size.  [default: interpolated]",
)
@click.option(
    "--num-attention-heads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Attention heads, where config.json is wrong.",
)
@click.option(
    "--pooler-heads",
    "num_pooler_heads",
    type=click.IntRange(1),
    metavar="N",
    help="Heads of the pooler of a V-JEPA 2, where not those of its encoder.",
)
@click.option(
    "--joined-clips",
    type=click.IntRange(1, 16),
    metavar="N",
    help="Clips that a V-JEPA 2 looks at one by one and reads together, as its published evaluation does.",
)
@click.option(
    "--probe",
    type=EXISTING_FILE,
    help="A .pt file with a head that the authors of V-JEPA 2 publish apart from its encoder.",
)
@click.option(
    "--probe-layers",
    type=LayerList(),
    metavar="N,...",
    help="Layers of the encoder that such a head reads, counted from 0.",
)
@click.option(
    "--pixels",
    type=click.Choice(get_args(Arithmetic)),
    help="Whose pixels clips have, to the bit: those of Pillow up to version 12, of Pillow 13, or of torchvision.  "
    "[default: what the checkpoint's processor computes with]",
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
    type=EXISTING_FILE,
    metavar="FILE",
    help="Record every stage of this video, for `tubelet check --video` on other machines; may be repeated.",
)
@click.option(
    "--precision",
    "precisions",
    default=["fp32"],
    show_default=True,
    multiple=True,
    callback=each_once,
    type=NameList(GRAPH_PRECISIONS),
    metavar="P[,P...]",
    help="The graphs to make: fp32, which is always made, fp16, int8, int8-static, fp8.",
)
@calibrate_option
@click.option(
    "--merge",
    type=MergedTokens(),
    metavar="R|auto",
    help="Merge R tokens that are alike in each layer of a ViViT or VideoMAE: faster, and another function than the "
    "published one. auto finds the largest R that loses at most --max-loss on the videos of --calibrate.",
)
@click.option(
    "--max-loss",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="What --merge auto may lose: accuracy, where each video lies in a folder called as its label, or else best "
    "labels that stay as they were.",
)
@click.option(
    "--opset",
    type=Bounded(OPSETS),
    default=23,
    show_default=True,
    help="ONNX opset. Below 23, for older readers, attention is written out, which is slower.",
)
@click.option("--force", is_flag=True, help="Replace a bundle that is there already.")
@click.option("--dry-run", is_flag=True, help="Say what would be exported, and write nothing.")
@json_option
def export(model: str, output: Path | None, force: bool, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Turn a ViViT, VideoMAE, TimeSformer or V-JEPA 2 checkpoint into a bundle.

    Ends by comparing the graph with torch on the bundle's reference clips. Exits with 3, and leaves no bundle, when it
    is outside tolerance.

    \b
    Example:
      tubelet export --model google/vivit-b-16x2-kinetics400
      tubelet export --model ./my-finetuned-videomae -o artifacts/gestures --precision fp16,int8
      tubelet export --model MCG-NJU/videomae-base --task feature-extraction --outputs hidden_states
      tubelet export --model vit_b_k710_dl_from_giant.pth --labels k710.txt
      tubelet export --model ./my-finetuned-vivit --merge auto --max-loss 0.5 --calibrate clips/
    """
    from ..exporter.front_door import load_and_plan
    from ..exporter.options import ExportOptions

    chosen = ExportOptions(**options)
    if chosen.positions is not None and chosen.image_size is None and chosen.num_frames is None:
        raise click.UsageError("--positions is about another size: give --image-size or --num-frames too")
    with StatusLine() as progress:
        say = progress.aside(note)
        checkpoint, plan = load_and_plan(model, output, chosen, force=force, progress=progress, say=say)
        from ..exporter.export import export_bundle  # which needs torch, as is known by now
        from ..exporter.plan import export_notes

        if dry_run:
            for message in export_notes(checkpoint, chosen.input_name):
                say(message)
            progress.clear()
            print_json(plan.to_json()) if as_json else click.echo(plan.summary())
            return
        bundle, report = export_bundle(checkpoint, Path(plan.output), chosen, force=force, progress=progress, say=say)
    for message in (*bundle.notes, *(() if bundle.merging is None else bundle.merging.lines())):
        note(message)
    lower = {graph.precision: graph.parity for graph in bundle.graphs if graph.precision != "fp32" and graph.parity}
    if as_json:
        parities = {precision: parity.to_json() for precision, parity in lower.items()}
        merging = None if bundle.merging is None else dataclasses.asdict(bundle.merging)
        document = {"bundle": str(bundle.path), "parity": report.to_json(), "lower_precision": parities}
        print_json(document | {"merging": merging})
    else:
        command = f"tubelet {COMMANDS[bundle.task]}".format(shlex.quote(str(bundle.path)))
        lines = ["\n".join([_line(parity), *bundle.graph(precision).notes]) for precision, parity in lower.items()]
        tables = "\n\n".join([report.table(), *lines])
        click.echo(f"{tables}\n\n{bundle.path} is ready\n  {command}")


def _line(parity: ParityReport) -> str:
    """What the proof of a graph of lower precision came to."""
    cosines = [row.cosine for row in parity.batches if row.cosine is not None]
    if not isinstance(parity.limit, CosineLimit):  # the values of a regression
        return f"{parity.precision}: {worst(parity.batches).excess:.1%} of the limit: PASS"
    return f"{parity.precision}: cosine {min(cosines):.7f} at the least, limit {parity.limit.cosine:g}: PASS"
