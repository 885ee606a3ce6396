"""`tubelet push`: needs huggingface_hub, which is imported when it runs."""

from dataclasses import replace
from pathlib import Path

import click

from ..runtime.hub import HubAddress
from ..runtime.progress import StatusLine
from .options import EXISTING_FILE, HubAddressOption, bundle_argument, json_option, note, print_json


@click.command()
@bundle_argument
@click.argument("repository", metavar="OWNER/NAME", type=HubAddressOption())
@click.option("--private", is_flag=True, help="Make the repository private, where it is made.")
@click.option(
    "--revision", metavar="BRANCH", help="The branch, made where there is none; OWNER/NAME@BRANCH says the same."
)
@click.option(
    "--card",
    type=EXISTING_FILE,
    metavar="FILE",
    help="Markdown for the card, in the place of the one that is written from the bundle.",
)
@click.option(
    "--evaluation",
    type=EXISTING_FILE,
    metavar="FILE",
    help="What `tubelet evaluate BUNDLE --json` printed, for the accuracy in the card.",
)
@json_option
def push(
    bundle: Path,
    repository: HubAddress,
    private: bool,
    revision: str | None,
    card: Path | None,
    evaluation: Path | None,
    as_json: bool,
) -> None:
    """Put BUNDLE on the Hugging Face Hub, in one commit.

    Every checksum is verified before. The card says what the bundle is, how to run it, its licence and its parity. One
    that a person edited is kept. Engines stay here. What arrived of a push that broke off is not sent again. Log in
    with `hf auth login`.

    \b
    Example:
      tubelet push artifacts/vivit-b-16x2-kinetics400 my-name/vivit-b-kinetics400
      tubelet push artifacts/gestures my-lab/gestures --private --card CARD.md
    """
    from ..serve.hub.push import push as push_bundle

    if card is not None and evaluation is not None:
        raise click.UsageError("--evaluation is for the card that is written here, and --card stands in its place")
    if revision is not None:
        if repository.revision not in (None, revision):
            raise click.UsageError(f"{repository} names a branch, and --revision another: {revision}")
        repository = replace(repository, revision=revision)
    with StatusLine() as progress:
        done = push_bundle(
            bundle,
            repository,
            private=private,
            card=card,
            evaluation=evaluation,
            progress=progress,
            say=progress.aside(note),
        )
    if as_json:
        print_json(
            {
                "repository": done.address.repository,
                "commit": done.address.revision,
                "page": done.page,
                "card": done.card,
                "changed": done.changed,
            }
        )
        return
    said = "is pushed" if done.changed else "was there already, unchanged"
    click.echo(f"{bundle} {said}: {done.page}\n  tubelet pull {done.address}")
