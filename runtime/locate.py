"""Where a bundle lies: in a folder, or on the Hub. From there the files that an engine needs are fetched."""

from dataclasses import dataclass
from pathlib import Path

from ..preprocess.errors import BackendError
from .backends import graph_for
from .bundle.bundle import Bundle
from .hub import HubAddress, fetch_bundle, is_on_hub
from .progress import Progress, silent


@dataclass(frozen=True)
class Located:
    """The folder of a bundle.

    Attributes:
        folder: on this machine.
        address: by which another process finds the same bundle: an absolute path, or hf:// pinned to a commit.
        precisions: of the graphs that are there for sure; None for all.
    """

    folder: Path
    address: str | Path
    precisions: tuple[str, ...] | None = None

    def open(self) -> Bundle:
        return Bundle.open(self.folder, precisions=self.precisions)


def locate(path: str | Path, backend: str, precision: str, *, progress: Progress = silent) -> Located:
    """Find the folder of a bundle, and fetch it first where `path` is an address on the Hub.

    Args:
        path: a folder, or hf://owner/name[@revision].
        backend: the engine that is to run it.
        precision: what the engine is to compute in. Only the graph that it takes for this is fetched.
        progress: called with a line for each file that is fetched.

    Raises:
        BackendError: for an unknown engine or a precision that it does not compute in; for an engine whose plans stand
            in the bundle's own folder.
        BundleError, HubError, MissingExtra: as `fetch_bundle` does.
    """
    if not is_on_hub(path):
        return Located(Path(path), Path(path).absolute())
    address = HubAddress.parse(str(path))
    graph = graph_for(backend, precision)
    if "tensorrt" in backend:
        raise BackendError(
            f"{backend} keeps engines in the folder of a bundle, built on this machine and never fetched",
            fix=f"tubelet pull {address} -o BUNDLE, and give BUNDLE instead of {path}",
        )
    bundle, commit = fetch_bundle(address, [graph], progress=progress)
    return Located(bundle.path, address.at(commit).url, (graph,))
