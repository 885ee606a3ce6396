"""evaluate: a bundle and a labelled set become a report, by backend and precision."""

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from ...preprocess.errors import BundleError, VideoError
from ..archive.journal import read_rows
from ..archive.loading import Loading
from ..archive.rows import in_text
from ..archive.run import classify_files
from ..backends import ON_CPU, cpu_threads
from ..bundle.bundle import Bundle
from ..load import require_task
from ..precisions import BackendName, require_computes
from ..progress import Progress, silent
from .accuracy import TOP, Accuracy
from .report import Evaluated, EvaluationReport
from .truth import Truth, read_truth


def evaluate(
    loading: Loading,
    labels_file: Path,
    *,
    subjects: Sequence[tuple[BackendName, str]],
    root: str | None = None,
    rows: Path | None = None,
    resume: bool = False,
    batch: int = 1,
    workers: int = 2,
    progress: Progress = silent,
    say: Progress = silent,
) -> EvaluationReport:
    """Classify the videos of a labelled set, and say how often a bundle is right.

    Args:
        loading: the model, and how it reads.
        labels_file: the labelled set; see `read_truth`.
        subjects: backends and precisions, each evaluated in place of that of `loading`.
        root: a folder, or a URL of fsspec, that the videos lie in.
        rows: a folder for what is said of every video, BACKEND-PRECISION.jsonl. Without one it is not kept.
        resume: go on with the rows that are there.
        batch: clips in one run of the graph.
        workers: threads that read ahead of the model.
        progress: called with how far it is.
        say: called with what a user should keep.

    Returns:
        The report. Videos that could not be read are left out, and named in it.

    Raises:
        VideoError: for a labels file that cannot be used, and where no video can be read.
        BundleError: for a bundle that does not choose one label of several.
        BackendError: where a backend cannot run, or does not compute in a precision.
        NotWritten: where rows cannot be written, or are those of another run.
    """
    bundle = Bundle.open(loading.bundle)
    truth = read_labelled(bundle, labels_file, root)
    for backend, precision in subjects:
        require_computes(backend, precision)

    # A number of threads is for the backends on the CPU. Where there is none of them, the others refuse it.
    on_cpu = any(backend in ON_CPU for backend, _ in subjects)
    said: dict[str, dict[str, list[str]]] = {}
    errors: dict[str, str] = {}
    with nullcontext(rows) if rows is not None else tempfile.TemporaryDirectory(prefix="tubelet-") as folder:
        for backend, precision in dict.fromkeys(subjects):
            subject = f"{backend} {precision}"
            output = Path(folder, f"{backend}-{precision}.jsonl")
            classify_files(
                replace(
                    loading,
                    backend=backend,
                    precision=precision,
                    threads=cpu_threads(backend, loading.threads) if on_cpu else loading.threads,
                ),
                list(truth.classes),
                output,
                resume=resume,
                top_k=TOP,
                batch=batch,
                workers=workers,
                progress=partial(_of_subject, progress, subject),
                say=say,
            )
            said[subject] = _answers(output, truth, errors)
    return _report(bundle, labels_file, loading, truth, said, errors)


def _of_subject(progress: Progress, subject: str, message: str) -> None:
    progress(f"{subject}: {message}")


def _report(
    bundle: Bundle,
    labels_file: Path,
    loading: Loading,
    truth: Truth,
    said: dict[str, dict[str, list[str]]],
    errors: dict[str, str],
) -> EvaluationReport:
    """How often each subject is right, by what it `said` of each video. Raises VideoError where none was read."""
    read = {name: number for name, number in truth.classes.items() if name not in errors}
    if not read:
        raise VideoError(f"none of the {len(errors):,} videos can be read: {next(iter(errors.values()))}")
    return EvaluationReport(
        bundle.path,
        bundle.sha256,
        bundle.model_id,
        labels_file,
        loading.reading,
        tuple(
            Evaluated(subject, Accuracy.of(truth.labels, read, {name: best[name] for name in read}))
            for subject, best in said.items()
        ),
        errors,
        None if bundle.merging is None else bundle.merging.describe(),
    )


def read_labelled(bundle: Bundle, labels_file: Path, root: str | None) -> Truth:
    """Read a labelled set that a bundle can be held against; raises what `evaluate` does for one that cannot."""
    require_task(bundle, "video-classification")
    if bundle.problem_type != "single_label_classification":
        raise BundleError(
            f"{bundle.path} is for {bundle.problem_type}, and accuracy is of models that choose one label"
        )
    return read_truth(labels_file, bundle.labels, root=root)


def _answers(output: Path, truth: Truth, errors: dict[str, str]) -> dict[str, list[str]]:
    """The labels that are said of each video, the best first; what could not be read goes to `errors`."""
    names = {in_text(name): name for name in truth.classes}
    found = {}
    for row in read_rows(output):
        name = names.get(row["video"])
        if name is None:  # of a set that was larger
            continue
        if "error" in row:
            errors[name] = row["error"]
        else:
            found[name] = [prediction["label"] for prediction in row["predictions"]]
    return found
