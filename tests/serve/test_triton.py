"""Model repositories as they are written; test_triton_server.py starts them."""

import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from killed import join, whole

from tubelet.cli.tree import main
from tubelet.preprocess.errors import BundleError
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.engine_files import FOLDER, graph_sha256
from tubelet.runtime.bundle.engines import EngineMachine, EngineOptions, EngineRecord, Profile
from tubelet.runtime.bundle.files import BundleFile
from tubelet.serve.triton.planned import TritonOptions
from tubelet.serve.triton.repository import write_models


def tubelet(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="tubelet")


@pytest.fixture
def bundle(vivit_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of two graphs."""
    copy = shutil.copytree(vivit_bundle, tmp_path / "gestures")
    join(force=True)(copy)
    return copy


def config_of(repository: Path, name: str = "gestures") -> str:
    """config.pbtxt on one line, without its comments."""
    lines = (repository / name / "config.pbtxt").read_text().splitlines()
    return " ".join(" ".join(line for line in lines if not line.startswith("#")).split())


def test_a_repository_that_can_be_moved(bundle: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    result = tubelet("triton", bundle, "-o", repository, "--precision", "int8", "--batch", "16", "--delay-ms", "2.5")
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        f"{repository} serves gestures; {repository / 'README.md'} says how it is started and asked\n"
        f"  tritonserver --model-repository={repository}\n"
    )
    files = {str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file()}
    model = {"config.pbtxt", "labels.txt", "1/model.py", "1/bundle/bundle.json", "1/bundle/model.int8.onnx"}
    assert files == {"README.md", *(f"gestures/{name}" for name in (*model, "1/bundle/reference.npz"))}
    assert [graph.precision for graph in whole(repository / "gestures" / "1" / "bundle").graphs] == ["int8"]
    for name in ("README.md", "gestures/config.pbtxt", "gestures/1/model.py"):
        assert str(tmp_path) not in (repository / name).read_text()
    config = config_of(repository)
    assert 'name: "gestures" backend: "python" max_batch_size: 16 ' in config
    assert "dynamic_batching { max_queue_delay_microseconds: 2500 }" in config
    assert 'input [ { name: "video" data_type: TYPE_UINT8 dims: [-1] allow_ragged_batch: true } ]' in config
    assert 'name: "logits" data_type: TYPE_FP32 dims: [5] label_filename: "labels.txt"' in config
    assert "instance_group [ { count: 1 kind: KIND_CPU } ]" in config
    assert "version_policy { latest { num_versions: 1 } }" in config
    assert 'key: "precision" value { string_value: "int8" }' in config
    assert (repository / "gestures" / "labels.txt").read_text().splitlines() == list(Bundle.open(bundle).labels)


def test_the_readme_says_how_and_what_is_needed(bundle: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    write_models([bundle], repository, TritonOptions())
    write_models([bundle.rename(tmp_path / "others")], repository, TritonOptions("clips", "onnxruntime"))
    text = (repository / "README.md").read_text()
    assert "| `gestures` | python: video UINT8 [-1] -> labels STRING [5], scores FP32 [5], logits FP32 [5] |" in text
    assert "| `others` | onnxruntime: pixel_values FP32 [4, 3, 32, 32] -> logits FP32 [5] |" in text
    assert "docker run --rm -p 8000:8000" in text
    assert 'print(answer.as_numpy("labels"), answer.as_numpy("scores"), answer.as_numpy("logits"))' in text
    assert "--data-binary @clip.mp4 localhost:8000/v2/models/gestures/infer" in text
    version = Bundle.open(tmp_path / "others").versions["onnxruntime"]
    assert re.search(
        rf"- `others`: Triton's onnxruntime backend; the graph is of opset 23, file format \(IR\) \d+, made and proven "
        rf"with ONNX Runtime {version}",
        text,
    )


def test_a_graph_for_onnx_runtime_and_openvino(bundle: Path, tmp_path: Path) -> None:
    for backend in ("onnxruntime", "openvino"):
        repository = tmp_path / backend
        options = ("--input", "clips", "--backend", backend, "--instances", "2", "--threads", "3", "--batch", "1")
        result = tubelet("triton", bundle, "-o", repository, *options)
        assert result.exit_code == 0, result.output
        graph = repository / "gestures" / "1" / "model.onnx"
        assert graph.read_bytes() == (bundle / "model.onnx").read_bytes()
        config = config_of(repository)
        assert f'backend: "{backend}"' in config
        assert "max_batch_size: 1 input" in config  # and nothing to put together
        assert 'input [ { name: "pixel_values" data_type: TYPE_FP32 dims: [4, 3, 32, 32] } ]' in config
        assert "count: 2" in config
    assert 'key: "intra_op_thread_count" value { string_value: "3" }' in config_of(tmp_path / "onnxruntime")
    assert 'key: "INFERENCE_NUM_THREADS" value { string_value: "3" }' in config_of(tmp_path / "openvino")
    assert 'default_model_filename: "model.onnx"' in config_of(tmp_path / "openvino")
    refused = tubelet("triton", bundle, "-o", tmp_path / "x", "--backend", "onnxruntime", "--instances", "2")
    assert refused.exit_code == 2
    assert "2 instances of onnxruntime would take all cores each\n  fix: say how many threads" in refused.stderr
    assert not (tmp_path / "x").exists()


def test_videos_in_front_of_another_backend(videomae_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(videomae_bundle, tmp_path / "gestures")  # whose graph takes frames
    repository = tmp_path / "models"
    write_models([bundle], repository, TritonOptions("video", "onnxruntime"))
    assert sorted(path.name for path in repository.iterdir()) == [
        "README.md",
        "gestures",
        "gestures_graph",
        "gestures_prepare",
    ]
    text = (repository / "README.md").read_text()
    assert "localhost:8000/v2/models/gestures/infer" in text
    assert 'print(answer.as_numpy("logits"))' in text
    config = config_of(repository)
    assert 'platform: "ensemble"' in config
    assert 'model_name: "gestures_prepare" model_version: -1 input_map [ { key: "video" value: "video" } ]' in config
    assert 'model_name: "gestures_graph" model_version: -1 input_map [ { key: "frames" value: "clips" } ]' in config
    assert (repository / "gestures" / "1").is_dir()
    prepared = re.search(r"output \[ \{ (.*?) \} \]", config_of(repository, "gestures_prepare"))
    taken = re.search(r"input \[ \{ (.*?) \} \]", config_of(repository, "gestures_graph"))
    assert prepared is not None
    assert taken is not None
    assert prepared[1] == taken[1]
    assert {path.name for path in (repository / "gestures_prepare" / "1").iterdir()} == {"model.py", "bundle.json"}


def test_an_engine_of_tensorrt(bundle: Path, tmp_path: Path) -> None:
    without = tubelet("triton", bundle, "-o", tmp_path / "none", "--input", "clips", "--backend", "tensorrt")
    assert without.exit_code == 1
    assert f"{bundle} has no engine of fp32 that was built from it as it is\n  fix: build one" in without.stderr
    folder = bundle / FOLDER
    folder.mkdir(mode=0o700)
    plan = folder / "sm90-trt11.4-fp32-b1-4-8.plan"
    plan.write_bytes(b"a program")
    plan.chmod(0o600)
    opened = Bundle.open(bundle)
    graph = opened.graph("fp32")
    assert graph.parity is not None
    EngineRecord(
        plan=BundleFile.of(plan),
        recipe="fp32",
        graph_sha256=graph_sha256(graph),
        options=EngineOptions("fp32", (Profile(1, 4, 8),)),
        machine=EngineMachine("NVIDIA H100", (9, 0), 132, 80 * 2**30, "580.1", "13.0", "11.4.0"),
        layers={"fp32": 3},
        parity=graph.parity,
        build_seconds=1.0,
        built="2026-01-01T00:00:00+00:00",
    ).save(folder)
    write_models([bundle], tmp_path / "models", TritonOptions("clips", "tensorrt", batch=8))
    config = config_of(tmp_path / "models")
    assert 'backend: "tensorrt" max_batch_size: 8' in config
    assert "kind: KIND_GPU" in config
    assert (tmp_path / "models" / "gestures" / "1" / "model.plan").read_bytes() == b"a program"
    assert (
        "runs on NVIDIA H100 (compute capability 9.0) with TensorRT 11.4.0, and on no other"
        in (tmp_path / "models" / "README.md").read_text()
    )
    large = tubelet(
        "triton", bundle, "-o", tmp_path / "large", "--input", "clips", "--backend", "tensorrt", "--batch", "16"
    )
    assert "takes batches of 1 to 8, and Triton would send 1 to 16\n  fix: take --batch 8" in large.stderr
    plan.write_bytes(b"another program")
    with pytest.raises(Exception, match="is not the engine that was built"):
        write_models([bundle], tmp_path / "changed", TritonOptions("clips", "tensorrt"))
    assert not (tmp_path / "changed").exists()


def test_what_is_there_is_not_replaced(bundle: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    write_models([bundle], repository, TritonOptions())
    refused = tubelet("triton", bundle, "-o", repository)
    assert refused.exit_code == 1
    assert refused.stderr.startswith(f"Error: {repository / 'gestures'} exists\n  fix: ")
    assert tubelet("triton", bundle, "-o", repository, "--input", "clips", "--force").exit_code == 0
    assert 'name: "pixel_values"' in config_of(repository)
    (repository / "gestures" / "config.pbtxt").write_text('name: "gestures"\n')
    refused = tubelet("triton", bundle, "-o", repository, "--force")
    assert "was not written by tubelet triton, so --force does not replace it" in refused.stderr
    assert (repository / "gestures" / "config.pbtxt").read_text() == 'name: "gestures"\n'


def test_what_cannot_be_served(bundle: Path, attentive_bundle: Path, tmp_path: Path) -> None:
    encoder = tubelet("triton", attentive_bundle, "-o", tmp_path / "a")
    assert "is for feature-extraction; Triton is given classifiers" in encoder.stderr
    twin = shutil.copytree(bundle, tmp_path / "twin" / "gestures")
    with pytest.raises(BundleError, match="two have one name: gestures, gestures"):
        write_models([bundle, twin], tmp_path / "b", TritonOptions())
    odd = shutil.copytree(bundle, tmp_path / "my gestures")
    with pytest.raises(BundleError, match="'my gestures' cannot stand in a URL"):
        write_models([odd], tmp_path / "c", TritonOptions())
    assert (
        "has no fp16 graph; it has fp32, int8"
        in tubelet("triton", bundle, "-o", tmp_path / "d", "--precision", "fp16").stderr
    )
    (bundle / "model.onnx").write_bytes(bytes((bundle / "model.onnx").stat().st_size))
    with pytest.raises(BundleError, match="its sha256 differs"):
        write_models([bundle], tmp_path / "e", TritonOptions())
    assert not [name for name in "abcde" if (tmp_path / name / "gestures").exists()]
