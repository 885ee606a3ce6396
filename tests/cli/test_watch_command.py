"""`tubelet watch`: its lines, and how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from videos import make_video

import tubelet.cli.watch
from tubelet.cli.tree import main
from tubelet.cli.watch import clock
from tubelet.runtime.load import load

# Labels of a model with random weights are about as likely as one another.
ANY = ("--on", "0.01", "--off", "0.005", "--min-seconds", "0", "--gap-seconds", "0", "--smooth-seconds", "0")
CAMERA = "lavfi:testsrc=size=64x48:rate=30,realtime"


def watch(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["watch", *map(str, arguments)], prog_name="tubelet")


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("watch") / "long.mp4", frames=60)


def test_json_lines_of_a_file(videomae_bundle: Path, long_video: Path) -> None:
    result = watch(
        videomae_bundle, long_video, "--json-lines", "--every", 0.5, "--top-k", 2, *ANY, "--labels", "activity 1"
    )
    assert result.exit_code == 0, result.output
    found = lines_of(result.stdout)
    kinds = [line["type"] for line in found]
    assert kinds == ["source", "window", "event", *["window"] * (kinds.count("window") - 1), "event", "source"]
    opened, closed = (line for line in found if line["type"] == "event")
    assert opened["label"] == closed["label"] == "activity 1"
    assert (opened["open"], closed["open"]) == (True, False)
    windows = [line for line in found if line["type"] == "window"]
    middles = [sum(line["seconds"]) / 2 for line in windows]
    assert (closed["begin"], closed["end"]) == pytest.approx((middles[0], middles[-1]), abs=1e-6)
    assert {len(line["predictions"]) for line in windows} == {2}
    assert {line["source"] for line in found} == {str(long_video)}
    with load(videomae_bundle) as model:
        expected = list(model.watch(long_video, every=0.5, top_k=2))
    assert [line["predictions"] for line in windows] == [
        [prediction._asdict() for prediction in window.predictions] for window in expected
    ]


def test_events_for_people(videomae_bundle: Path, long_video: Path) -> None:
    result = watch(videomae_bundle, long_video, *ANY, "--labels", "activity 1")
    assert result.exit_code == 0
    first, last = result.stdout.splitlines()
    assert first == "0:00:00.2               activity 1"
    assert last.startswith("0:00:00.2 to 0:00:01.7  activity 1, ")
    assert result.stderr.splitlines() == [
        "note: windows of 4 frames in 0.40 s, 0.133 s apart, one every 0.5 s",
        f"note: {long_video} is read as a file: nothing is dropped",
    ]


def test_that_nothing_happened_is_explained(videomae_bundle: Path, long_video: Path) -> None:
    result = watch(videomae_bundle, long_video, "--on", 0.99)
    assert (result.exit_code, result.stdout) == (0, "")
    assert (
        "note: no event in 4 windows: one begins at a score of 0.99 (--on) and lasts 1 s (--min-seconds)"
        in result.stderr
    )
    assert "; the highest score was 0." in result.stderr
    result = watch(videomae_bundle, long_video, "--on", 0.99, "--labels", "activity 2")
    assert re.search(r"; the highest score of --labels was 0\.\d\d, activity 2, at 0:00:0\d\.\d\n", result.stderr)


def test_sources_that_cannot_be_read(videomae_bundle: Path, long_video: Path, tmp_path: Path) -> None:
    result = watch(videomae_bundle, tmp_path / "missing.mp4", long_video, "--json-lines")
    assert result.exit_code == 1
    found = lines_of(result.stdout)
    (ended,) = (line for line in found if line["type"] == "source" and line["reason"])
    assert ended["reason"] == f"{tmp_path / 'missing.mp4'} does not exist"
    assert any(line["type"] == "window" for line in found)

    result = watch(videomae_bundle, tmp_path / "missing.mp4")
    assert result.exit_code == 1
    assert f"{tmp_path / 'missing.mp4'} ended: {tmp_path / 'missing.mp4'} does not exist" in result.stderr


@pytest.mark.parametrize("lines", [["--json-lines"], []])
def test_a_password_is_printed_nowhere(videomae_bundle: Path, lines: list[str]) -> None:
    url = "rtsp://me:secret@127.0.0.1:9/live?token=hidden"
    result = watch(videomae_bundle, url, "--retries", 0, *lines)
    assert result.exit_code == 1
    assert "127.0.0.1:9" in result.output
    assert "secret" not in result.output
    assert "hidden" not in result.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--on", "0.3"], "0 < off <= on <= 1, got on 0.3 and off 0.4"),
        (["--labels", "dancing"], "this model has no label 'dancing'; the nearest of its 5 are 'activity 0'"),
        (["--labels", ""], "labels must name one label at least"),
        (["--every", "0"], "every must be from 0.01 to 86400 seconds"),
        (["--seconds", "-1"], "seconds must be above 0"),
        (["--batch", "1000000000"], "batch must be a whole number from 1"),
        (["--fps", "0"], "fps must be above 0"),
    ],
)
def test_misuse(videomae_bundle: Path, long_video: Path, options: list[str], said: str) -> None:
    result = watch(videomae_bundle, long_video, *options)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert watch(videomae_bundle, "-", "-").exit_code == 2


def test_a_regression_has_windows_and_no_events(
    videomae_bundle: Path, long_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_regression(*arguments: Any, **options: Any) -> Any:
        model = load(*arguments, **options)
        model.bundle = replace(model.bundle, problem_type="regression")
        return model

    monkeypatch.setattr(tubelet.cli.watch, "load", load_regression)
    result = watch(videomae_bundle, long_video)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 4
    assert "this model is a regression" in result.stderr
    assert result.stdout.startswith("0:00:00.4  activity 0 ")


def test_times_as_people_read_them() -> None:
    assert [clock(seconds) for seconds in (0, 59.96, 3661.25, -0.068, -0.01)] == [
        "0:00:00.0",
        "0:01:00.0",
        "1:01:01.2",
        "-0:00:00.1",
        "0:00:00.0",
    ]


# --- Signals ---


def interrupted(bundle: Path, number: signal.Signals, *options: str) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, lines and errors of a command that watches a camera and gets a signal after its third window."""
    command: list[str] = [sys.executable, "-m", "tubelet", "watch", str(bundle), CAMERA, "--json-lines", *ANY, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        begun: list[str] = []
        while sum('"window"' in line for line in begun) < 3:
            begun.append(process.stdout.readline())
            assert begun[-1], process.stderr.read()
        os.kill(process.pid, number)
        asked = time.monotonic()
        rest, errors = process.stdout.read(), process.stderr.read()
        code = process.wait(30)
        assert time.monotonic() - asked < 10
    text = "".join(begun) + rest
    assert text.endswith("\n")
    return code, lines_of(text), errors


@pytest.mark.skipif(os.name == "nt", reason="Windows sends other signals")
@pytest.mark.parametrize(
    ("number", "options", "code"),
    [
        (signal.SIGINT, ["--labels", "activity 1"], 0),
        (signal.SIGTERM, ["--labels", "activity 1"], 0),
        (signal.SIGINT, ["--labels", "activity 1", "--file"], 130),
    ],
)
def test_a_signal_closes_what_is_open(
    videomae_bundle: Path, number: signal.Signals, options: list[str], code: int
) -> None:
    got, found, errors = interrupted(videomae_bundle, number, *options)
    assert got == code, errors
    assert "Traceback" not in errors
    assert found[-1]["type"] == "event"
    assert (found[-1]["label"], found[-1]["open"]) == ("activity 1", False)
    last = [line for line in found if line["type"] == "window"][-1]
    assert found[-1]["end"] == pytest.approx(sum(last["seconds"]) / 2, abs=1e-5)
