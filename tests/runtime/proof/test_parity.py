from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tubelet.preprocess.errors import BundleError
from tubelet.runtime.backends import open_backend
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.reference import Reference, load_reference
from tubelet.runtime.limits import CosineLimit
from tubelet.runtime.precisions import PRECISIONS
from tubelet.runtime.proof.parity import check_parity, clips_of_batch, compare_logits, compare_outputs

LIMIT = PRECISIONS["fp32"].limit
TORCH = np.array([[1.0, -2.0, 3.0], [0.5, 0.0, -0.5]], np.float32)


def test_equal_logits_pass() -> None:
    result = compare_logits(TORCH, TORCH, [4, 7], LIMIT)
    assert result.passed
    assert result.largest_difference == 0
    assert result.cosine == pytest.approx(1)


def test_the_largest_difference_is_found_where_it_is() -> None:
    got = TORCH.copy()
    got[1, 2] += 1e-5
    result = compare_logits(got, TORCH, [4, 7], LIMIT)
    assert (result.at_clip, result.at_label) == (7, 2)
    assert result.largest_difference == pytest.approx(1e-5, rel=1e-2)
    assert result.passed


@pytest.mark.parametrize(("excess", "passed"), [(0.9, True), (1.1, False)])
def test_the_limit_is_absolute_plus_relative(excess: float, passed: bool) -> None:
    got: Any = TORCH.astype(np.float64)
    got[0, 2] += excess * (1e-4 + 1e-4 * 3)
    result = compare_logits(got, TORCH, [4, 7], LIMIT)
    assert result.excess == pytest.approx(excess, rel=1e-3)
    assert result.passed is passed


def test_another_order_of_the_best_labels_fails_even_within_the_limit() -> None:
    torch_logits = np.array([[1.0, 1.00001, 0.0]], np.float32)
    got = np.array([[1.00001, 1.0, 0.0]], np.float32)
    result = compare_logits(got, torch_logits, [0], LIMIT)
    assert result.excess is not None
    assert result.excess < 1
    assert not result.top_equal
    assert not result.passed


def turned(row: list[float], cosine: float) -> np.ndarray:
    """(1, K), the row turned until the cosine between the two is that."""
    unit = np.array(row) / np.linalg.norm(row)
    aside = np.array([-unit[1], unit[0], *np.zeros(len(row) - 2)])
    aside -= unit * (aside @ unit)
    aside /= np.linalg.norm(aside)
    return (np.linalg.norm(row) * (cosine * unit + np.sqrt(1 - cosine**2) * aside))[None].astype(np.float32)


@pytest.mark.parametrize(("cosine", "passed"), [(0.9905, True), (0.9895, False)])
def test_a_cosine_limit_is_on_the_worst_clip(cosine: float, passed: bool) -> None:
    torch_logits = np.array([[9.0, 0.0, 1.0], [9.0, 0.0, 1.0]], np.float32)
    got = np.concatenate([torch_logits[:1], turned([9.0, 0.0, 1.0], cosine)])
    result = compare_logits(got, torch_logits, [0, 1], CosineLimit(0.99))
    assert result.cosine == pytest.approx(cosine, abs=1e-6)
    assert result.excess == pytest.approx((1 - cosine) / 0.01, rel=1e-3)
    assert result.top_equal
    assert result.passed is passed


@pytest.mark.parametrize(("margin", "equal"), [(0.01, True), (4.0, False)])
def test_another_best_label_fails_a_cosine_limit_where_torch_was_clear(margin: float, equal: bool) -> None:
    torch_logits = np.zeros((1, 400), np.float32)
    torch_logits[0] = np.random.default_rng(0).normal(size=400).clip(-2, 2)
    torch_logits[0, :2] = [5 + margin, 5]
    got = torch_logits.copy()
    got[0, :2] = [5, 5 + margin]
    result = compare_logits(got, torch_logits, [0], CosineLimit(0.9))
    assert result.top_equal is equal
    assert result.passed is equal


def test_zeros_agree_with_zeros_only() -> None:
    zeros = np.zeros((1, 3), np.float32)
    assert compare_logits(zeros, zeros, [0], CosineLimit(0.99)).passed
    assert compare_logits(zeros, TORCH[:1], [0], CosineLimit(0.99)).cosine == 0
    assert not compare_logits(zeros, TORCH[:1], [0], CosineLimit(0.99)).passed


def test_one_label_has_no_rival() -> None:
    assert compare_logits(TORCH[:, :1], TORCH[:, :1], [0, 1], CosineLimit(0.99)).passed


@pytest.mark.parametrize(("precision", "kind"), [("fp32", "0.0001 + 0.0001 x |torch|"), ("int8", "cosine 0.99")])
def test_a_report_states_its_limit(vivit_bundle: Path, precision: str, kind: str) -> None:
    bundle, reference = opened(vivit_bundle)
    with open_backend("onnxruntime", bundle, "fp32") as backend:
        report = check_parity(backend.infer, reference, bundle.spec, backend="onnxruntime", precision=precision)
    assert f"limit: {kind}" in report.table()
    assert report.to_json()["limit"]["top"] == PRECISIONS[precision].limit.top


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_fail(value: float) -> None:
    got = TORCH.copy()
    got[0, 0] = value
    assert not compare_logits(got, TORCH, [4, 7], LIMIT).passed


def test_every_clip_is_seen_and_changes_its_place() -> None:
    batches = {size: clips_of_batch(size, 4) for size in (1, 2, 3, 8)}
    assert {size: len(clips) for size, clips in batches.items()} == {1: 1, 2: 2, 3: 3, 8: 8}
    assert set(batches[8]) == {0, 1, 2, 3}
    assert len({batches[size][0] for size in (1, 2, 3)}) == 3


def opened(path: Path) -> tuple[Bundle, Reference]:
    bundle = Bundle.open(path)
    return bundle, load_reference(bundle)


@pytest.mark.parametrize("fixture", ["vivit_bundle", "videomae_bundle"])
def test_onnx_runtime_computes_what_torch_computed(fixture: str, request: pytest.FixtureRequest) -> None:
    bundle, reference = opened(request.getfixturevalue(fixture))
    with open_backend("onnxruntime", bundle, "fp32") as backend:
        report = check_parity(backend.infer, reference, bundle.spec, backend="onnxruntime", precision="fp32")
    assert report.passed, report.table()
    assert [row.batch for row in report.batches] == [1, 2, 3, 8]
    assert all(row.equal for row in report.inputs)
    assert report.table().endswith("PASS")


def test_a_backend_that_mixes_up_its_batch_fails(vivit_bundle: Path) -> None:
    bundle, reference = opened(vivit_bundle)
    with open_backend("onnxruntime", bundle, "fp32") as backend:
        report = check_parity(
            lambda batch: backend.infer(batch)[::-1],
            reference,
            bundle.spec,
            backend="onnxruntime",
            precision="fp32",
        )
    assert [row.passed for row in report.batches] == [True, False, False, False]
    assert not report.passed
    assert report.table().endswith("FAIL")


def test_other_preprocessing_is_reported_even_where_logits_agree(vivit_bundle: Path) -> None:
    bundle, reference = opened(vivit_bundle)
    changed = Reference(reference.clips, ("0" * 64, *reference.input_sha256[1:]), reference.outputs)
    with open_backend("onnxruntime", bundle, "fp32") as backend:
        report = check_parity(backend.infer, changed, bundle.spec, backend="onnxruntime", precision="fp32")
    assert [row.equal for row in report.inputs] == [False, True, True, True]
    assert not report.passed
    assert "DIFFERENT" in report.table()


def test_comparing_nothing_is_an_error(vivit_bundle: Path) -> None:
    bundle, reference = opened(vivit_bundle)
    with pytest.raises(BundleError, match="nothing can be compared"):
        check_parity(
            lambda batch: batch,
            Reference((), (), reference.outputs),
            bundle.spec,
            backend="",
            precision="fp32",
        )


def test_a_report_of_nothing_is_an_error(vivit_bundle: Path) -> None:
    bundle, reference = opened(vivit_bundle)
    with open_backend("onnxruntime", bundle, "fp32") as backend:
        report = check_parity(backend.infer, reference, bundle.spec, backend="onnxruntime", precision="fp32")
    nothings: tuple[dict[str, Any], ...] = ({"batches": ()}, {"inputs": ()})
    for nothing in nothings:
        with pytest.raises(BundleError, match="nothing was compared"):
            replace(report, **nothing)


@pytest.mark.parametrize(
    ("got", "torch_logits", "clips"),
    [
        (TORCH[:, :0], TORCH[:, :0], [4, 7]),
        (TORCH[:0], TORCH[:0], []),
        (TORCH[:, :1], TORCH, [4, 7]),  # which numpy would stretch
        (TORCH[:1], TORCH, [4, 7]),
        (TORCH, TORCH[:1], [4, 7]),
        (TORCH, TORCH, [4]),
        (TORCH[0], TORCH[0], [4, 7, 8]),
    ],
)
def test_logits_that_do_not_lie_beside_each_other_are_not_compared(
    got: np.ndarray, torch_logits: np.ndarray, clips: list[int]
) -> None:
    with pytest.raises(BundleError, match="cannot be compared"):
        compare_logits(got, torch_logits, clips, LIMIT)


@pytest.mark.parametrize(
    ("got", "recorded", "message"),
    [
        ({}, {}, "the graph gives nothing"),
        ({"logits": TORCH}, {}, "the graph gives logits, and torch's answers are : all of it must be compared"),
        ({}, {"logits": TORCH}, "the graph gives nothing, and torch's answers are logits"),
        ({"logits": TORCH}, {"logits": TORCH, "more": TORCH}, "torch's answers are logits, more"),
        ({"logits": TORCH, "more": TORCH}, {"logits": TORCH}, "the graph gives logits, more"),
        ({"logits": TORCH[:, :0]}, {"logits": TORCH[:, :0]}, "logits of 2 clips cannot be compared"),
        ({"logits": TORCH[:1]}, {"logits": TORCH}, "logits of 2 clips cannot be compared"),
        ({"logits": TORCH[:, 0]}, {"logits": TORCH}, "logits of 2 clips cannot be compared"),
    ],
)
def test_every_output_must_have_its_answer(
    got: dict[str, np.ndarray], recorded: dict[str, np.ndarray], message: str
) -> None:
    reference = Reference((), (), recorded)
    with pytest.raises(BundleError, match=message):
        compare_outputs(got, reference, [0, 1], LIMIT)
