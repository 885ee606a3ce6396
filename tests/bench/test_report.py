"""What is computed from times, the text table, and the page: on values made here, and on a browser."""

import json
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from page_checker import CHROMIUM, Checker, shown_by_a_browser

from tubelet.bench.machine import Machine, examine_machine
from tubelet.bench.measurement import Distribution, Measurement, Ratio, Subject
from tubelet.bench.page import page
from tubelet.bench.plots import Scale, Series, dot_rows, lines, number
from tubelet.bench.report import GemmRate, LatencyReport

ROUNDS = 5

MACHINE = Machine(
    system="Linux 6.1 x86_64",
    cpu="Model <1> & Co",
    flags=("avx2", "avx512_vnni", "sse2"),
    cores=4,
    cores_allowed=(0, 1),
    cpu_quota=1.5,
    memory_mb=16000.0,
    memory_limit_mb=None,
    load_average=0.1,
    gpus=(),
    versions={"python": "3.11.9", "numpy": "2.4.6"},
)


def measured(engine: str, precision: str, batch: int, ms: float, *, cosine: float = 1.0) -> Measurement:
    return Measurement(
        subject=Subject(engine, precision, batch),
        rounds_ms=tuple((ms * batch * (1 + i / 10), ms * batch) for i in range(ROUNDS)),
        warmup_ms=(ms, ms, ms),
        steady=True,
        load_ms=(ms, 3 * ms),
        cold_start_ms=(2 * ms, 4 * ms),
        peak_memory_mb=ms + 10 * batch,
        stages_ms={"prepare": (1.0, 2.0, 3.0), "execute": (ms, ms, ms), "rank": (0.1, 0.1, 0.1)},
        cosine=cosine,
    )


def report_of(*measurements: Measurement, baseline: str | None = "torch-sdpa") -> LatencyReport:
    return LatencyReport(
        command="tubelet bench 'a <b>' --against torch-sdpa",
        date="2026-01-01 00:00 UTC",
        model="owner/<model>",
        bundle_sha256={"model.onnx": "0" * 64},
        clip_shape=(16, 3, 224, 224),
        macs=180_000_000_000,
        shapes=((1568, 768, 3072),),
        machine=MACHINE,
        threads=2,
        rounds=ROUNDS,
        video=None,
        baseline=baseline,
        measurements=measurements,
        limits=(GemmRate("numpy", "fp32", 300.0), GemmRate("onnxruntime", "fp32", 400.0)),
        clocks_mhz=(2600.0, 2500.0),
        notes=("a note",),
    )


@pytest.fixture
def report() -> LatencyReport:
    return report_of(
        *(
            one
            for batch in (1, 2, 8)
            for one in (
                measured("onnxruntime", "fp32", batch, 900),
                measured("onnxruntime", "int8", batch, 450, cosine=0.998),
                measured("torch-sdpa", "fp32", batch, 1800),
            )
        )
    )


def test_a_distribution_leaves_nothing_out() -> None:
    values = (*np.random.default_rng(0).lognormal(size=99).tolist(), 1000.0)
    found = Distribution.of(values)
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    assert (found.p50, found.p90, found.p95, found.p99) == pytest.approx((cuts[49], cuts[89], cuts[94], cuts[98]))
    assert (found.mean, found.deviation) == pytest.approx((statistics.fmean(values), statistics.pstdev(values)))
    assert (found.count, found.smallest, found.largest) == (100, min(values), 1000.0)


def test_ratios_are_taken_round_by_round() -> None:
    drift = np.array([1.0, 3.0, 0.5, 8.0])
    ratio = Ratio.of(tuple(drift * 10), tuple(drift * 4))
    assert (ratio.lower, ratio.median, ratio.upper) == pytest.approx((2.5, 2.5, 2.5))


def test_a_comparison_is_with_the_baseline_of_the_same_batch(report: LatencyReport) -> None:
    fp32, _, torch = report.at(8)
    compared = report.compare(fp32)
    assert compared is not None
    assert compared.speed.median == pytest.approx(2)
    assert compared.cold_start == pytest.approx(0.5)
    assert compared.memory == pytest.approx((900 + 80) / (1800 + 80))
    assert report.compare(torch) is None
    assert fp32.clips_per_second == pytest.approx(8000 / statistics.fmean(fp32.runs_ms))


def test_the_share_of_the_limit_is_of_the_best_rate_in_that_precision(report: LatencyReport) -> None:
    fp32, int8, _ = report.at(1)
    assert report.gflops(fp32) == pytest.approx(360 / (fp32.latency_ms.p50 / 1000))
    assert report.share_of_limit(fp32) == pytest.approx(report.gflops(fp32) / 400)
    assert report.share_of_limit(int8) is None  # no rate in int8 was measured
    on_a_gpu = replace(fp32, subject=Subject("tensorrt", "fp32", 1))
    assert report.share_of_limit(on_a_gpu) is None


def test_the_table_has_every_subject_and_at_most_100_columns(report: LatencyReport) -> None:
    table = report.table()
    assert max(map(len, table.splitlines())) <= 100
    for batch in (1, 2, 8):
        assert f"batch {batch}: ms" in table
    assert table.count("onnxruntime int8") == 9
    assert "2.00x (2.00 to 2.00)" in table
    assert "400 fp32 (onnxruntime)" in table
    assert "a note" in table


def test_json_holds_what_the_table_says(report: LatencyReport) -> None:
    document = json.loads(json.dumps(report.to_json()))
    first = document["measurements"][0]
    assert first["name"] == "onnxruntime fp32"
    assert first["latency_ms"]["p99"] == pytest.approx(report.measurements[0].latency_ms.p99)
    assert len(first["rounds_ms"]) == ROUNDS
    assert document["comparisons"][0]["speed"]["median"] == pytest.approx(2)
    assert document["machine"]["cpu"] == MACHINE.cpu


def test_a_scale_and_its_ticks() -> None:
    scale = Scale(0, 97, 100, 200)
    assert scale.at(97) == 200
    assert scale.ticks() == [0, 50]
    assert Scale(0, 90, 0, 1).ticks() == [0, 50]
    assert Scale(0, 100, 0, 1).ticks() == [0, 50, 100]
    logarithmic = Scale(10, 1000, 0, 100, logarithmic=True)
    assert logarithmic.at(100) == pytest.approx(50)
    assert logarithmic.ticks() == pytest.approx([10, 20, 50, 100, 200, 500, 1000])


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.1234, "0.123"), (12345.6, "12,346"), (1e-7, "1e-7"), (2, "2")]
)
def test_numbers_as_a_person_writes_them(value: float, text: str) -> None:
    assert number(value) == text


def test_plots_stand_equal_values_and_lone_places() -> None:
    assert "nan" not in str(dot_rows([Series("one", "red", (5.0, 5.0))], "ms", "same"))
    flat = lines([Series("one", "red", (1.0, 1.0))], (1, 2), "ms", "round", "flat", from_zero=False)
    assert "nan" not in str(flat)


@pytest.mark.parametrize("batches", [(1,), (1, 2, 8)])
@pytest.mark.parametrize("baseline", [None, "torch-sdpa"])
def test_the_page_is_well_formed_and_needs_nothing_else(
    report: LatencyReport, batches: tuple[int, ...], baseline: str | None
) -> None:
    chosen = [one for one in report.measurements if one.subject.batch in batches]
    if baseline is None:
        chosen = [one for one in chosen if one.subject.name == "onnxruntime int8"]
    text = page(report_of(*chosen, baseline=baseline))
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    assert checker.fetched == []
    assert not {"script", "link", "iframe"} & set(checker.seen)
    assert "url(" not in text
    assert "http" not in text
    assert "nan" not in text
    assert "owner/&lt;model&gt;" in text
    assert "owner/<model>" not in text
    assert "prefers-color-scheme: dark" in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_shows_the_page(report: LatencyReport, tmp_path: Path) -> None:
    file = tmp_path / "bench.html"
    file.write_text(page(report), encoding="utf-8")
    dom = shown_by_a_browser(file, tmp_path / "profile")
    # One plot of dots for each batch, throughput, memory, agreement, stages, limit, rounds.
    assert dom.count("<svg") == 3 + 6
    runs = 3 * 3 * 2 * ROUNDS
    assert dom.count('class="dot"') == runs
    for name in ("onnxruntime fp32", "onnxruntime int8", "torch-sdpa"):
        assert f">{name}</text>" in dom


def test_the_machine_tells_what_the_system_says() -> None:
    machine = examine_machine()
    assert machine.cpu
    assert 1 <= len(machine.cores_allowed) <= machine.cores
    assert machine.versions["numpy"] == np.__version__
