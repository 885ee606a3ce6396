"""The process that one way to run a bundle is tried in: python -m tubelet.bench.tuning.subject SETTINGS

It answers as worker.py says, and to two names of its own:

    compare        each reference clip by itself, and each clip of a video, beside their answers
    prove          what `tubelet check` does
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.frames import Frames
from ...preprocess.prepare import prepare
from ...runtime.backends import open_backend
from ...runtime.backends.backend import Backend
from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.parity_report import BatchParity, worst
from ...runtime.bundle.reference import Reference, kept_values, load_reference
from ...runtime.proof.parity import Run, check_bundle, clips_of_batch, compare_outputs, limit_of
from ..worker import Loaded, serve


@dataclass(frozen=True)
class CandidateSettings:
    """What a process tries.

    Attributes:
        backend: what executes the graph.
        precision: what it computes in.
        threads: of the CPU; None where it computes elsewhere.
        batch: clips in one run.
        bundle: its folder.
        videos: an .npy of prepared clips (N, ...) of the user's videos, where there are any.
        answers: an .npz of what fp32 answers to them. Where it is missing, this process writes it.
    """

    backend: str
    precision: str
    threads: int | None
    batch: int
    bundle: str
    videos: str | None
    answers: str | None

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))


@dataclass(frozen=True)
class Candidate:
    """A backend with a graph loaded, and what it is held against."""

    backend: Backend
    bundle: Bundle
    reference: Reference
    settings: CandidateSettings

    def inputs(self, numbers: Sequence[int]) -> dict[str, NDArray[Any]]:
        """All that the graph takes for a batch of the reference clips with those numbers, (B, ...) each by name."""
        clips = [Frames.from_array(self.reference.clips[number]) for number in numbers]
        batch = np.stack([prepare(clip, self.bundle.spec) for clip in clips])
        return {self.bundle.spec.input_name: batch} | {
            name: array[list(numbers)] for name, array in self.reference.inputs.items()
        }

    @property
    def infer(self) -> Run:
        """What runs the graph: of a classifier for its logits, which every backend gives, else for all it gives."""
        if self.bundle.task == "video-classification" and list(self.reference.outputs) == ["logits"]:
            return lambda inputs: {"logits": self.backend.infer(inputs[self.bundle.spec.input_name])}
        return self.backend.run

    def compare(self) -> dict[str, Any]:
        """Hold each clip's outputs against torch's, and those of the videos against what fp32 answers."""
        limit = limit_of(self.bundle, self.settings.precision, self.reference)
        rows: list[BatchParity] = []
        for number in range(len(self.reference.clips)):
            rows += compare_outputs(self.infer(self.inputs([number])), self.reference, [number], limit)
        for number, (got, answers) in enumerate(self._answers_to_videos()):
            rows += compare_outputs(got, answers, [number], limit)
        cosines = [row.cosine for row in rows if row.cosine is not None]
        passed = all(row.passed for row in rows)
        return {
            "passed": passed,
            "cosine": min(cosines, default=None),
            "reason": None if passed else f"outside its limit, {limit}: {_described(worst(rows))}",
        }

    def _answers_to_videos(self) -> Iterator[tuple[dict[str, NDArray[np.float32]], Reference]]:
        """What this gives for each clip of the videos, and what fp32 gave for all of them."""
        if self.settings.videos is None or self.settings.answers is None:
            return
        clips: NDArray[Any] = np.load(self.settings.videos, mmap_mode="r")
        path = Path(self.settings.answers)
        got = [dict(self.infer({self.bundle.spec.input_name: np.array(clips[i : i + 1])})) for i in range(len(clips))]
        if not path.exists():
            kept = {name: np.concatenate([kept_values(one[name]) for one in got]) for name in got[0]}
            np.savez(path, allow_pickle=False, **kept)
        with np.load(path) as arrays:
            answers = Reference((), (), {name: arrays[name] for name in arrays.files})
        for one in got:
            yield one, answers

    def prove(self) -> dict[str, Any]:
        """Check as `tubelet check` does, at every batch size; an engine that keeps a note of it does."""
        report = check_bundle(
            self.backend,
            self.bundle,
            self.reference,
            backend=self.settings.backend,
            precision=self.settings.precision,
        )
        self.backend.note_check(report)
        failed = None if report.passed else f"tubelet check fails: {_described(worst(report.batches))}"
        return {"passed": report.passed, "reason": failed}


def _described(row: BatchParity) -> str:
    if row.largest_difference is None:
        return f"{row.output} that are NaN or infinite"
    cosine = "" if row.cosine is None else f", cosine {row.cosine:.6f}"
    labels = "" if row.top_equal else ", the best labels differ"
    return f"{row.output} {row.largest_difference:.2e} apart at batch {row.batch}{cosine}{labels}"


def load_candidate(values: dict[str, Any]) -> Loaded:
    """Load what the settings name."""
    settings = CandidateSettings(**values)
    bundle = Bundle.open(settings.bundle)
    backend = open_backend(settings.backend, bundle, settings.precision, threads=settings.threads)
    candidate = Candidate(backend, bundle, load_reference(bundle), settings)
    inputs = candidate.inputs(clips_of_batch(settings.batch, len(candidate.reference.clips)))
    infer = candidate.infer

    def run() -> NDArray[np.float32]:
        infer(inputs)
        return np.empty(0, np.float32)  # what is compared is asked for by name

    return Loaded(run, stages=dict, answers={"compare": candidate.compare, "prove": candidate.prove})


if __name__ == "__main__":
    serve(load_candidate)
