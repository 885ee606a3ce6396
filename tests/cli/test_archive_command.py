"""`tubelet classify --files`: an archive on the command line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tubelet.cli.tree import main


@pytest.fixture
def archive(vivit_bundle: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with videos/0.mp4 to 4.mp4, of which 3 is damaged, and list.txt; it is the working directory."""
    (tmp_path / "videos").mkdir()
    for number in range(5):
        shutil.copy(video, tmp_path / f"videos/{number}.mp4")
    (tmp_path / "videos/3.mp4").write_bytes(b"no video")
    (tmp_path / "list.txt").write_text("".join(f"videos/{number}.mp4\n" for number in range(5)))
    (tmp_path / "bundle").symlink_to(vivit_bundle)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def classify(*arguments: object, **others: str) -> Result:
    return CliRunner().invoke(main, ["classify", "bundle", *map(str, arguments)], prog_name="tubelet", **others)  # type: ignore[arg-type]


def names(path: Path) -> list[str]:
    return [json.loads(line)["video"] for line in path.read_text().splitlines()]


def test_a_list_a_pattern_and_standard_input_give_the_same_rows(archive: Path) -> None:
    listed = classify("--files", "list.txt", "-o", "list.jsonl")
    assert listed.exit_code == 0, listed.output
    assert listed.stdout.startswith("list.jsonl: 5 videos, 5 in ")
    assert listed.stdout.endswith(", 1 could not be read\n")
    assert listed.stderr == ""
    assert classify("--files", "videos/*.mp4", "-o", "glob.jsonl").exit_code == 0
    assert classify("--files", "-", "-o", "stdin.jsonl", input="\n".join(names(archive / "list.jsonl"))).exit_code == 0
    rows = (archive / "list.jsonl").read_text()
    assert (archive / "glob.jsonl").read_text() == (archive / "stdin.jsonl").read_text() == rows
    lines = classify(*names(archive / "list.jsonl"), "--json-lines")
    assert lines.stdout == rows
    assert lines.exit_code == 1


def test_shards_are_the_archive(archive: Path) -> None:
    for number in (1, 2, 3):
        assert classify("--files", "list.txt", "--shard", f"{number}/3", "-o", f"{number}.jsonl").exit_code == 0
    found = [name for number in (1, 2, 3) for name in names(archive / f"{number}.jsonl")]
    assert sorted(found) == [f"videos/{number}.mp4" for number in range(5)]


def test_a_run_goes_on(archive: Path) -> None:
    assert classify("--files", "list.txt", "-o", "out.jsonl", "--resume").exit_code == 0
    whole = (archive / "out.jsonl").read_text()
    (archive / "out.jsonl").write_text(whole[: len(whole) // 2])
    refused = classify("--files", "list.txt", "-o", "out.jsonl")
    assert refused.exit_code == 1
    assert refused.stderr == (
        "Error: out.jsonl exists\n  fix: go on with it by --resume, or choose another file with -o, or remove it\n"
    )
    again = classify("--files", "list.txt", "-o", "out.jsonl", "--resume")
    assert "5 videos, 2 of them from before, 3 in " in again.stdout
    assert (archive / "out.jsonl").read_text() == whole
    assert "nothing left" in classify("--files", "list.txt", "-o", "out.jsonl", "--resume").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name a VIDEO, or an archive by --files"),
        (("--files", "list.txt"), "--files needs -o FILE, where its rows go"),
        (("--files", "list.txt", "videos/1.mp4", "-o", "o.jsonl"), "--files stands in place of VIDEO"),
        (("--files", "list.txt", "--json", "-o", "o.jsonl"), "--files stands in place of VIDEO"),
        (("videos/1.mp4", "-o", "o.jsonl"), "--shard, -o, --resume, --ray and --models are for an archive"),
        (("--files", "list.txt", "-o", "o.jsonl", "--models", "2"), "--models is how many a cluster has"),
        (("--files", "list.txt", "-o", "o.jsonl", "--ray", "auto", "--workers", "2"), "--workers are threads of this"),
        (("videos/1.mp4", "--shard", "1/2"), "--shard, -o, --resume, --ray and --models are for an archive"),
        (("--files", "list.txt", "--shard", "3/2", "-o", "o.jsonl"), "shards are numbered from 1"),
        (("--files", "list.txt", "--shard", "half", "-o", "o.jsonl"), "a shard is I/N, such as 2/8"),
    ],
)
def test_misuse(archive: Path, arguments: tuple[str, ...], said: str) -> None:
    result = classify(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (archive / "o.jsonl").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_interrupted_it_leaves_whole_rows_and_no_lock(archive: Path, video: Path) -> None:
    for number in range(5, 400):
        os.link(video, archive / f"videos/{number}.mp4")
    command = [sys.executable, "-m", "tubelet", "classify", "bundle", "--files", "videos/*.mp4", "-o", "out.jsonl"]
    with subprocess.Popen(command, cwd=archive, stderr=subprocess.PIPE, text=True) as child:
        while not (archive / "out.jsonl").exists() or not (archive / "out.jsonl").stat().st_size:
            time.sleep(0.01)
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        _, stderr = child.communicate(timeout=60)
    assert "Aborted!" in stderr
    assert (archive / "out.jsonl").read_text().endswith("}\n")
    assert 0 < len(names(archive / "out.jsonl")) < 400
    assert not list(archive.glob(".*"))
