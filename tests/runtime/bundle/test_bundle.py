import json
import os
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tampered import mutated, sign

from tubelet.preprocess.errors import BundleError
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.formats import OLDEST_READ, upgraded
from tubelet.runtime.bundle.manifest import FORMAT_VERSION, manifest_sha256
from tubelet.runtime.load import load
from tubelet.runtime.reading import Reading


@pytest.fixture
def copy(vivit_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(vivit_bundle, tmp_path / "bundle")


def edit(path: Path, **changes: object) -> None:
    manifest = path / "bundle.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


def test_a_bundle_says_what_it_is(vivit_bundle: Path) -> None:
    bundle = Bundle.open(vivit_bundle)
    assert bundle.model_id == "vivit"
    assert bundle.commit is None
    assert bundle.architecture == "VivitForVideoClassification"
    assert bundle.task == "video-classification"
    assert bundle.labels == tuple(f"activity {i}" for i in range(5))
    assert bundle.spec.num_frames == 4
    (graph,) = bundle.graphs
    assert graph.inputs[0].shape == ("batch", 4, 3, 32, 32)
    assert graph.outputs[0].shape == ("batch", 5)
    assert graph.parity is not None
    assert graph.parity.passed
    assert {file.name for file in vivit_bundle.iterdir()} == {"bundle.json", "model.onnx", "reference.npz"}


def test_the_manifest_round_trips(copy: Path) -> None:
    before = (copy / "bundle.json").read_text()
    Bundle.open(copy).write_manifest()
    assert (copy / "bundle.json").read_text() == before


def test_the_manifest_holds_no_path_of_the_exporting_machine(vivit_bundle: Path) -> None:
    for name in ("bundle.json", "model.onnx"):
        content = (vivit_bundle / name).read_bytes()
        assert str(Path(__file__).parents[3]).encode() not in content
        assert str(vivit_bundle.parent).encode() not in content


@pytest.mark.parametrize(
    ("labels", "shown"),
    [(("a",), "1 label: a"), (("a", "b", "c"), "3 labels: a, b, c"), (tuple("abcd"), "4 labels: a, b, c, ...")],
)
def test_the_summary_shows_the_first_labels(vivit_bundle: Path, labels: tuple[str, ...], shown: str) -> None:
    summary = replace(Bundle.open(vivit_bundle), labels=labels).summary()
    assert f"task       video-classification, {shown}\n" in summary


def test_an_unknown_precision_names_those_there_are(vivit_bundle: Path) -> None:
    bundle = Bundle.open(vivit_bundle)
    with pytest.raises(BundleError, match=r"has no int8 graph; it has fp32\n  fix: tubelet quantize .* int8$"):
        bundle.graph("int8")
    with pytest.raises(BundleError, match=r"precision 'int4'; there are fp32, fp16, int8, int8-static, fp8$"):
        bundle.graph("int4")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nothing", r"a bundle is a folder with a bundle\.json; .* does not exist"),
        ("file", r"a bundle is a folder with a bundle\.json; .* is a file"),
        ("folder", r"is not a bundle: it has no bundle\.json"),
    ],
)
def test_what_is_no_bundle(tmp_path: Path, what: str, message: str) -> None:
    path = tmp_path / "thing"
    if what == "file":
        path.touch()
    if what == "folder":
        path.mkdir()
    with pytest.raises(BundleError, match=message):
        Bundle.open(path)


def test_a_newer_format_is_refused(copy: Path) -> None:
    edit(copy, format_version=FORMAT_VERSION + 1)
    with pytest.raises(BundleError, match=r"is of format version 7; this version of tubelet reads up to 6\n.*upgrade"):
        Bundle.open(copy)


def test_an_older_format_is_refused(copy: Path) -> None:
    edit(copy, format_version=1)
    with pytest.raises(
        BundleError, match=r"is of format version 1, of an older tubelet; this one reads 2 to 6\n.*export it"
    ):
        Bundle.open(copy)


@pytest.mark.parametrize("family", ["vivit", "videomae"])
@pytest.mark.parametrize("version", range(OLDEST_READ, FORMAT_VERSION))
def test_a_bundle_of_an_earlier_format_is_read(
    version: int, family: str, request: pytest.FixtureRequest, tmp_path: Path, video: Path
) -> None:
    """The manifest is one that the format's own code wrote, for files that differ from today's by machine alone."""
    today = Bundle.open(request.getfixturevalue(f"{family}_bundle"))
    old = shutil.copytree(today.path, tmp_path / "bundle")
    values = json.loads((Path(__file__).parent / "manifests" / f"format-{version}-{family}.json").read_text())
    assert values["format_version"] == version
    assert values["sha256"] == manifest_sha256(values)
    values |= {name: today.to_json()[name] for name in ("graphs", "reference")}
    values["sha256"] = manifest_sha256(values)
    (old / "bundle.json").write_text(json.dumps(values))

    bundle = Bundle.open(old)

    assert bundle.spec == today.spec
    reading = Reading(clips=2, crops=3)
    with load(old, reading=reading) as before, load(today.path, reading=reading) as now:
        assert before.classify(video) == now.classify(video)
    bundle.write_manifest()
    assert json.loads((old / "bundle.json").read_text())["format_version"] == FORMAT_VERSION
    assert Bundle.open(old) == bundle


def test_a_bundle_of_format_2_that_lacks_a_field_is_refused(copy: Path) -> None:
    values = json.loads((Path(__file__).parent / "manifests" / "format-2-vivit.json").read_text())
    del values["spec"]["sampling"]
    (copy / "bundle.json").write_text(json.dumps(values | {"sha256": manifest_sha256(values)}))
    with pytest.raises(BundleError, match=r"bundle.json, of format 2: spec.sampling.policy is missing"):
        Bundle.open(copy)


def test_the_present_format_is_read_as_it_is(copy: Path) -> None:
    """A field that is new today, and a manifest of yesterday lacks, needs a format of its own."""
    values = json.loads((copy / "bundle.json").read_text())
    assert upgraded(values, FORMAT_VERSION) is values


def test_a_model_that_merges_in_format_5_says_nothing_of_what_moves() -> None:
    unknown = {"moved": None, "moved_elsewhere": None}
    before = {"merging": {name: value for name, value in MERGING.items() if name not in unknown}}
    assert upgraded(before, 5) == {"merging": MERGING | unknown}
    assert upgraded({"merging": None}, 5) == {"merging": None}


def test_a_model_of_one_label_in_format_2_gives_a_value() -> None:
    values = json.loads((Path(__file__).parent / "manifests" / "format-2-vivit.json").read_text())
    assert upgraded(values, 2)["problem_type"] == "single_label_classification"
    assert upgraded(values | {"labels": ["LABEL_0"]}, 2)["problem_type"] == "regression"


def test_a_changed_manifest_is_refused(copy: Path) -> None:
    edit(copy, labels=["wrong"] * 5)
    with pytest.raises(BundleError, match=r"bundle\.json was changed after the export"):
        Bundle.open(copy)


@pytest.mark.parametrize("text", ["{", "[]", '{"spec": {}}'])
def test_a_damaged_manifest_is_refused(copy: Path, text: str) -> None:
    (copy / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"bundle\.json (is damaged|has no format_version)"):
        Bundle.open(copy)


@pytest.mark.parametrize("name", ["model.onnx", "reference.npz"])
def test_a_missing_or_shortened_file_is_refused_on_opening(copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:-1])
    with pytest.raises(BundleError, match=rf"{re.escape(name)} has {len(content) - 1} bytes, {len(content)} were"):
        Bundle.open(copy)
    (copy / name).unlink()
    with pytest.raises(BundleError, match=rf"{re.escape(name)} is missing from the bundle"):
        Bundle.open(copy)


@pytest.mark.parametrize("name", ["model.onnx", "reference.npz"])
def test_a_changed_byte_is_found_when_the_file_is_used(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    bundle = Bundle.open(copy)
    file = bundle.reference if name == "reference.npz" else bundle.graphs[0].files[0]
    with pytest.raises(BundleError, match=r"is not the file that was exported: its sha256 differs"):
        bundle.verified(file)


def test_a_manifest_cannot_name_files_outside_the_bundle(copy: Path) -> None:
    from dataclasses import replace

    bundle = Bundle.open(copy)
    (copy.parent / "reference.npz").write_bytes((copy / "reference.npz").read_bytes())
    replace(bundle, reference=replace(bundle.reference, name="../reference.npz")).write_manifest()
    with pytest.raises(BundleError, match=r"bundle.json: reference.name must be a plain file name, got '\.\./ref"):
        Bundle.open(copy)


MERGING: dict[str, object] = {
    "removed": 2, "tokens": [9, 7], "narrowest": 0.1, "moved": 0.0, "moved_elsewhere": 0.1, "compared_on": "clips",
    "cosine": 0.9, "same_label": None, "farthest": None
}  # fmt: skip

# The way to a field, what stands there, and what is said of it. "-" removes the field.
PROBLEMS: list[tuple[tuple[str | int, ...], object, str]] = [
    (("task",), 5, "task must be str, got 5"),
    (("task",), "captioning", "task must be one of video-classification, feature-extraction, masked-modeling, got "),
    (("task",), "feature-extraction", "graphs[0].outputs must give last_hidden_state for feature-extraction, got logi"),
    (("task",), "masked-modeling", "norm_pix_loss must be true or false for masked-modeling"),
    (("problem_type",), None, "problem_type must say how logits become scores"),
    (("problem_type",), "guess", "problem_type must be one of single_label_classification, "),
    (("labels",), "abcde", 'labels must be array, got "abcde"'),
    (("labels",), [], "labels must be one a logit, got 0 for logits float32 (batch, 5)"),
    (("labels", 4), "-", "labels must be one a logit, got 4 for logits float32 (batch, 5)"),
    (("labels", 2), 7, "labels[2] must be str, got 7"),
    (("labels", 2), None, "labels[2] must be str, got null"),
    (("commit",), 1, "commit must be str | null, got 1"),
    (("versions", "torch"), 2, "versions[...] must be str, got int"),
    (("notes",), {}, "notes must be array, got an object of 0"),
    (("overrides",), {"image_size": [[1]]}, "overrides[...][0] must be int, got array"),
    (("unheard_of",), 1, "unheard_of is unknown"),
    (("readout",), "-", "readout is missing"),
    (("token_order",), "-", "token_order is missing"),
    (("spec",), [], "spec must be object, got an array of 0"),
    (("spec", "layout"), "-", "spec.layout is missing"),
    (("spec", "layout"), "NHWC", 'spec.layout must be one of TCHW, THWC, got "NHWC"'),
    (("spec", "crop_size"), 224, "spec.crop_size is unknown"),
    (("spec", "num_frames"), "4", 'spec.num_frames must be int, got "4"'),
    (("spec", "num_frames"), 4.0, "spec.num_frames must be int, got 4.0"),
    (("spec", "num_frames"), True, "spec.num_frames must be int, got true"),
    (("spec", "num_frames"), 2**63, "spec: num_frames must be a whole number above 0, and at most 1048576, got 9223"),
    (("spec", "num_frames"), 8, "graphs[0].inputs[0] must be the clips of spec, float32 (8, 3, 32, 32), got pixel_val"),
    (("spec", "crop"), [32], "spec.crop must be array of length 2, got an array of 1"),
    (("spec", "crop"), [2**63, 32], "spec: crop must be a whole number above 0, and at most 1048576, got 92233720368"),
    (("spec", "crop"), [2**19, 2**19], "spec: a clip of 4 frames of 524288x524288 has more than 268435456 pixels"),
    (("spec", "mean"), [0.5, 0.5, None], "spec.mean[2] must be float, got null"),
    (("spec", "std"), None, "spec: mean and std must be given together"),
    (("spec", "rescale_factor"), "1", 'spec.rescale_factor must be float, got "1"'),
    (("spec", "rescale_factor"), -1, "spec: rescale_factor must be above 0, got -1.0"),
    (("spec", "resize"), 224, "spec.resize must be object, got 224"),
    (("spec", "resize"), {"edge": "224"}, 'spec.resize.edge must be int, got "224"'),
    (("spec", "resize"), {"edge": 0}, "spec.resize: edge must be a whole number above 0, got 0"),
    (("spec", "resize"), {"edge": 224, "height": 3}, "spec.resize.height is unknown"),
    (("spec", "resize"), {"height": 224}, "spec.resize.width is missing"),
    (("spec", "evaluation", "sampling", "policy"), "random", "spec.evaluation.sampling.policy must be one of centre-l"),
    (("spec", "evaluation", "sampling", "stride"), 0, "spec.evaluation.sampling: stride must be a whole number above "),
    (("spec", "evaluation", "averages"), "-", "spec.evaluation.averages is missing"),
    (("tubelet",), [2, 8], "tubelet must be array of length 3, got an array of 2"),
    (("tubelet",), [0, 8, 8], "tubelet must be three numbers above 0, got [0, 8, 8]"),
    (("tubelet",), [2, 8, 64], "tubelet must fit into a clip of 4 frames of (32, 32), got [2, 8, 64]"),
    (("graphs",), [], "graphs must hold at least one"),
    (("graphs",), None, "graphs must be array, got null"),
    (("graphs", 0), "fp32", 'graphs[0] must be object, got "fp32"'),
    (("graphs", 0, "precision"), "int4", "graphs[0].precision must be one of fp32, fp16, int8, int8-static, fp8, got "),
    (("graphs", 0, "opset"), "23", 'graphs[0].opset must be int, got "23"'),
    (("graphs", 0, "opset"), -1, "graphs[0].opset must be a version of ONNX's operators, got -1"),
    (("graphs", 0, "files"), [], "graphs[0].files must hold at least one, the graph"),
    (("graphs", 0, "files", 0, "bytes"), "5", 'graphs[0].files[0].bytes must be int, got "5"'),
    (("graphs", 0, "files", 0, "bytes"), -5, "graphs[0].files[0].bytes must be a size, got -5"),
    (("graphs", 0, "files", 0, "name"), None, "graphs[0].files[0].name must be str, got null"),
    (("graphs", 0, "files", 0, "name"), "..", "graphs[0].files[0].name must be a plain file name, got '..'"),
    (("graphs", 0, "files", 0, "name"), "", "graphs[0].files[0].name must be a plain file name, got ''"),
    (("graphs", 0, "files", 0, "name"), "a\0b", "graphs[0].files[0].name must be a plain file name, got 'a\\x00b'"),
    (("graphs", 0, "files", 0, "name"), "C:\\x", "graphs[0].files[0].name must be a plain file name, got 'C:\\\\x'"),
    (("graphs", 0, "files", 0, "name"), "reference.npz", "no two files may have one name, got bundle.json, reference."),
    (("graphs", 0, "inputs"), [], "graphs[0].inputs must hold at least one"),
    (("graphs", 0, "inputs", 0, "name"), 3, "graphs[0].inputs[0].name must be str, got 3"),
    (("graphs", 0, "inputs", 0, "name"), "frames", "graphs[0].inputs[0] must be the clips of spec, float32 (4, 3, 32,"),
    (("graphs", 0, "inputs", 0, "shape", 1), 0, "graphs[0].inputs[0].shape must be the name of the batch and numbers "),
    (("graphs", 0, "outputs"), [], "graphs[0].outputs must hold at least one"),
    (("graphs", 0, "outputs", 0, "name"), "scores", "graphs[0].outputs must give logits for video-classification, got"),
    (("graphs", 0, "outputs", 0, "shape"), ["batch"], "graphs[0].outputs[0].shape must be the name of the batch and n"),
    (("graphs", 0, "outputs", 0, "shape", 1), 7, "labels must be one a logit, got 5 for logits float32 (batch, 7)"),
    (("graphs", 0, "outputs", 0, "shape", 1), 2**50, "graphs[0].outputs[0].shape is larger than any tensor"),
    (("graphs", 0, "outputs", 0, "shape", 1), 2.5, "graphs[0].outputs[0].shape[1] must be int | str, got 2.5"),
    (("graphs", 0, "parity"), {}, "graphs[0].parity.backend is missing"),
    (("graphs", 0, "parity"), None, "graphs[0].parity must be a report that passed"),
    (("graphs", 0, "parity", "passed"), False, "graphs[0].parity.passed must be true, got false"),
    (("graphs", 0, "parity", "passed"), "-", "graphs[0].parity.passed is missing"),
    (("graphs", 0, "parity", "passed"), 1, "graphs[0].parity.passed must be bool, got 1"),
    (("graphs", 0, "parity", "batches"), [], "graphs[0].parity: nothing was compared"),
    (("graphs", 0, "parity", "batches", 0, "excess"), 1.5, "graphs[0].parity.passed must be false, got true"),
    (("graphs", 0, "parity", "batches", 0, "passed"), False, "graphs[0].parity.batches[0].passed must be true, got fa"),
    (("graphs", 0, "parity", "limit"), {"cosine": "1"}, 'graphs[0].parity.limit.cosine must be float, got "1"'),
    (("graphs", 0, "parity", "batches", 0, "batch"), None, "graphs[0].parity.batches[0].batch must be int, got null"),
    (("reference", "sha256"), 5, "reference.sha256 must be str, got 5"),
    (("products", 0, "rows"), 0, "products[0] must be numbers above 0"),
    (("merging",), "-", "merging is missing"),
    (("merging",), MERGING | {"removed": 0}, "merging.removed must be 1 or more, got 0"),
    (("merging",), MERGING | {"tokens": [9, 10]}, "merging.tokens must be numbers above 0 that do not grow"),
    (("merging",), MERGING | {"tokens": []}, "merging.tokens must be numbers above 0 that do not grow"),
    (("merging",), MERGING | {"narrowest": -1}, "merging.narrowest must be 0 or more, got -1.0"),
    (("merging",), MERGING | {"moved": None}, "merging.moved and moved_elsewhere must both be there, or both null"),
    (("merging",), MERGING | {"moved": -1}, "merging.moved must be 0 or more, got -1.0"),
    (("merging",), MERGING | {"moved_elsewhere": -2}, "merging.moved_elsewhere must be 0 or more, got -2.0"),
    (("merging",), MERGING | {"cosine": None}, "merging.one of cosine and farthest must be there, and the other null"),
    (("merging",), MERGING | {"same_label": 2}, "merging.cosine must be from -1 to 1, and same_label a share"),
]  # fmt: skip


@pytest.mark.parametrize(("way", "value", "message"), PROBLEMS, ids=[message[:50] for _, _, message in PROBLEMS])
def test_a_problem_is_told_with_its_field(copy: Path, way: tuple[str | int, ...], value: object, message: str) -> None:
    values: Any = json.loads((copy / "bundle.json").read_text())
    *outer, last = way
    parent = values
    for key in outer:
        parent = parent[key]
    if value == "-":
        del parent[last]
    else:
        parent[last] = value
    sign(copy, values)
    with pytest.raises(BundleError) as error:
        Bundle.open(copy)
    assert error.value.message.startswith(f"{copy / 'bundle.json'}: {message}")


def test_two_graphs_of_one_precision_or_of_other_inputs(copy: Path) -> None:
    values = json.loads((copy / "bundle.json").read_text())
    (graph,) = values["graphs"]
    sign(copy, values | {"graphs": [graph, graph]})
    with pytest.raises(BundleError, match="graphs must be one a precision, got fp32, fp32"):
        Bundle.open(copy)
    other = graph | {"precision": "fp16", "files": [graph["files"][0] | {"name": "model.fp16.onnx"}]}
    sign(copy, values | {"graphs": [graph, other | {"outputs": [*graph["outputs"], graph["inputs"][0]]}]})
    with pytest.raises(BundleError, match=r"graphs\[1\] must have the inputs and outputs of graphs\[0\]"):
        Bundle.open(copy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "nested without end"),
        (b'{"a":' * 100_000, "nested without end"),
        (b'{"format_version": 4, "overrides": ' + b"[" * 900 + b"]" * 900 + b"}", "changed after|nested without end"),
        (b'{"format_version": 4, "sha256": NaN}', "is damaged"),
        (b'{"format_version": ' + b"9" * 5000 + b"}", "is damaged"),
        (b'{"format_version": 1e999}', "is damaged"),
        (b'{"format_version": true}', "has no format_version"),
        (b"\xff\xfe", "is damaged"),
        (b"", "is damaged"),
        (b"null", "is damaged: it must hold an object, got null"),
        (b'"' + b" " * (17 << 20) + b'"', "is larger than 16 MB"),
    ],
)
def test_a_manifest_that_is_none(copy: Path, content: bytes, message: str) -> None:
    (copy / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match=message):
        Bundle.open(copy)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="where there are pipes")
def test_a_manifest_that_never_ends(copy: Path) -> None:
    manifest = copy / "bundle.json"
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir):
        if manifest.is_dir():
            manifest.rmdir()
        else:
            manifest.unlink()
        make(manifest)
        with pytest.raises(BundleError, match="must be a regular file, and is a folder, a pipe or a device"):
            Bundle.open(copy)


@pytest.mark.parametrize("fixture", ["vivit_bundle", "masked_bundle", "attentive_bundle"])
def test_no_tampering_with_a_manifest_raises_anything_else(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Whatever is in it, it is opened, and then of use, or refused. scripts/break.py bundles goes further."""
    copy = Path(shutil.copytree(request.getfixturevalue(fixture), tmp_path / "bundle"))
    values = json.loads((copy / "bundle.json").read_text())
    refused = 0
    for number in range(300):
        sign(copy, mutated(values, random.Random(f"{fixture} {number}")))
        try:
            bundle = Bundle.open(copy)
        except BundleError:
            refused += 1
            continue
        except Exception as error:
            raise AssertionError(f"mutation {number}") from error
        assert bundle.summary()
        assert bundle.grid.tokens > 0
        bundle.write_manifest()
        assert Bundle.open(copy) == bundle
    assert 100 < refused < 300
