"""An archive becomes a file of rows: whole, each video once, whatever came between."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from tubelet import BackendError, MissingExtra, NotWritten, Reading, VideoClassifier, VideoError, load
from tubelet.runtime.archive.journal import alone
from tubelet.runtime.archive.loading import Loading
from tubelet.runtime.archive.names import Shard
from tubelet.runtime.archive.rows import Row
from tubelet.runtime.archive.run import Count, classify_files, duration

SUPPORT = Path(__file__).parents[2] / "support"


@pytest.fixture
def names(video: Path, tmp_path: Path) -> list[str]:
    """Two videos, one that is not there between them, and one of another file system."""
    shutil.copy(video, tmp_path / "b.mp4")
    fsspec.filesystem("memory").pipe("/archive/c.mp4", video.read_bytes())
    return [str(video), str(tmp_path / "absent.mp4"), str(tmp_path / "b.mp4"), "memory://archive/c.mp4"]


def lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def made_up(names: list[str]) -> Iterator[Row]:
    """Rows without a model, of every form."""
    for name in names:
        if name.startswith("bad"):
            yield {"video": name, "error": f"{name} is bad"}
        else:
            predictions = [{"label": "ü", "score": 0.5}, {"label": "b", "score": 0.25}]
            yield {"video": name, "predictions": predictions, "frames": [0, 4], "seconds": [0.0, None]}


def test_rows_are_what_the_model_says(vivit_bundle: Path, names: list[str], tmp_path: Path) -> None:
    said: list[str] = []
    count = classify_files(Loading(vivit_bundle), names, tmp_path / "out.jsonl", batch=2, top_k=2, progress=said.append)
    rows = lines(tmp_path / "out.jsonl")
    with load(vivit_bundle) as model:
        expected = [prediction._asdict() for prediction in model.classify(names[0], top_k=2)]
        frames = model.read(names[0]).indices[0].tolist()
    assert [row["video"] for row in rows] == names
    assert [row.get("predictions") for row in rows] == [expected, None, expected, expected]
    assert rows[3]["frames"] == frames
    assert rows[1] == {"video": names[1], "error": f"{names[1]} does not exist"}
    assert (count.total, count.before, count.done, count.errors) == (4, 0, 4, 1)
    assert said[0].startswith("1 of 4 videos, ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_out.jsonl.run.json", "b.mp4", "out.jsonl"]


@pytest.mark.parametrize("reading", [Reading(), Reading(clips=2, crops=3, on_error="skip")])
def test_parquet_holds_the_same_rows(vivit_bundle: Path, names: list[str], tmp_path: Path, reading: Reading) -> None:
    loading = Loading(vivit_bundle, reading=reading)
    for name in ("out.jsonl", "out.parquet"):
        classify_files(loading, names, tmp_path / name)
    rows = [{name: value for name, value in row.items() if value is not None} for row in read(tmp_path / "out.parquet")]
    assert rows == lines(tmp_path / "out.jsonl")
    assert ("stood_in" in rows[0]) == (reading.on_error == "skip")


def read(path: Path) -> list[Row]:
    rows: list[Row] = pq.read_table(path).to_pylist()
    return rows


def test_wherever_the_file_was_cut_off_the_rest_is_done_again(
    vivit_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)  # which is for the loss of power, and takes most of the time
    names = ["a.mp4", "bad.mp4", "ü.mp4"]
    whole = tmp_path / "whole.jsonl"
    classify_files(Loading(vivit_bundle), names, whole, classify=made_up)
    text = whole.read_bytes()
    out = tmp_path / "out.jsonl"
    shutil.copy(tmp_path / "_whole.jsonl.run.json", tmp_path / "_out.jsonl.run.json")
    for length in {*range(0, len(text), 11), *range(text[:-1].rfind(b"\n") - 3, len(text) + 1)}:
        out.write_bytes(text[:length])
        count = classify_files(Loading(vivit_bundle), names, out, resume=True, classify=made_up)
        assert out.read_bytes() == text
        assert count.before == text[:length].count(b"\n")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_an_archive_that_grew_is_gone_on_with(vivit_bundle: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    for names in (["c.mp4"], ["a.mp4", "bad.mp4", "c.mp4"], ["a.mp4", "bad.mp4", "c.mp4"]):
        count = classify_files(Loading(vivit_bundle), names, out, resume=True, classify=made_up)
    assert (count.before, count.done) == (3, 0)
    rows = lines(out) if suffix == ".jsonl" else read(out)
    assert [row["video"] for row in rows] == ["c.mp4", "a.mp4", "bad.mp4"]


def test_shards_are_read_together(vivit_bundle: Path, tmp_path: Path) -> None:
    """By the readers that people have: a folder of Parquet, and lines one after another."""
    names = [f"{number}.mp4" for number in range(40)] + ["bad.mp4"]
    for number in (1, 2, 3):
        shard = Shard(number, 3)
        own = [name for name in names if shard.has(name)]
        for form in ("parquet", "jsonl"):
            out = tmp_path / form / f"{number}.{form}"
            classify_files(Loading(vivit_bundle), own, out, shard=shard, classify=made_up)
    table = pa.dataset.dataset(tmp_path / "parquet", format="parquet").to_table()
    assert sorted(table["video"].to_pylist()) == sorted(names)
    assert table["error"].null_count == 40
    assert sorted(row["video"] for path in tmp_path.glob("jsonl/*.jsonl") for row in lines(path)) == sorted(names)


def test_an_empty_shard_has_no_rows(vivit_bundle: Path, tmp_path: Path) -> None:
    for name in ("out.jsonl", "out.parquet"):
        assert classify_files(Loading(vivit_bundle), [], tmp_path / name).total == 0
    assert lines(tmp_path / "out.jsonl") == read(tmp_path / "out.parquet") == []


def test_rows_stay_unless_they_are_gone_on_with(vivit_bundle: Path, tmp_path: Path) -> None:
    for name in ("out.jsonl", "out.parquet"):
        classify_files(Loading(vivit_bundle), ["a.mp4"], tmp_path / name, classify=made_up)
        with pytest.raises(NotWritten, match=rf"{name} exists\n  fix: go on with it by --resume"):
            classify_files(Loading(vivit_bundle), ["b.mp4"], tmp_path / name, classify=made_up)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"top_k": 2}, "with top_k 5, now it is 2"),
        ({"shard": Shard(1, 2)}, "with shard 1/1, now it is 1/2"),
        ({"precision": "int8"}, "with precision fp32, now it is int8"),
        ({"reading": Reading(clips=3)}, "with clips 1, now it is 3"),
        ({"bundle": "videomae"}, "with sha256 of the bundle "),
    ],
)
def test_rows_of_two_runs_are_not_mixed(
    vivit_bundle: Path, videomae_bundle: Path, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    out = tmp_path / "out.jsonl"
    classify_files(Loading(vivit_bundle), ["a.mp4"], out, classify=made_up)
    before = out.read_bytes()
    loading = Loading(
        videomae_bundle if "bundle" in changed else vivit_bundle,
        precision=changed.get("precision", "fp32"),
        reading=changed.get("reading", Reading()),
    )
    others = {name: value for name, value in changed.items() if name in ("top_k", "shard")}
    with pytest.raises(NotWritten, match=said):
        classify_files(loading, ["a.mp4", "b.mp4"], out, resume=True, classify=made_up, **others)
    assert out.read_bytes() == before


def test_what_is_no_output_of_ours_stays(vivit_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text('{"another": "file"}\n')
    with pytest.raises(NotWritten, match=r"_out\.jsonl\.run\.json beside it, which says how its rows are made"):
        classify_files(Loading(vivit_bundle), ["a.mp4"], out, resume=True, classify=made_up)
    classify_files(Loading(vivit_bundle), ["a.mp4"], tmp_path / "mine.jsonl", classify=made_up)
    shutil.copy(tmp_path / "_mine.jsonl.run.json", tmp_path / "_out.jsonl.run.json")
    for text in ('{"another": "file"}\n', "{\n", "\n", "\0\0\n"):
        out.write_text(text)
        with pytest.raises(NotWritten, match="line 1 is no row of a video"):
            classify_files(Loading(vivit_bundle), ["a.mp4"], out, resume=True, classify=made_up)
        assert out.read_text() == text
    parquet = tmp_path / "out.parquet"
    shutil.copy(tmp_path / "_mine.jsonl.run.json", tmp_path / "_out.parquet.run.json")
    parquet.write_bytes(b"PAR1 and no more")
    with pytest.raises(NotWritten, match=r"out\.parquet is not gone on with: it is no Parquet of rows"):
        classify_files(Loading(vivit_bundle), ["a.mp4"], parquet, resume=True, classify=made_up)
    assert parquet.read_bytes() == b"PAR1 and no more"


def test_two_writers_of_one_output(vivit_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out.jsonl"
    with alone(out), pytest.raises(NotWritten, match=r"out\.jsonl is being written by process \d+ on "):
        classify_files(Loading(vivit_bundle), ["a.mp4"], out, resume=True, classify=made_up)
    classify_files(Loading(vivit_bundle), ["a.mp4"], out, classify=made_up)
    assert len(lines(out)) == 1


@pytest.mark.parametrize("name", ["out.csv", "out", "s3://bucket/out.jsonl"])
def test_where_rows_cannot_go(vivit_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotWritten, match=r"rows are written to FILE\.jsonl or FILE\.parquet on this machine"):
        classify_files(Loading(vivit_bundle), ["a.mp4"], Path(name), classify=made_up)
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_said_before_anything_is_written(
    vivit_bundle: Path, attentive_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VideoError, match="Protocol not known: nonsense"):
        classify_files(Loading(vivit_bundle), ["a.mp4", "nonsense://a.mp4"], Path("out.jsonl"))
    with pytest.raises(BackendError, match="no backend 'nonsense'"):
        classify_files(Loading(vivit_bundle, backend="nonsense"), ["a.mp4"], Path("out.jsonl"))
    with pytest.raises(ValueError, match="is for feature-extraction"):
        classify_files(Loading(attentive_bundle), ["a.mp4"], Path("out.jsonl"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tubelet\[archive\]'"):
        classify_files(Loading(vivit_bundle), ["a.mp4"], Path("out.parquet"))
    assert not list(tmp_path.iterdir())


def test_an_engine_that_fails_midway_leaves_the_rows_before(
    vivit_bundle: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [str(shutil.copy(video, tmp_path / f"{number}.mp4")) for number in range(6)]
    out = tmp_path / "out.jsonl"
    infer, calls = VideoClassifier.logits, []

    def fail_at_the_fourth(self: VideoClassifier, batch: Any) -> Any:
        calls.append(len(batch))
        if len(calls) == 4:
            raise BackendError("the engine failed")
        return infer(self, batch)

    monkeypatch.setattr(VideoClassifier, "logits", fail_at_the_fourth)
    with pytest.raises(BackendError, match="the engine failed"):
        classify_files(Loading(vivit_bundle), names, out)
    assert [row["video"] for row in lines(out)] == names[:3]
    assert classify_files(Loading(vivit_bundle), names, out, resume=True).before == 3
    assert [row["video"] for row in lines(out)] == names


def test_a_full_disk_leaves_whole_rows(vivit_bundle: Path, tmp_path: Path) -> None:
    """The limit of a file's size stands in for the disk's."""
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\n"
        "from tubelet.runtime.archive.loading import Loading\n"
        "from tubelet.runtime.archive.run import classify_files\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "rows = lambda names: ({'video': name, 'error': 'e' * 90} for name in names)\n"
        "names = [f'{number}.mp4' for number in range(40)]\n"
        "classify_files(Loading(Path(sys.argv[1])), names, Path('out.jsonl'), classify=rows)\n"
    )
    child = subprocess.run([sys.executable, "-c", code, vivit_bundle], cwd=tmp_path, capture_output=True, text=True)
    assert "NotWritten: out.jsonl cannot be written: File too large" in child.stderr
    rows = lines(tmp_path / "out.jsonl")
    assert 3 < len(rows) < 40
    assert (tmp_path / "out.jsonl").read_bytes().endswith(b"}\n")


def test_names_that_are_no_text(vivit_bundle: Path, video: Path, tmp_path: Path) -> None:
    name = str(tmp_path / "\udcff.mp4")
    shutil.copy(video, name)
    for out in (tmp_path / "out.jsonl", tmp_path / "out.parquet"):
        for _ in range(2):
            classify_files(Loading(vivit_bundle), [name], out, resume=True)
        rows = lines(out) if out.suffix == ".jsonl" else read(out)
        assert [row["video"] for row in rows] == [str(tmp_path / "\\xff.mp4")]
        assert rows[0]["predictions"]


@pytest.mark.skipif(not hasattr(sys, "addaudithook") or sys.platform == "win32", reason="forks")
def test_killed_at_every_step(vivit_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    command = [sys.executable, *map(str, ("killed_archives.py", vivit_bundle, folder))]
    child = subprocess.run(command, cwd=SUPPORT, capture_output=True, text=True, timeout=300)
    assert child.returncode == 0, child.stdout + child.stderr
    survived = [line.split() for line in child.stdout.splitlines()]
    assert [name for name, _ in survived] == ["rows.jsonl", "rows.parquet", "rows.parquet"]
    assert all(int(count) > 10 for _, count in survived)


def test_progress_in_words() -> None:
    count = Count(total=1_000_000, before=200_000, done=100, errors=2)
    count.began -= 10
    assert str(count).startswith("200,100 of 1,000,000 videos, 10 a second, 22 h ")
    assert count.summary(Path("o.jsonl")) == (
        "o.jsonl: 1,000,000 videos, 200,000 of them from before, 100 in 10 s, 10 a second, 2 could not be read"
    )
    assert [duration(seconds) for seconds in (0.4, 59, 61, 3599, 7200, 10 * 86400)] == [
        "0 s",
        "59 s",
        "1 min",
        "1 h 0 min",
        "2 h 0 min",
        "10 d 0 h",
    ]
