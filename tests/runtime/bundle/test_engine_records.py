"""The JSON beside a plan, which is read before anything of TensorRT is there."""

import json
import random
from pathlib import Path

import pytest
from tampered import as_text, mutated

from tubelet.preprocess.errors import BackendError
from tubelet.runtime.bundle.engine_files import record_path
from tubelet.runtime.bundle.engines import (
    EngineMachine,
    EngineOptions,
    EngineRecord,
    Profile,
    read_records,
)
from tubelet.runtime.bundle.files import BundleFile
from tubelet.runtime.bundle.parity_report import BatchParity, InputParity, ParityReport
from tubelet.runtime.limits import CosineLimit, ValueLimit

RECORD = EngineRecord(
    plan=BundleFile("sm90-trt11.4-fp16-b1-4-8.plan", 5, "0" * 64),
    recipe="fp16",
    graph_sha256="1" * 64,
    options=EngineOptions("fp16", (Profile(1, 4, 8), Profile(16, 16, 16)), workspace_gb=0.5),
    machine=EngineMachine("NVIDIA H100", (9, 0), 132, 85 * 10**9, None, "13.0", "11.4.0.106"),
    layers={"fp16": 96, "fp32": 24},
    parity=ParityReport(
        "tensorrt",
        "fp16",
        ValueLimit(0.01, (0.5,), others=CosineLimit(0.9999, top=0)),
        (InputParity(0, (240, 320), equal=True),),
        (BatchParity(1, "logits", 1e-4, at_clip=1, at_label=0, excess=0.02, cosine=None, top_equal=True),),
    ),
    build_seconds=12.5,
    built="2026-01-02T03:04:05.000006+00:00",
)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    RECORD.save(tmp_path)
    assert list(read_records(tmp_path)) == [RECORD]


def test_whatever_a_record_holds_it_is_read_or_refused(tmp_path: Path) -> None:
    RECORD.save(tmp_path)
    path = record_path(tmp_path / RECORD.plan.name)
    values = json.loads(path.read_text())
    refused = 0
    for number in range(300):
        path.write_text(as_text(mutated(values, random.Random(number))))
        try:
            (record,) = read_records(tmp_path)
        except BackendError:
            refused += 1
        else:
            assert record.describe_layers()
            assert record.options.command(tmp_path)
            assert str(record.machine)
    assert 100 < refused < 300


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": {}}, "layers must count at least one in each type"),
        ({"layers": {"fp16": True}}, r"layers\[\.\.\.\] must be int, got bool"),
        ({"build_seconds": "12"}, 'build_seconds must be float, got "12"'),
        ({"machine": None}, "machine must be object, got null"),
        ({"options": {}}, "options.precision is missing"),
        ({"cuda": 1}, "cuda is unknown"),
    ],
)
def test_a_record_that_is_none_is_told_with_its_field(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    RECORD.save(tmp_path)
    path = record_path(tmp_path / RECORD.plan.name)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(BackendError, match=rf"is not the record of an engine: .*{message}.*\n  fix: rm "):
        list(read_records(tmp_path))
