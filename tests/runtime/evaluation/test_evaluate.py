"""A labelled set through a bundle: the report, by backend and precision, and the command."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from videos import make_video

from tubelet import BackendError, Bundle, BundleError, NotWritten, Reading, VideoError, load
from tubelet.cli.tree import main
from tubelet.runtime.archive.loading import Loading
from tubelet.runtime.archive.run import Count, classify_files
from tubelet.runtime.evaluation.accuracy import Accuracy
from tubelet.runtime.evaluation.page import page
from tubelet.runtime.evaluation.report import Evaluated, EvaluationReport
from tubelet.runtime.evaluation.run import evaluate
from tubelet.runtime.precisions import BackendName

ONLY: list[tuple[BackendName, str]] = [("onnxruntime", "fp32")]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, vivit_bundle: Path) -> Path:
    """A folder with six videos, and val.csv, whose labels are the model's own answers but for the last two; one more is
    not there."""
    folder = tmp_path_factory.mktemp("labelled")
    lines = []
    with load(vivit_bundle) as model:
        for number in range(6):
            path = make_video(folder / f"{number}.mp4", frames=8 + 5 * number, codec="mpeg4")
            ranked = [label for label, _ in model.classify(path)]
            lines.append(f"{path.name},{ranked[0] if number < 4 else ranked[1]}")
    (folder / "val.csv").write_text("\n".join(["video,label", *lines, "gone.mp4,activity 0"]))
    return folder


def test_the_report_says_how_often_the_bundle_is_right(vivit_bundle: Path, labelled: Path) -> None:
    said: list[str] = []
    report = evaluate(
        Loading(vivit_bundle),
        labelled / "val.csv",
        subjects=[*ONLY, ("openvino", "fp32")],
        root=str(labelled),
        batch=2,
        progress=said.append,
    )
    first, second = report.subjects
    assert first.name == "onnxruntime fp32"
    assert first.accuracy.top1.value == pytest.approx(4 / 6)
    assert first.accuracy.top5.value == 1  # of five labels
    assert report.unread == {str(labelled / "gone.mp4"): f"{labelled / 'gone.mp4'} does not exist"}
    assert second.accuracy.videos == 6
    assert report.difference(first) is None
    assert report.difference(second) is not None
    assert report.table().startswith("6 videos of ")
    assert report.table().endswith(f"\nleft out: {labelled / 'gone.mp4'} does not exist")
    many = replace(report, unread={f"{number}": f"{number} is damaged\n  fix: none" for number in range(1007)})
    assert many.table().endswith("\nleft out: 4 is damaged\nand 1,002 more, which --json names")
    assert said[0].startswith("onnxruntime fp32: 1 of 7 videos")
    assert report.to_json()["subjects"][0]["top1"]["value"] == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    ("backends", "given"),
    [(("onnxruntime", "tensorrt"), [2, None]), (("tensorrt",), [2])],
    ids=["one on the CPU", "none on the CPU, which is refused"],
)
def test_a_number_of_threads_is_for_backends_on_the_cpu(
    backends: tuple[BackendName, ...],
    given: list[int | None],
    vivit_bundle: Path,
    labelled: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int | None] = []

    def classify(loading: Loading, names: list[str], output: Path, **options: Any) -> Count:
        seen.append(loading.threads)
        loading = replace(loading, backend="onnxruntime", threads=None)
        return classify_files(loading, names, output, **options)

    monkeypatch.setattr("tubelet.runtime.evaluation.run.classify_files", classify)
    subjects = [(backend, "fp32") for backend in backends]
    evaluate(Loading(vivit_bundle, threads=2), labelled / "val.csv", subjects=subjects, root=str(labelled))
    assert seen == given


def test_views_are_what_the_model_is_asked_with(vivit_bundle: Path, labelled: Path) -> None:
    reading = Reading(clips=2, crops=3)
    report = evaluate(Loading(vivit_bundle, reading=reading), labelled / "val.csv", subjects=ONLY, root=str(labelled))
    with load(vivit_bundle, reading=reading) as model:
        truth = dict(line.split(",") for line in (labelled / "val.csv").read_text().splitlines()[1:7])
        right = sum(model.classify(labelled / name)[0].label == label for name, label in truth.items())
    assert report.subjects[0].accuracy.right.sum() == right
    assert "2x3 views" in report.summary


def test_it_goes_on_where_it_was(vivit_bundle: Path, labelled: Path, tmp_path: Path) -> None:
    loading = Loading(vivit_bundle)
    whole = evaluate(loading, labelled / "val.csv", subjects=ONLY, root=str(labelled), rows=tmp_path)
    rows = tmp_path / "onnxruntime-fp32.jsonl"
    lines = rows.read_bytes().splitlines(keepends=True)
    rows.write_bytes(b"".join(lines[:3]) + lines[3][:20])
    with pytest.raises(NotWritten, match=r"onnxruntime-fp32\.jsonl exists"):
        evaluate(loading, labelled / "val.csv", subjects=ONLY, root=str(labelled), rows=tmp_path)
    again = evaluate(loading, labelled / "val.csv", subjects=ONLY, root=str(labelled), rows=tmp_path, resume=True)
    assert again.to_json() == whole.to_json()
    assert rows.read_bytes() == b"".join(lines)
    fewer = tmp_path / "fewer.csv"
    fewer.write_text("\n".join((labelled / "val.csv").read_text().splitlines()[:3]))
    assert evaluate(loading, fewer, subjects=ONLY, root=str(labelled), rows=tmp_path, resume=True).videos == 2


def test_what_cannot_be_evaluated(vivit_bundle: Path, attentive_bundle: Path, labelled: Path, tmp_path: Path) -> None:
    vivit = Loading(vivit_bundle)
    with pytest.raises(BundleError, match="is for feature-extraction"):
        evaluate(Loading(attentive_bundle), labelled / "val.csv", subjects=ONLY)
    with pytest.raises(VideoError, match=r"none of the 7 videos can be read: 0\.mp4 does not exist"):
        evaluate(vivit, labelled / "val.csv", subjects=ONLY)
    with pytest.raises(BackendError, match="not in 'nonsense'"):
        evaluate(vivit, labelled / "val.csv", subjects=[*ONLY, ("onnxruntime", "nonsense")], rows=tmp_path)
    assert not list(tmp_path.iterdir())
    several = shutil.copytree(vivit_bundle, tmp_path / "several")
    replace(Bundle.open(several), problem_type="multi_label_classification").write_manifest()
    with pytest.raises(
        BundleError, match="is for multi_label_classification, and accuracy is of models that choose one"
    ):
        evaluate(Loading(several), labelled / "val.csv", subjects=ONLY)


class Page(HTMLParser):
    """What a page is made of: that its elements are closed in order, what they are, and what it would fetch."""

    VOID = frozenset({"meta", "br", "rect", "line", "circle"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.classes: list[str] = []
        self.text: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        found = dict(attributes)
        self.classes.append(found.get("class") or "")
        self.fetched += [name for name in ("src", "href") if name in found] + (["script"] if tag == "script" else [])

    def handle_startendtag(self, _: str, attributes: list[tuple[str, str | None]]) -> None:
        self.classes.append(dict(attributes).get("class") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def made_up(count: int) -> EvaluationReport:
    """A report over `count` labels with names that HTML must escape, and a mistake in each tenth video."""
    labels = [f"<b>label & {number}</b>" for number in range(count)]
    classes = {f"{number}.mp4": number % count for number in range(10 * count)}
    best = {name: [labels[(own + (int(name[:-4]) % 10 == 0)) % count]] for name, own in classes.items()}
    accuracy = Accuracy.of(labels, classes, best)
    subjects = (Evaluated("onnxruntime fp32", accuracy), Evaluated("openvino bf16", accuracy))
    return EvaluationReport(
        Path("b"), "0" * 64, "model <x>", Path("val.csv"), Reading(), subjects, {"<gone>.mp4": "it does not exist"}
    )


@pytest.mark.parametrize("count", [11, 400])
def test_the_page(count: int) -> None:
    report = made_up(count)
    text = page(report)
    found = Page()
    found.feed(text)
    assert found.open == []
    assert found.fetched == []
    confusion = report.subjects[0].accuracy.confusion
    right = np.count_nonzero(confusion.diagonal())
    assert found.classes.count("right") == 2 * right
    assert found.classes.count("wrong") == 2 * (np.count_nonzero(confusion) - right)
    words = " ".join(found.text)
    assert "<b>label & 3</b>" in words
    assert "<gone>.mp4" in words
    assert re.search(r"90\.00 % \(\d", words)
    assert len(text) < 1_500_000


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)], prog_name="tubelet")


def test_the_command(vivit_bundle: Path, labelled: Path, tmp_path: Path) -> None:
    common = (vivit_bundle, "--labels-csv", labelled / "val.csv", "--root", labelled)
    result = command(*common, "--backend", "onnxruntime", "--backend", "openvino", "--report", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("6 videos of ")
    assert lines[2].split() == ["top-1", "top-5", "mean", "per", "class", "beside", "the", "first"]
    assert lines[3].startswith("onnxruntime fp32   66.67 % (30.00 to 90.32)   100.00 % (")
    assert lines[4].startswith("openvino fp32      66.67 % ")
    assert "</html>" in (tmp_path / "page.html").read_text()
    document = json.loads(command(*common, "--json", "-o", tmp_path / "rows").stdout)
    assert document["subjects"][0]["top1"]["value"] == pytest.approx(4 / 6)
    assert sorted(path.name for path in (tmp_path / "rows").iterdir()) == [
        "_onnxruntime-fp32.jsonl.run.json",
        "onnxruntime-fp32.jsonl",
    ]
    assert command(*common, "--resume").exit_code == 2
    assert "the folder nowhere does not exist" in command(*common, "--report", "nowhere/page.html").output


def test_a_page_is_replaced_by_the_next_and_nothing_else_is(vivit_bundle: Path, labelled: Path, tmp_path: Path) -> None:
    common = (vivit_bundle, "--labels-csv", labelled / "val.csv", "--root", labelled, "--report")
    labels = (labelled / "val.csv").read_text()
    result = command(*common, labelled / "val.csv")
    assert (result.exit_code, "val.csv is there, and is no page" in result.stderr) == (2, True), result.output
    assert (labelled / "val.csv").read_text() == labels
    page = tmp_path / "page.html"
    for _ in range(2):
        assert command(*common, page).exit_code == 0
    assert "</html>" in page.read_text()
