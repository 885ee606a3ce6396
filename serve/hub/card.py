"""The card of a bundle on the Hub: what it is, how to run it, and what was measured.

A card that `push` wrote ends in a line with the checksum of all above it. One whose checksum differs was edited by a
person, and is never overwritten.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from ...runtime.bundle.bundle import Bundle, Task
from ...runtime.bundle.parity_report import ParityReport
from ...runtime.hub import HubAddress
from .evaluation import Evaluation

CARD = "README.md"

# What the Hub calls the tasks that it knows.
_PIPELINE_TAGS: dict[Task, str] = {
    "video-classification": "video-classification",
    "feature-extraction": "feature-extraction",
}

_COMMANDS: dict[Task, str] = {
    "video-classification": "classify {} VIDEO",
    "feature-extraction": "features {} VIDEO --npz FEATURES.npz",
    "masked-modeling": "reconstruct {} VIDEO -o PICTURE.png",
}

MERGED = "## Accuracy\n\nIt was not measured, and is not the checkpoint's own: the graph merges {}. It was held {}."

NO_ACCURACY = (
    "## Accuracy\n\nIt was not measured again. In float32 it is the checkpoint's own: the graph computes the same."
)

_SEAL = "<!-- written by tubelet push; sha256 of all above: {} -->\n"
_SEALED = re.compile(
    r"(?P<text>.*\n)<!-- written by tubelet push; sha256 of all above: (?P<sha256>[0-9a-f]{64}) -->\s*", re.DOTALL
)


@dataclass(frozen=True)
class Licence:
    """The licence of a checkpoint, as its own card on the Hub has it. name, link: of one that the Hub does not know."""

    id: str
    name: str | None = None
    link: str | None = None


def is_ours(card: str) -> bool:
    """Whether `push` wrote the card, and nobody has edited it since."""
    found = _SEALED.fullmatch(card.replace("\r\n", "\n"))
    return found is not None and _sha256(found["text"]) == found["sha256"]


def write_card(
    bundle: Bundle, address: HubAddress, licence: Licence | None, evaluation: Evaluation | None = None
) -> str:
    """Write the card of a bundle, with the checksum by which `is_ours` knows it again."""
    text = metadata(bundle, licence) + "\n" + "\n\n".join(_sections(bundle, address, licence, evaluation)) + "\n\n"
    return text + _SEAL.format(_sha256(text))


def metadata(bundle: Bundle, licence: Licence | None) -> str:
    """The YAML by which the Hub files a model, between its two lines of dashes."""
    from huggingface_hub import ModelCardData

    fields: dict[str, Any] = {
        "library_name": "tubelet",
        "pipeline_tag": _PIPELINE_TAGS.get(bundle.task),
        "base_model": None if bundle.commit is None else bundle.model_id,
        "tags": ["onnx", "onnxruntime", "video"],
    }
    if licence is not None:
        fields |= {"license": licence.id, "license_name": licence.name, "license_link": licence.link}
    return f"---\n{ModelCardData(**fields).to_yaml()}\n---\n"


def _sections(bundle: Bundle, address: HubAddress, licence: Licence | None, evaluation: Evaluation | None) -> list[str]:
    name = address.repository.partition("/")[2]
    return [
        f"# {name}",
        f"{_source(bundle)}, as a [tubelet](https://github.com/tubelet/tubelet) bundle: ONNX graphs that run with "
        "numpy, PyAV and ONNX Runtime, without torch. The bundle carries torch's own answers, so `tubelet check` "
        "proves on any machine that it computes the same.",
        _how_to_run(bundle, address),
        _input(bundle),
        _graphs(bundle),
        _no_accuracy(bundle) if evaluation is None else evaluation.section(),
        *([_labels(bundle)] if bundle.labels else []),
        _licence(bundle, licence),
    ]


def _no_accuracy(bundle: Bundle) -> str:
    if bundle.merging is None:
        return NO_ACCURACY
    return MERGED.format(bundle.merging.describe(), bundle.merging.distance())


def _source(bundle: Bundle) -> str:
    if bundle.commit is None:
        return f"`{bundle.model_id}` ({bundle.architecture}), from a local checkpoint"
    return f"[{bundle.model_id}](https://huggingface.co/{bundle.model_id}) at `{bundle.commit}` ({bundle.architecture})"


def _how_to_run(bundle: Bundle, address: HubAddress) -> str:
    name = address.repository.partition("/")[2]
    first = bundle.graphs[0].precision
    option = "" if first == "fp32" else f" --precision {first}"
    lines = [
        "## How to run it",
        "",
        "```",
        "pip install 'tubelet[cpu,hub]'",
        f"tubelet pull {address} -o {name}",
        f"tubelet check {name}{option}",
        f"tubelet {_COMMANDS[bundle.task].format(name)}{option}",
        "```",
    ]
    if bundle.task == "video-classification":
        argument = "" if first == "fp32" else f", precision={first!r}"
        lines += [
            "",
            "```python",
            "import tubelet",
            "",
            f'with tubelet.load("{address.url}"{argument}) as model:',
            '    for label, score in model.classify("video.mp4"):',
            '        print(f"{score:6.1%}  {label}")',
            "```",
        ]
    return "\n".join(lines)


def _input(bundle: Bundle) -> str:
    rows = [line.split(maxsplit=1) for line in bundle.summary().splitlines()]
    shown = [f"- **{name}**: {text}" for name, text in rows if name in ("clip", "pixels", "merging", "note")]
    return "\n".join(["## What it takes", "", *shown])


def _graphs(bundle: Bundle) -> str:
    rows = [
        "| precision | size | opset | measured against torch in float32 | limit |",
        "|---|---|---|---|---|",
        *(
            f"| {graph.precision} | {sum(file.bytes for file in graph.files) / 1e6:.1f} MB | {graph.opset} | "
            f"{_parity(graph.parity)} | {_in_a_cell(str(graph.parity.limit))} |"
            for graph in bundle.graphs
            if graph.parity is not None  # a manifest without is refused
        ),
    ]
    notes = [f"- {graph.precision}: {note}" for graph in bundle.graphs for note in graph.notes]
    how = (
        "Measured where each graph was made, on the reference clips in the bundle; outside its limit a graph is not "
        "kept."
    )
    return "\n".join(["## Graphs, and how near they are", "", *rows, "", *notes, *([""] if notes else []), how])


def _parity(parity: ParityReport) -> str:
    sizes = ", ".join(str(size) for size in sorted({row.batch for row in parity.batches}))
    differences = [row.largest_difference for row in parity.batches if row.largest_difference is not None]
    cosines = [row.cosine for row in parity.batches if row.cosine is not None]
    parts = [
        f"largest difference {max(differences):.3g}",
        *([f"cosine {min(cosines):.7f} at the least"] if cosines else []),
        f"at batches {sizes}",
    ]
    return ", ".join(parts)


def _labels(bundle: Bundle) -> str:
    shown = ", ".join(_in_a_cell(label) for label in bundle.labels[:10])
    more = f" and {len(bundle.labels) - 10} more" if len(bundle.labels) > 10 else ""
    return f"## Labels\n\n{len(bundle.labels)}: {shown}{more}"


def _licence(bundle: Bundle, licence: Licence | None) -> str:
    if licence is None:
        said = "It is that of the checkpoint, which is not recorded here: name it in the metadata above."
    else:
        named = licence.name or licence.id
        link = f" ({licence.link})" if licence.link else ""
        said = f"That of the checkpoint {bundle.model_id}, as its card on the Hub names it: `{named}`{link}."
    return f"## Licence\n\n{said}"


def _in_a_cell(text: str) -> str:
    """Text that may stand in a table of Markdown."""
    return text.replace("|", "\\|")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
