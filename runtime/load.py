"""load: the folder of a bundle becomes a model that can be asked."""

from pathlib import Path

from ..preprocess.errors import BundleError
from .backends import DEFAULT_BACKEND, open_backend
from .bundle.bundle import Bundle, Task
from .bundle.manifest import MANIFEST
from .classifier import VideoClassifier
from .encoder import VideoEncoder
from .masked import MaskedVideoModel
from .model import VideoModel
from .reading import Reading
from .storage.exchange import while_it_stays

MODELS: dict[Task, type[VideoModel]] = {
    "video-classification": VideoClassifier,
    "feature-extraction": VideoEncoder,
    "masked-modeling": MaskedVideoModel,
}


def load(
    path: str | Path,
    *,
    backend: str = DEFAULT_BACKEND,
    precision: str = "fp32",
    threads: int | None = None,
    reading: Reading | None = None,
) -> VideoModel:
    """Opens the bundle at `path` and loads its graph of that precision into `backend`.

    threads: of the CPU that compute one batch; None leaves their number to the engine
    reading: how videos are read; one clip, the centre view of the family's published evaluation, where it is not given
    Raises BundleError for a folder that is no whole bundle, BackendError for an engine that cannot run it,
    MissingExtra for one that is not installed, OutOfBounds for more threads or views than this machine can use.
    """

    def load_once() -> VideoModel:
        bundle = Bundle.open(path)
        if bundle.task not in MODELS:
            raise BundleError(f"{path} is for {bundle.task}; this version of tubelet knows {', '.join(MODELS)}")
        return MODELS[bundle.task](bundle, open_backend(backend, bundle, precision, threads=threads), reading=reading)

    return while_it_stays(Path(path) / MANIFEST, load_once)
