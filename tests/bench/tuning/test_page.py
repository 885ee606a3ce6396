"""A tuning as text and as a page, on values made here, and on a browser."""

from dataclasses import replace
from pathlib import Path

import pytest
from page_checker import CHROMIUM, Checker, shown_by_a_browser

from tubelet.bench.tuning.page import page
from tubelet.bench.tuning.table import table
from tubelet.runtime.precisions import BackendName
from tubelet.runtime.tuning.machine import TunedMachine
from tubelet.runtime.tuning.record import FORMAT_VERSION, Choice, Outcome, Range, Tried, Tuning


def row(
    backend: BackendName,
    precision: str,
    ms: float,
    cosine: float | None,
    *,
    threads: int = 2,
    batch: int = 1,
    outcome: Outcome = "measured",
    reason: str | None = None,
    right: float | None = None,
) -> Tried:
    speed = 100 / ms
    return Tried(
        backend,
        precision,
        threads,
        batch,
        outcome,
        reason,
        clip_ms=ms,
        speed=Range(speed, speed * 0.9, speed * 1.1),
        cosine=cosine,
        accuracy=None if right is None else Range(right, right - 0.01, right + 0.01),
    )


CHOSEN = row("openvino", "int8", 25, 0.9998, threads=1, outcome="chosen", right=0.99)


@pytest.fixture
def tuning() -> Tuning:
    return Tuning(
        format_version=FORMAT_VERSION,
        bundle="<gestures> & more",
        bundle_sha256="0" * 64,
        machine=TunedMachine(
            "Linux x86_64", "Model <1>", ("avx2", "avx512_vnni"), 2, 1.5, ("L4, 24 GB",), {"onnxruntime": "1.31.1"}
        ),
        date="2026-01-01 00:00 UTC",
        arguments=("--min-cosine", "0.99"),
        baseline=Choice("onnxruntime", "fp32", 2, 1),
        choice=CHOSEN.choice,
        tried=(
            CHOSEN,
            row("openvino", "int8", 24.5, 0.9998, threads=1, batch=2),
            row("onnxruntime", "fp32", 100, 1.0, right=1.0),
            row("onnxruntime", "int8", 80, 0.98, outcome="inaccurate", reason="outside its limit"),
            row("onnxruntime", "fp16", 400, 1.0, outcome="slow", reason="0.25x in the first rounds"),
            Tried("tensorrt", None, None, 1, "refused", "tensorrt is not installed; fix: pip install it"),
        ),
        notes=("other work ran on the machine",),
    )


def test_the_table(tuning: Tuning) -> None:
    assert table(tuning) == (
        "<gestures> & more on Model <1>, 2 cores within 1.5 cores' worth of time, L4, 24 GB; avx2 avx512_vnni\n"
        "\n"
        "                  threads  clips  ms a clip                 speed    cosine     right\n"
        "openvino int8           1      1         25  4.00x (3.60 to 4.40)  0.999800   99.00 %  chosen\n"
        "openvino int8           1      2       24.5  4.08x (3.67 to 4.49)  0.999800         -  frontier\n"
        "onnxruntime fp32        2      1        100                     1  1.000000  100.00 %  frontier\n"
        "onnxruntime int8        2      1         80  1.25x (1.12 to 1.38)  0.980000         -  inaccurate\n"
        "onnxruntime fp16        2      1        400  0.25x (0.23 to 0.28)  1.000000         -  left behind\n"
        "\n"
        "onnxruntime int8 on 2 threads: outside its limit\n"
        "tensorrt: tensorrt is not installed; fix: pip install it\n"
        "\n"
        "speed: clips a second beside onnxruntime fp32 on 2 threads, the median of rounds and the range of\n"
        "their middle half; frontier: nothing that is as near to torch is faster; left behind: too slow to be\n"
        "measured to the end\n"
        "other work ran on the machine\n"
        "\n"
        "chosen: openvino int8 on 1 thread"
    )


def test_a_page_needs_nothing_else_and_escapes_what_it_shows(tuning: Tuning) -> None:
    text = page(tuning)
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert (checker.open, checker.fetched) == ([], [])
    assert not {"script", "link", "iframe"} & set(checker.seen)
    assert "url(" not in text
    assert "&lt;gestures&gt; &amp; more" in text
    assert "<gestures>" not in text
    assert "nan" not in text
    assert "tubelet tune &#39;&lt;gestures&gt; &amp; more&#39; --min-cosine 0.99" in text


def test_what_was_not_measured_has_no_plot(tuning: Tuning) -> None:
    """A regression has no cosine, and without a labelled set nothing is right or wrong."""
    values = replace(tuning, tried=tuple(replace(one, cosine=None, accuracy=None) for one in tuning.tried))
    assert "<svg" not in page(values)
    assert page(tuning).count("<svg") == 2


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_shows_the_page(tuning: Tuning, tmp_path: Path) -> None:
    file = tmp_path / "tune.html"
    file.write_text(page(tuning), encoding="utf-8")
    dom = shown_by_a_browser(file, tmp_path / "profile")
    assert dom.count("<circle") == 5 + 2
    assert dom.count("<polyline") == 2
    assert ">openvino int8, 1 thr.</text>" in dom
    assert "tensorrt is not installed" in dom
