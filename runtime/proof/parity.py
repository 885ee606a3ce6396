"""A backend against what torch answered: the proof that a bundle carries with it.

The reference (reference.py) holds clips of different shapes with real motion, and what torch computed for them in
float32. Checking therefore covers the preprocessing, bit for bit, and the graph, within a stated limit. It does so on
the machine where it runs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import BundleError
from ...preprocess.frames import Frames
from ...preprocess.prepare import prepare
from ...preprocess.spec import ClipSpec
from ..backends.backend import Backend
from ..bundle.bundle import Bundle
from ..bundle.parity_report import MOST_BYTES, BatchParity, InputParity, ParityReport
from ..bundle.reference import Reference, input_sha256, kept_values
from ..limits import Limit, cosines, limit_on
from ..precisions import PRECISIONS
from ..progress import Progress, silent

# A batch of clips as the graph takes them, (B, ...) -> logits float32 (B, K).
Infer = Callable[[NDArray[Any]], NDArray[np.float32]]
# Everything that the graph takes, (B, ...) each by name -> everything that it gives, float32 (B, ...) each by name.
Run = Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[np.float32]]]

BATCHES = (1, 2, 3, 8)
_AGAIN = "export the bundle again"


def clips_of_batch(batch: int, clips: int) -> list[int]:
    """Which reference clips make a batch. They come round robin, from another one at each size. So clips change
    places, and a graph that mixes up its batch is seen.
    """
    return [(batch + i) % clips for i in range(batch)]


def compare_logits(
    got: NDArray[np.float32],
    torch_logits: NDArray[np.float32],
    clips: Sequence[int],
    limit: Limit,
    *,
    output: str = "logits",
) -> BatchParity:
    """Compare a batch of logits, or as many values of another output, with torch's.

    Args:
        got: float32 (B, K).
        torch_logits: float32 (B, K).
        clips: numbers of the B reference clips.
        limit: how far they may be apart.
        output: what the values are called.

    Raises:
        BundleError: for shapes that differ, and for arrays without a value: they would agree.
    """
    if got.shape != torch_logits.shape or got.ndim != 2 or got.size == 0 or len(clips) != len(got):
        raise BundleError(
            f"{output} of {len(clips)} clips cannot be compared: {got.shape} beside torch's {torch_logits.shape}",
            fix=_AGAIN,
        )
    if not np.isfinite(got).all():
        return BatchParity(len(got), output, None, None, None, None, None, top_equal=False)
    ours, theirs = got.astype(np.float64), torch_logits.astype(np.float64)
    difference = np.abs(ours - theirs)
    row, label = np.unravel_index(difference.argmax(), difference.shape)
    return BatchParity(
        batch=len(got),
        output=output,
        largest_difference=float(difference.max()),
        at_clip=clips[int(row)],
        at_label=int(label),
        excess=limit.excess(ours, theirs),
        cosine=float(cosines(ours, theirs).min()) if limit.direction else None,
        top_equal=limit.same_labels(ours, theirs),
    )


def compare_outputs(
    got: Mapping[str, NDArray[np.float32]], reference: Reference, clips: Sequence[int], limit: Limit
) -> list[BatchParity]:
    """Compare every output of the graph with what torch answered for the reference clips with those numbers.

    Args:
        got: each output by name, (B, ...).
        reference: torch's answers.
        clips: numbers of the B reference clips.
        limit: for logits. Where it ranks no labels, and for other outputs, it is taken in proportion to the values.

    Raises:
        BundleError: where one of the two has an output that the other lacks, or neither has any.
    """
    if not got or got.keys() != reference.outputs.keys():
        raise BundleError(
            f"the graph gives {', '.join(got) or 'nothing'}, and torch's answers are {', '.join(reference.outputs)}: "
            "all of it must be compared",
            fix=_AGAIN,
        )
    rows = []
    for name, recorded in reference.outputs.items():
        theirs = recorded[clips]
        own = limit if name == "logits" else limit.unranked()
        if not own.top:
            own = own.of_size(theirs.astype(np.float64))
        rows.append(compare_logits(_kept(name, got[name], len(clips)), theirs, clips, own, output=name))
    return rows


def _kept(name: str, output: NDArray[np.float32], clips: int) -> NDArray[np.float32]:
    """The values of an output that are compared, (B, values). Raises BundleError where a clip has no row, or no value
    in it."""
    if output.ndim < 2 or len(output) != clips or output.size == 0:
        raise BundleError(f"{name} of {clips} clips cannot be compared: the engine gave {output.shape}", fix=_AGAIN)
    return kept_values(output)


def check_parity(
    infer: Infer,
    reference: Reference,
    spec: ClipSpec,
    *,
    backend: str,
    precision: str,
    limit: Limit | None = None,
    progress: Progress = silent,
) -> ParityReport:
    """`check_outputs` of a classifier, whose graph takes one batch of clips and gives logits. limit: that on labels
    where none is given."""

    def run(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        (batch,) = inputs.values()
        return {"logits": infer(batch)}

    if limit is None:
        limit = PRECISIONS[precision].limit
    return check_outputs(run, reference, spec, limit=limit, backend=backend, precision=precision, progress=progress)


def check_outputs(
    run: Run,
    reference: Reference,
    spec: ClipSpec,
    *,
    limit: Limit,
    backend: str,
    precision: str,
    progress: Progress = silent,
) -> ParityReport:
    """Prepare every reference clip and run them at each of BATCHES.

    Args:
        run: inputs by name to outputs by name.
        reference: the clips, and torch's answers.
        spec: the input contract.
        limit: on logits; see `limit_of`.
        backend: what runs, for the report.
        precision: likewise.
        progress: called with a line for each batch.

    Raises:
        BundleError: where the reference has nothing to compare.
    """
    if not reference.clips:
        raise BundleError("the reference holds no clips, so nothing can be compared")
    prepared = [prepare(Frames.from_array(clip), spec) for clip in reference.clips]
    inputs = tuple(
        InputParity(i, clip.shape[1:3], input_sha256(ready) == expected)
        for i, (clip, ready, expected) in enumerate(zip(reference.clips, prepared, reference.input_sha256, strict=True))
    )
    rows: list[BatchParity] = []
    left_out = []
    bytes_a_clip = 0
    for size in BATCHES:
        if size * bytes_a_clip > MOST_BYTES:
            left_out.append(size)
            continue
        progress(f"checking batch {size}")
        clips = clips_of_batch(size, len(prepared))
        given: dict[str, NDArray[Any]] = {spec.input_name: np.stack([prepared[i] for i in clips])}
        given |= {name: array[clips] for name, array in reference.inputs.items()}
        got = run(given)
        bytes_a_clip = sum(output.nbytes for output in got.values()) // size
        rows += compare_outputs(got, reference, clips, limit)
    return ParityReport(backend, precision, limit, inputs, tuple(rows), tuple(left_out))


def check_bundle(
    engine: Backend,
    bundle: Bundle,
    reference: Reference,
    *,
    backend: str,
    precision: str,
    progress: Progress = silent,
) -> ParityReport:
    """Compare an engine, which has the bundle's graph for that precision loaded, with everything that torch answered.

    Args:
        engine: the engine.
        bundle: the bundle.
        reference: its clips, and torch's answers.
        backend: what the engine is called, for the report.
        precision: of the graph.
        progress: called with a line for each batch.

    Raises:
        BackendError: where the engine does not give all that the graph gives. Every engine gives a classifier's logits.
        BundleError: where the reference has nothing to compare.
    """
    limit = limit_of(bundle, precision, reference)
    named = {"backend": backend, "precision": precision}
    if bundle.task == "video-classification" and list(reference.outputs) == ["logits"]:
        return check_parity(engine.infer, reference, bundle.spec, limit=limit, progress=progress, **named)
    return check_outputs(engine.run, reference, bundle.spec, limit=limit, progress=progress, **named)


def limit_of(bundle: Bundle, precision: str, reference: Reference) -> Limit:
    """The limit on what the bundle's graphs give in that precision."""
    values = reference.outputs["logits"] if bundle.problem_type == "regression" else None
    return limit_on(PRECISIONS[precision].limit, ranked=bundle.ranked, values=values)
