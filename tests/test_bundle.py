import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tubelet.runtime import Bundle, BundleError, load
from tubelet.runtime.bundle import FORMAT_VERSION, manifest_sha256
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
    assert graph.parity["passed"] is True
    assert {file.name for file in vivit_bundle.iterdir()} == {"bundle.json", "model.onnx", "reference.npz"}


def test_the_manifest_round_trips(copy: Path) -> None:
    before = (copy / "bundle.json").read_text()
    Bundle.open(copy).write_manifest()
    assert (copy / "bundle.json").read_text() == before


def test_the_manifest_holds_no_path_of_the_exporting_machine(vivit_bundle: Path) -> None:
    for name in ("bundle.json", "model.onnx"):
        content = (vivit_bundle / name).read_bytes()
        assert str(Path(__file__).parents[1]).encode() not in content
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
    with pytest.raises(BundleError, match=r"is of format version 4; this version of tubelet reads up to 3\n.*upgrade"):
        Bundle.open(copy)


def test_an_older_format_is_refused(copy: Path) -> None:
    edit(copy, format_version=1)
    with pytest.raises(
        BundleError, match=r"is of format version 1, of an older tubelet; this one reads 2 to 3\n.*export it"
    ):
        Bundle.open(copy)


@pytest.mark.parametrize("family", ["vivit", "videomae"])
def test_a_bundle_of_format_2_is_read(family: str, request: pytest.FixtureRequest, tmp_path: Path, video: Path) -> None:
    """The manifest is one that format 2 wrote, for files that differ from today's by machine alone."""
    today = Bundle.open(request.getfixturevalue(f"{family}_bundle"))
    old = shutil.copytree(today.path, tmp_path / "bundle")
    values = json.loads((Path(__file__).parent / "manifests" / f"format-2-{family}.json").read_text())
    assert values["format_version"] == 2
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
    with pytest.raises(BundleError, match=r"bundle.json lacks a field or has one too many: 'sampling'"):
        Bundle.open(copy)


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
    with pytest.raises(BundleError, match=r"names '\.\./reference\.npz', which is not a plain file name"):
        Bundle.open(copy)
