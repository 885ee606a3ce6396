"""`tubelet pull`: needs huggingface_hub, which is imported when it runs."""

import shlex
from pathlib import Path

import click

from ..runtime.hub import HubAddress
from ..runtime.precisions import GRAPH_PRECISIONS, GraphPrecision
from ..runtime.progress import StatusLine
from .options import HubAddressOption, NameList, each_once, json_option, note, print_json


@click.command()
@click.argument("address", metavar="OWNER/NAME[@REV]", type=HubAddressOption())
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The folder of the bundle.  [default: artifacts/ and the name of the repository]",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    callback=each_once,
    type=NameList(GRAPH_PRECISIONS),
    metavar="P[,P...]",
    help="The graphs to fetch: fp32, fp16, int8, int8-static, fp8.  [default: all]",
)
@click.option("--force", is_flag=True, help="Replace another bundle that is there already.")
@json_option
def pull(
    address: HubAddress, output: Path | None, precisions: tuple[GraphPrecision, ...], force: bool, as_json: bool
) -> None:
    """Fetch a bundle from the Hugging Face Hub, and verify every file of it.

    REV is a branch, tag or commit. The commit is printed and kept in the folder (hub.json); a folder that holds it
    already stays as it is. Nothing but what the manifest lists is fetched, so no engines ever are.

    \b
    Example:
      tubelet pull my-name/vivit-b-kinetics400
      tubelet pull my-lab/gestures@v2 --precision int8 -o gestures
    """
    from ..serve.hub.pull import default_folder
    from ..serve.hub.pull import pull as pull_bundle

    folder = default_folder(address) if output is None else output
    with StatusLine() as progress:
        pulled = pull_bundle(
            address, folder, precisions=precisions, force=force, progress=progress, say=progress.aside(note)
        )
    bundle, origin = pulled.bundle, pulled.origin
    have = [graph.precision for graph in bundle.graphs]
    if as_json:
        print_json(
            {
                "bundle": str(folder),
                "repository": origin.repository,
                "commit": origin.commit,
                "precisions": have,
                "changed": not pulled.was_there,
            }
        )
        return
    option = "" if "fp32" in have else f" --precision {have[0]}"
    size = sum(file.bytes for file in bundle.files) / 1e6
    said = "was in" if pulled.was_there else "is in"
    click.echo(
        f"{origin} {said} {folder}: {', '.join(have)}, {size:.1f} MB, every sha256 verified\n"
        f"  tubelet check {shlex.quote(str(folder))}{option}"
    )
