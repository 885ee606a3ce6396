"""Bundles whose files are links, as caches and stores lay them out: they load, and nothing is written through them."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from checkpoints import write_checkpoint
from click.testing import CliRunner, Result
from gpu import plug_in
from tensorrt_double import VERSIONS

from tubelet.cli.tree import main
from tubelet.exporter.checkpoint.load import load_checkpoint
from tubelet.exporter.export import export_bundle
from tubelet.exporter.graph import write as graph_file
from tubelet.exporter.options import ExportOptions
from tubelet.preprocess.errors import BackendError, BundleError
from tubelet.runtime.backends import open_backend, ort_cuda
from tubelet.runtime.backends.linked_graph import LinkedGraph, find_graph
from tubelet.runtime.backends.ort import CPU_PROVIDER, open_session
from tubelet.runtime.backends.ort_cuda import CUDA_PROVIDER, TENSORRT_PROVIDER
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.precisions import GRAPH_PRECISIONS, graphs_for

RUNS = [(backend, precision) for backend in ("onnxruntime", "openvino") for precision in graphs_for(backend)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ViViT in every precision, the weights of each graph beside it. Not to be changed."""
    folder = tmp_path_factory.mktemp("plain")
    checkpoint = load_checkpoint(str(write_checkpoint(folder / "checkpoint", "vivit")), report=lambda _: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_file, "EXTERNAL_DATA_BYTES", 1000)
        export_bundle(checkpoint, folder / "bundle", ExportOptions(precisions=GRAPH_PRECISIONS))
    assert len(list((folder / "bundle").glob("*.data"))) == len(GRAPH_PRECISIONS)
    return folder / "bundle"


def lay_out_as_the_hub(plain: Path, folder: Path) -> Path:
    """As the Hub's cache has a snapshot: all files in one folder, named by what they hold."""
    (folder / "blobs").mkdir(parents=True)
    snapshot = folder / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    for file in plain.iterdir():
        blob = hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, folder / "blobs" / blob)
        (snapshot / file.name).symlink_to(f"../../blobs/{blob}")
    return snapshot


def lay_out_in_stores(plain: Path, folder: Path) -> Path:
    """As DVC and Nix have it: each file in a folder of its own."""
    bundle = folder / "bundle"
    bundle.mkdir(parents=True)
    for number, file in enumerate(sorted(plain.iterdir())):
        store = folder / "store" / f"{number:02}"
        store.mkdir(parents=True)
        shutil.copy(file, store / file.name)
        (bundle / file.name).symlink_to(store / file.name)
    return bundle


def lay_out_as_hard_links(plain: Path, folder: Path) -> Path:
    """As DVC can be set to, and Nix does with files that are equal: other names of the same files."""
    store, bundle = folder / "store", folder / "bundle"
    shutil.copytree(plain, store)
    bundle.mkdir()
    for file in store.iterdir():
        os.link(file, bundle / file.name)
    return bundle


def lay_out_behind_one_link(plain: Path, folder: Path) -> Path:
    """As people do it: the bundle's folder is a link."""
    shutil.copytree(plain, folder / "store")
    (folder / "bundle").symlink_to("store")
    return folder / "bundle"


LAYOUTS = {
    "hub": lay_out_as_the_hub,
    "stores": lay_out_in_stores,
    "hard-links": lay_out_as_hard_links,
    "one-link": lay_out_behind_one_link,
}


@pytest.fixture(params=LAYOUTS)
def linked(request: pytest.FixtureRequest, plain: Path, tmp_path: Path) -> Path:
    return LAYOUTS[request.param](plain, tmp_path / "there")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()}


def batch() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 4, 3, 32, 32)).astype(np.float32)


def tubelet(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="tubelet")


@pytest.mark.parametrize(("backend", "precision"), RUNS)
def test_it_answers_as_the_plain_bundle_does(plain: Path, linked: Path, backend: str, precision: str) -> None:
    answers = []
    for path in (plain, linked):
        try:
            with open_backend(backend, Bundle.open(path), precision) as opened:
                answers.append(opened.infer(batch()))
        except BackendError as error:
            if backend == "openvino" and "cannot compute in" in str(error):
                pytest.skip(str(error))
            raise
    np.testing.assert_allclose(answers[1], answers[0], atol=2e-5)


@pytest.mark.parametrize(("backend", "precision"), [("onnxruntime-cuda", "fp32"), ("onnxruntime-tensorrt", "fp16")])
def test_providers_for_gpus_are_given_the_same(
    plain: Path, linked: Path, backend: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_cuda, "DEVICE", "cpu")
    monkeypatch.setattr(ort_cuda, "require_provider", lambda _: None)
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(  # for the CPU, whatever is asked for
        onnxruntime, "InferenceSession", lambda graph, options, **_: session(graph, options, providers=[CPU_PROVIDER])
    )
    monkeypatch.setattr(session, "get_providers", lambda _: [TENSORRT_PROVIDER, CUDA_PROVIDER, CPU_PROVIDER])
    with open_backend(backend, Bundle.open(linked), precision) as opened:
        got = opened.infer(batch())
    monkeypatch.undo()
    with open_backend("onnxruntime", Bundle.open(plain), precision) as opened:
        np.testing.assert_allclose(got, opened.infer(batch()), atol=2e-3)


def test_commands_take_it(linked: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (
        ("check", linked),
        ("check", linked, "--backend", "openvino"),
        ("check", linked, "--precision", "int8"),
        ("classify", linked, video),
        ("classify", linked, video, "--backend", "openvino"),
        ("info", linked),
    ):
        result = tubelet(*arguments)
        assert result.exit_code == 0, result.output
    plug_in(monkeypatch, VERSIONS[-1])
    for precision in ("fp16", "int8-static"):
        built = tubelet("build", linked, "--precision", precision, "--batch", "1:2:2")
        assert built.exit_code == 0, built.output
    checked = tubelet("check", linked, "--backend", "tensorrt", "--precision", "fp16")
    assert checked.exit_code == 0, checked.output


def test_quantizing_writes_beside_the_links_and_not_through_them(
    linked: Path, plain: Path, tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_file, "EXTERNAL_DATA_BYTES", 1000)
    inside = linked.resolve()
    stored = {path: held for path, held in contents(tmp_path / "there").items() if path.parent not in (linked, inside)}
    before = contents(plain)
    made = tubelet("quantize", linked, "--precision", "int8-static,fp16", "--calibrate", video, "--force", "--json")
    assert made.exit_code == 0, made.output
    assert [parity["passed"] for parity in json.loads(made.stdout)["parity"]] == [True, True]
    now = contents(tmp_path / "there")
    assert {path: now[path] for path in stored} == stored  # nothing that others may link to has changed
    assert contents(plain) == before
    for name in ("bundle.json", "model.int8-static.onnx", "model.int8-static.onnx.data"):
        assert not (linked / name).is_symlink()
        assert (linked / name).stat().st_nlink == 1
    for precision in GRAPH_PRECISIONS:
        checked = tubelet("check", linked, "--precision", precision)
        assert checked.exit_code == 0, checked.output


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
def test_what_a_link_leads_to_is_checked_as_any_file(linked: Path, backend: str, name: str) -> None:
    damaged = (linked / name).resolve()
    damaged.write_bytes(b"\xff" * damaged.stat().st_size)
    with pytest.raises(BundleError, match=rf"{name} is not the file that was exported"):
        open_backend(backend, Bundle.open(linked), "fp32")


def test_only_weights_behind_links_are_looked_for_elsewhere(plain: Path, tmp_path: Path) -> None:
    for layout, lay_out in LAYOUTS.items():
        bundle = Bundle.open(lay_out(plain, tmp_path / layout))
        found = find_graph(bundle, bundle.graph("fp32"))
        assert isinstance(found, LinkedGraph) == (layout in ("hub", "stores"))
    # Weights in the graph are there, wherever it is.
    (tmp_path / "alone.onnx").symlink_to(plain / "model.onnx")
    assert open_session(LinkedGraph(tmp_path / "alone.onnx", plain / "model.onnx.data"), CPU_PROVIDER)


@pytest.mark.parametrize("content", [b"\xff" * 10, b"\x3a\xff", b"\x3a", b"\x07"])
def test_a_graph_that_is_no_onnx_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx is no ONNX model: .*"):
        LinkedGraph(tmp_path / "model.onnx", tmp_path / "weights").with_weights_at("weights")
