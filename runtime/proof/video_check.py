"""A video file on two machines, stage by stage, so that a difference can be placed.

When a bundle is made with videos named, what each stage gave there is recorded. That is which frames were taken, their
pixels, the model input made from them, and torch's logits. `check_video` runs the same file through the same stages
here.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...preprocess.errors import BundleError
from ...preprocess.frames import Frames
from ...preprocess.prepare import prepare
from ...preprocess.spec import ClipSpec
from ..bundle.files import BundleFile, RecordedVideo
from ..bundle.parity_report import BatchParity
from ..bundle.reference import input_sha256
from ..limits import Limit
from ..precisions import PRECISIONS
from ..reading import Reading, read_clip
from .parity import Infer, compare_logits


@dataclass(frozen=True)
class StageReport:
    """One video, stage by stage. Each stage is given what the one before it gave here, right or wrong.

    frames_different: positions in the clip whose pixels are not those of the export.
    """

    video: str
    backend: str
    precision: str
    indices_equal: bool
    frames_different: tuple[int, ...]
    frames: int
    input_equal: bool
    logits: BatchParity

    @property
    def passed(self) -> bool:
        return self.indices_equal and not self.frames_different and self.input_equal and self.logits.passed

    def to_json(self) -> dict[str, Any]:
        return {"passed": self.passed} | dataclasses.asdict(self)

    def table(self) -> str:
        """One line a stage."""
        different = len(self.frames_different)
        first = f"{different} of {self.frames} DIFFERENT, the first at position {min(self.frames_different, default=0)}"
        if self.logits.excess is None:
            logits = "NaN or infinite"
        else:
            top = "equal" if self.logits.top_equal else "DIFFERENT"
            logits = (
                f"largest difference {self.logits.largest_difference:.2e}, {self.logits.excess:.1%} of the limit, "
                f"best labels {top}"
            )
        rows = [
            ("indices", "as recorded" if self.indices_equal else "DIFFERENT"),
            ("frames", first if different else "bit for bit"),
            ("input", "bit for bit" if self.input_equal else "DIFFERENT"),
            ("logits", logits),
        ]
        lines = [f"{self.video}: {self.backend} {self.precision} against the export", ""]
        lines += [f"{stage:<9}{result}" for stage, result in rows]
        return "\n".join([*lines, "", "PASS" if self.passed else "FAIL"])


def frame_checksums(frames: Frames) -> tuple[str, ...]:
    """sha256 of the pixels of each frame."""
    return tuple(hashlib.sha256(frame.tobytes()).hexdigest() for frame in frames.pixels)


def record_video(path: Path, spec: ClipSpec, infer: Infer) -> RecordedVideo:
    """Record what each stage gives for the file at `path` on this machine.

    Args:
        path: the video.
        spec: the input contract.
        infer: a batch of one clip, as `spec` prepares it, to logits (1, K).

    Raises:
        VideoError: for what is no video.
    """
    frames = read_clip(path, spec)
    clip = prepare(frames, spec)
    return RecordedVideo(
        file=BundleFile.of(path),
        indices=tuple(frames.indices.tolist()),
        frames_sha256=frame_checksums(frames),
        input_sha256=input_sha256(clip),
        logits=tuple(infer(clip[np.newaxis])[0].tolist()),
    )


def check_video(
    path: Path,
    recorded: Sequence[RecordedVideo],
    spec: ClipSpec,
    infer: Infer,
    *,
    backend: str,
    precision: str,
    reading: Reading | None = None,
    limit: Limit | None = None,
) -> StageReport:
    """Run the stages on the file at `path` and hold each against the record of the export.

    Args:
        path: the video.
        recorded: the records of the bundle.
        spec: the input contract.
        infer: a batch of one clip to logits (1, K).
        backend: what runs, for the report.
        precision: likewise.
        reading: how the file is read, where not as the export did: another track, or more memory.
        limit: on its logits; that on labels where none is given.

    Raises:
        BundleError: where the bundle has no record of a file with these bytes.
        VideoError: for what is no video.
    """
    record = _record_of(path, recorded)
    frames = read_clip(path, spec, reading)
    clip = prepare(frames, spec)
    checksums = frame_checksums(frames)
    expected = np.array([record.logits], np.float32)
    return StageReport(
        video=str(path),
        backend=backend,
        precision=precision,
        indices_equal=tuple(frames.indices.tolist()) == record.indices,
        frames_different=tuple(
            position
            for position, pair in enumerate(zip(checksums, record.frames_sha256, strict=True))
            if pair[0] != pair[1]
        ),
        frames=len(frames),
        input_equal=input_sha256(clip) == record.input_sha256,
        logits=compare_logits(infer(clip[np.newaxis]), expected, [0], limit or PRECISIONS[precision].limit),
    )


def _record_of(path: Path, recorded: Sequence[RecordedVideo]) -> RecordedVideo:
    """The record of the file with the bytes of `path`, whatever it is called."""
    if not path.is_file():
        raise BundleError(f"{path} is not a file")
    file = BundleFile.of(path)
    for record in recorded:
        if record.file.sha256 == file.sha256:
            return record
    names = [record.file.name for record in recorded]
    if path.name in names:
        raise BundleError(
            f"{path} is not the {path.name} that the export recorded: its bytes differ",
            fix="copy the file again",
        )
    raise BundleError(
        f"the bundle has no record of {path}; it has {', '.join(names) or 'none of any video'}",
        fix=f"tubelet export ... --video {path}",
    )
