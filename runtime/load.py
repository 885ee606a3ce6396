"""load: a bundle, in a folder or on the Hub, becomes a model that can be asked."""

import warnings
from functools import partial
from pathlib import Path
from typing import Literal, get_args, overload

from ..preprocess.errors import BundleError, OutOfBounds
from .backends import DEFAULT_BACKEND, open_backend
from .bounds import check_choice, shown
from .bundle.bundle import Bundle, Task
from .bundle.manifest import MANIFEST
from .classifier import VideoClassifier
from .encoder import VideoEncoder
from .locate import locate
from .masked import MaskedVideoModel
from .model import VideoModel
from .progress import Progress, silent
from .reading import Reading
from .storage.exchange import while_it_stays
from .tuning.auto import settle

MODELS: dict[Task, type[VideoModel]] = {
    "video-classification": VideoClassifier,
    "feature-extraction": VideoEncoder,
    "masked-modeling": MaskedVideoModel,
}


@overload
def load(
    path: str | Path,
    *,
    task: Literal["video-classification"] = ...,
    backend: str = ...,
    precision: str | None = ...,
    threads: int | None = ...,
    reading: Reading | None = ...,
    say: Progress = ...,
) -> VideoClassifier: ...


@overload
def load(
    path: str | Path,
    *,
    task: Literal["feature-extraction"],
    backend: str = ...,
    precision: str | None = ...,
    threads: int | None = ...,
    reading: Reading | None = ...,
    say: Progress = ...,
) -> VideoEncoder: ...


@overload
def load(
    path: str | Path,
    *,
    task: Literal["masked-modeling"],
    backend: str = ...,
    precision: str | None = ...,
    threads: int | None = ...,
    reading: Reading | None = ...,
    say: Progress = ...,
) -> MaskedVideoModel: ...


@overload
def load(
    path: str | Path,
    *,
    task: Task | None,
    backend: str = ...,
    precision: str | None = ...,
    threads: int | None = ...,
    reading: Reading | None = ...,
    say: Progress = ...,
) -> VideoModel: ...


def load(
    path: str | Path,
    *,
    task: Task | None = "video-classification",
    backend: str = DEFAULT_BACKEND,
    precision: str | None = None,
    threads: int | None = None,
    reading: Reading | None = None,
    say: Progress = silent,
) -> VideoModel:
    """Open a bundle and load one of its graphs into an engine.

    The model is a context manager. It can be pickled. It then opens the bundle again by its path, or from the Hub at
    the same commit.

    Args:
        path: the folder of the bundle, or its address on the Hub: hf://owner/name, or hf://owner/name@REV for a branch,
            tag or commit. What the graph needs is fetched into the Hub's cache. Where the Hub is out of reach, it is
            taken from there.
        task: what the bundle is for. None takes any, for what every model can do.
        backend: the engine to run. "auto" is what `tubelet tune` chose for this machine, with its precision and
            threads; the model then has it as `tuned`.
        precision: which of the bundle's graphs to run. None is fp32, or what was chosen.
        threads: of the CPU that compute one batch. None leaves their number to the engine, or is what was chosen.
        reading: how videos are read. Without one, one clip: the centre view of the family's published evaluation.
        say: called with what "auto" took.

    Returns:
        A VideoClassifier, VideoEncoder or MaskedVideoModel, by the task.

    Raises:
        BundleError: for a folder that is no whole bundle, or is one for another task.
        HubError: where the Hub does not have it, or gives no answer.
        BackendError: where the engine cannot run the graph, and for "auto" where no tuning holds here.
        MissingExtra: where the engine, or the client of the Hub, is not installed.
        OutOfBounds: for a task that there is none of, and for more threads or views than this machine can use.
    """
    if task is not None:
        check_choice("task", task, get_args(Task))
    if reading is not None and not isinstance(reading, Reading):
        raise OutOfBounds(f"reading must be a tubelet.Reading, got {shown(reading)}")
    settled = settle(path, backend, precision, threads, say=say)
    backend, precision, threads = settled.backend, settled.precision, settled.threads
    located = locate(settled.path, backend, precision)

    def load_once() -> VideoModel:
        bundle = located.open()
        if bundle.task not in MODELS:
            raise BundleError(f"{path} is for {bundle.task}; this version of tubelet knows {', '.join(MODELS)}")
        require_task(bundle, task)
        engine = open_backend(backend, bundle, precision, threads=threads)
        if engine.caution is not None:
            warnings.warn(engine.caution, RuntimeWarning, stacklevel=2)
        again = partial(_load_again, located.address, bundle.task, backend, precision, threads)
        return MODELS[bundle.task](bundle, engine, reading=reading, again=again, tuned=settled.tuned)

    return while_it_stays(located.folder / MANIFEST, load_once)


# What takes a bundle of each task on the command line.
_COMMANDS: dict[Task, str] = {
    "video-classification": "classify",
    "feature-extraction": "features",
    "masked-modeling": "reconstruct",
}


def require_task(bundle: Bundle, task: Task | None) -> None:
    """Raise BundleError where a bundle is for another task, with the call that opens it."""
    if task in (None, bundle.task):
        return
    raise BundleError(
        f"{bundle.path} is for {bundle.task}, and a bundle for {task} is needed here",
        fix=f"tubelet {_COMMANDS[bundle.task]}, or load({str(bundle.path)!r}, task={bundle.task!r}) in Python, takes "
        f"this one; to make one for {task}: tubelet export --model ID --task {task}",
    )


def _load_again(
    path: str | Path, task: Task, backend: str, precision: str, threads: int | None, reading: Reading, sha256: str
) -> VideoModel:
    """The model that was pickled, in the process that unpickles it.

    sha256: of the manifest of the bundle that was pickled. Raises BundleError where another lies there now.
    """
    model = load(path, task=task, backend=backend, precision=precision, threads=threads, reading=reading)
    if model.bundle.sha256 != sha256:
        model.close()
        raise BundleError(
            f"{path} is not the bundle of the model that was pickled: it was replaced meanwhile",
            fix="load it again where the model was pickled, or send the path and load it where it is used",
        )
    return model
