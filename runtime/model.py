"""VideoModel: a bundle at work, whatever its task is."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, get_args

import numpy as np
from numpy.typing import NDArray

from ..preprocess.errors import BackendError, BundleError, VideoError
from ..preprocess.frames import Frames
from .backends.backend import Backend
from .bounds import check_choice
from .bundle.bundle import Bundle
from .bundle.memory import clips_at_once
from .reading import Clips, Reading, Video, as_read, prepare_clips, read_clips, read_crops
from .visual.explanation import Attentions, Explanation, explain_clip
from .visual.rollout import Method

if TYPE_CHECKING:
    from .tuning.record import Choice

# The reading of a model and the sha256 of its bundle -> the same model, opened again.
Again = Callable[[Reading, str], "VideoModel"]


class VideoModel:
    """A bundle with one of its graphs loaded into an engine, and a way to read videos; a context manager.

    A VideoClassifier, VideoEncoder or MaskedVideoModel, by the task of the bundle; this is what they share.

    Attributes:
        bundle: what was opened.
        spec: the input contract.
        labels: of a classifier, K names.
        reading: how videos are read.
        tuned: what the backend "auto" was; None where another was asked for.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        *,
        reading: Reading | None = None,
        again: Again | None = None,
        tuned: "Choice | None" = None,
    ) -> None:
        self.bundle = bundle
        self.tuned = tuned
        self.spec = bundle.spec
        self.reading = Reading() if reading is None else reading
        clips_at_once(bundle, "views").check(self.reading.views)
        self.labels = bundle.labels
        self._backend = backend
        self._again = again

    def explain(self, video: Video, *, method: Method = "rollout") -> Explanation:
        """Show what the model looked at in one clip of a video.

        Args:
            video: what is read; see `read_clips`.
            method: "rollout", through all layers, or "last", the last layer alone.

        Raises:
            OutOfBounds: for another method.
            BundleError: for a bundle that was exported without attentions.
            VideoError: for what is no video.
            BackendError: where the engine fails.
        """
        return self.explain_shown(self._one_clip(video), method=method)

    def explain_shown(self, frames: Frames, *, method: Method = "rollout") -> Explanation:
        """Show what the model looked at in a clip that was read for it.

        Args:
            frames: T of them, resized and cut: a clip of what `read_crops` gives.
            method: as for `explain`, and so are the errors.
        """
        check_choice("method", method, get_args(Method))
        if not self.attentions:
            raise BundleError(
                f"{self.bundle.path} gives no attentions over whole clips",
                fix="tubelet export --model ID --outputs attentions, with --task feature-extraction or "
                "video-classification",
            )

        def infer(clips: NDArray[Any]) -> Attentions:
            outputs = self.run(clips)
            return Attentions(*([outputs[name] for name in row] for row in self._attention_rows()))

        return explain_clip(
            frames,
            as_read(self.spec),
            self.bundle.tubelet,
            self.bundle.readout,
            infer,
            method=method,
            token_order=self.bundle.token_order,
        )

    @property
    def attentions(self) -> list[str]:
        """The outputs that are attentions over whole clips, a layer each, those of a pooler last. None where it was
        exported without.
        """
        if self.bundle.task == "masked-modeling":  # which attends to a few tokens only
            return []
        return [name for row in self._attention_rows() for name in row]

    def _attention_rows(self) -> tuple[list[str], ...]:
        """Their names, by what they are attentions of."""
        names = [output.name for output in self.bundle.graphs[0].outputs]
        return tuple([name for name in names if name.startswith(f"{row}.")] for row in Attentions._fields)

    def read(self, video: Video) -> Clips:
        """Read the frames of a video that make its clips; see `read_clips`."""
        return read_clips(video, self.spec, self.reading)

    def _one_clip(self, video: Video) -> Frames:
        """The first clip's frames (T), as the model is shown them."""
        (clips,) = read_crops(video, self.spec, replace(self.reading, crops=1))
        return clips.clip(0)

    def prepare(self, clips: Clips) -> NDArray[Any]:
        """Prepare the model input of every view.

        Returns:
            float32 (views, T, C, H, W), or uint8 (views, T, H, W, C) where the graph takes frames.
        """
        return prepare_clips(clips, self.spec, self.reading)

    def run(self, batch: NDArray[Any], **others: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        """Run the graph and return everything that it gives.

        Args:
            batch: float32 (B, T, C, H, W), or uint8 (B, T, H, W, C) where the graph takes frames.
            others: what else it takes, int64 (B, ...) each by name.

        Returns:
            float32 (B, ...) each by name, finite.

        Raises:
            VideoError: for another shape or dtype.
            BackendError: where the engine fails.
        """
        inputs = {self.spec.input_name: batch, **others}
        self._check_inputs(inputs)
        for name, tokens in others.items():
            if tokens.min() < 0 or tokens.max() >= self.bundle.grid.tokens:
                raise VideoError(f"{name} must number tokens from 0 to {self.bundle.grid.tokens - 1}")
        return {name: self._checked(name, output, len(batch)) for name, output in self._backend.run(inputs).items()}

    def _check_inputs(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        taken = [graph_input.name for graph_input in self.bundle.graphs[0].inputs]
        if set(inputs) != set(taken):
            raise VideoError(f"the graph takes {', '.join(taken)}, got {', '.join(inputs)}")
        for graph_input in self.bundle.graphs[0].inputs:
            given, expected = inputs[graph_input.name], graph_input.shape[1:]
            if given.dtype != graph_input.dtype or given.shape[1:] != expected or len(given) == 0:
                raise VideoError(
                    f"{graph_input.name} must be {graph_input.dtype} (B, {', '.join(map(str, expected))}), "
                    f"got {given.dtype} {given.shape}"
                )
        if len({len(given) for given in inputs.values()}) > 1:
            counts = ", ".join(f"{len(given)} of {name}" for name, given in inputs.items())
            raise VideoError(f"every clip needs all that the graph takes, got {counts}")

    def _checked(self, name: str, output: NDArray[np.float32], clips: int) -> NDArray[np.float32]:
        """The output, once it is of the declared size, a row for each of `clips`, and finite. BackendError otherwise:
        engines do not hold a graph to what it states."""
        (declared,) = (tensor for tensor in self.bundle.graphs[0].outputs if tensor.name == name)
        if output.shape != (clips, *declared.clip_shape):
            raise BackendError(
                f"the engine gave {name} of {output.shape}, {(clips, *declared.clip_shape)} were expected",
                fix="see whether it computes what torch computed: tubelet check BUNDLE",
            )
        if not np.isfinite(output).all():
            raise BackendError(
                f"the engine gave {name} that are NaN or infinite",
                fix="see whether it computes what torch computed: tubelet check BUNDLE",
            )
        return output

    def __reduce__(self) -> tuple[Again, tuple[Reading, str]]:
        """Pickled, it is the path of its bundle and how it was loaded; unpickled, it is loaded there."""
        if self._again is None:
            raise TypeError(f"a {type(self).__name__} can be pickled where `load` opened it, and this one was built")
        return self._again, (self.reading, self.bundle.sha256)

    def close(self) -> None:
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
