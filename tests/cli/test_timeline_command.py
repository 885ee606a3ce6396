"""`tubelet timeline`: files in, files out, and what is said of those that cannot be."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image
from videos import make_video

from tubelet.cli.tree import main

ANY = ("--on", "0.01", "--off", "0.005", "--every", "0.2")


def timeline(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["timeline", *map(str, arguments)], input=stdin, prog_name="tubelet")


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("timeline") / "long.mp4", frames=75)


def test_all_kinds_of_files_in_one_run(videomae_bundle: Path, long_video: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / f"a.{suffix}" for suffix in ("html", "png", "json", "csv", "vtt")]
    named = [part for output in outputs for part in ("-o", output)]
    result = timeline(videomae_bundle, long_video, *ANY, *named)
    assert result.exit_code == 0, result.output
    events = json.loads((tmp_path / "a.json").read_text())["events"]
    assert result.stdout.startswith(f"{len(events)} events in ")
    assert result.stdout.endswith("".join(f"{output} is ready\n" for output in outputs))
    assert result.stderr == ""
    page = (tmp_path / "a.html").read_text()
    assert page.count("<li id=") == page.count("<img src=") == len(events) > 0
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + len(events)
    assert (tmp_path / "a.vtt").read_text().count(" --> ") == len(events)
    with Image.open(tmp_path / "a.png") as drawn:
        assert drawn.width == 1200
    assert sorted(tmp_path.iterdir()) == sorted(outputs)


def test_that_nothing_happened_is_explained(videomae_bundle: Path, long_video: Path, tmp_path: Path) -> None:
    result = timeline(videomae_bundle, long_video, "--on", 0.99, "-o", tmp_path / "a.csv")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'a.csv'} is ready\n")
    assert result.stderr.startswith("note: no event in 5 windows: one begins at a score of 0.99 (--on) and lasts 1 s")
    assert "; the highest score was 0." in result.stderr
    rule = ["--on", 0.99, "--labels", "activity 2", "--min-margin", 0.1]
    result = timeline(videomae_bundle, long_video, *rule, "-o", tmp_path / "a.csv", "--force")
    assert "at a score of 0.99 (--on), 0.1 above every other (--min-margin), and lasts 1 s" in result.stderr
    assert re.search(r"; the highest score of --labels was 0\.\d\d, activity 2, at 0:0\d\.\d\n", result.stderr)


def test_standard_input_and_a_label(videomae_bundle: Path, long_video: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.json"
    result = timeline(videomae_bundle, "-", *ANY, "--labels", "activity 2", "-o", output, stdin=long_video.read_bytes())
    assert result.exit_code == 0, result.output
    found = json.loads(output.read_text())
    assert {event["label"] for event in found["events"]} == {"activity 2"}
    assert found["video"] == "standard input"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.mp4", "-o", "a.html"], 1, "none.mp4 does not exist"),
        (["http://user:geheim@127.0.0.1:9/a.mp4", "-o", "a.html"], 1, "http://***@127.0.0.1:9/a.mp4 is a URL"),
        (["LONG", "-o", "a.mkv"], 1, "a.mkv must end in .html"),
        (["LONG"], 2, "Missing option '-o'"),
        (["LONG", "-o", "a.csv", "-o", "./a.csv"], 2, "a.csv is given twice"),
        (["LONG", "-o", "a.html", "--on", "2"], 2, "0 < off <= on <= 1"),
        (["LONG", "-o", "a.html", "--every", "0"], 2, "every must be from"),
        (["LONG", "-o", "a.html", "--labels", "juggling"], 2, "no label 'juggling'"),
    ],
)
def test_misuse(
    videomae_bundle: Path,
    long_video: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = timeline(videomae_bundle, *[str(long_video) if given == "LONG" else given for given in arguments])
    assert (result.exit_code, "Traceback" in result.output) == (code, False), result.output
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []
