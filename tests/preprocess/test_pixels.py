"""Whose arithmetic a bundle's pixels follow: from the checkpoint's files and the command line to what it computes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import write_checkpoint
from click.testing import CliRunner, Result
from oracle import oracle

from tubelet.cli.tree import main
from tubelet.exporter.checkpoint.load import load_checkpoint
from tubelet.exporter.checkpoint.overrides import Overrides
from tubelet.exporter.export import export_bundle
from tubelet.exporter.options import ExportOptions
from tubelet.preprocess.spec import Arithmetic, InputName
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.reference import input_sha256, load_reference
from tubelet.runtime.load import load

PROCESSORS = {
    ("vivit", "pillow"): ("pillow-12", "VivitImageProcessor"),
    ("vivit", "pillow-13"): ("pillow-13", "VivitImageProcessor"),
    ("vivit", "torchvision"): ("torchvision", "VivitVideoProcessor"),
    ("videomae", "pillow"): ("pillow-12", "VideoMAEImageProcessorPil"),
    ("videomae", "torchvision"): ("torchvision", "VideoMAEImageProcessor"),
}


def tubelet(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="tubelet")


CASES: list[tuple[str, Arithmetic, InputName]] = [
    ("vivit", "pillow", "pixel_values"),
    ("vivit", "pillow-13", "pixel_values"),
    ("vivit", "torchvision", "pixel_values"),
    ("vivit", "torchvision", "frames"),
    ("videomae", "pillow", "frames"),
    ("videomae", "torchvision", "pixel_values"),
    ("videomae", "torchvision", "frames"),
]


@pytest.mark.parametrize(("family", "arithmetic", "input_name"), CASES)
def test_a_bundle_computes_what_the_processor_and_torch_do(
    family: str, arithmetic: Arithmetic, input_name: InputName, tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path / "model", family)
    checkpoint = load_checkpoint(str(folder), overrides=Overrides(pixels=arithmetic), report=lambda _: None)
    bundle, report = export_bundle(checkpoint, tmp_path / "bundle", ExportOptions(input_name=input_name))
    assert report.passed
    assert bundle.spec.arithmetic == arithmetic

    config = json.loads((folder / "preprocessor_config.json").read_text())
    reference = load_reference(bundle)
    library, name = PROCESSORS[family, arithmetic]
    prepared = [oracle(library).ask("process", name, config, clip) for clip in reference.clips]
    if input_name == "pixel_values":
        assert reference.input_sha256 == tuple(map(input_sha256, prepared))
    with torch.inference_mode():
        logits = checkpoint.model(torch.from_numpy(np.stack(prepared))).numpy()
    np.testing.assert_allclose(reference.logits, logits, atol=1e-5)
    with load(bundle.path) as model:
        for clip, expected in zip(reference.clips, logits, strict=True):
            np.testing.assert_allclose(model.logits(model.prepare(model.read(clip)))[0], expected, atol=1e-4)


def test_the_option_is_recorded_and_shown(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", "videomae")
    path = tmp_path / "bundle"
    result = tubelet("export", "--model", folder, "-o", path, "--pixels", "torchvision")
    assert result.exit_code == 0, result.output
    said = "pixels are computed as torchvision does, as asked for; VideoMAEImageProcessor means pillow"
    assert said in result.stderr
    assert Bundle.open(path).overrides == {"pixels": "torchvision"}
    shown = tubelet("info", path)
    assert "normalised before the graph, computed as torchvision does\n" in shown.stdout
    assert said in shown.stdout
    assert json.loads(tubelet("info", path, "--json").stdout)["spec"]["arithmetic"] == "torchvision"
    assert tubelet("check", path).exit_code == 0


def test_a_check_sees_pixels_of_another_arithmetic(tmp_path: Path) -> None:
    """A bundle whose manifest says another arithmetic than its reference was made with."""
    checkpoint = load_checkpoint(str(write_checkpoint(tmp_path / "model", "videomae")), report=lambda _: None)
    bundle, _ = export_bundle(checkpoint, tmp_path / "bundle")
    replace(bundle, spec=replace(bundle.spec, arithmetic="torchvision")).write_manifest()
    result = tubelet("check", tmp_path / "bundle")
    assert result.exit_code == 3
    assert "DIFFERENT" in result.stdout


@pytest.mark.parametrize(("version", "arithmetic"), [("4.57.1", "pillow"), ("5.23.0", "torchvision")])
def test_the_writer_of_the_checkpoint_decides(version: str, arithmetic: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", "videomae", extra={"transformers_version": version})
    result = tubelet("export", "--model", folder, "-o", tmp_path / "bundle", "--dry-run")
    assert result.exit_code == 0, result.output
    name = {"pillow": "Pillow", "torchvision": "torchvision"}[arithmetic]
    assert f"note: pixels are computed as {name} does, as VideoMAEImageProcessor" in result.stderr
    assert f"(config.json: transformers_version {version})" in result.stderr


def test_an_arithmetic_that_does_not_exist(tmp_path: Path) -> None:
    result = tubelet("export", "--model", tmp_path, "--pixels", "opencv")
    assert result.exit_code == 2
    assert "'opencv' is not one of 'pillow', 'pillow-13', 'torchvision'" in result.stderr
