"""Which videos an archive is of, and which of them a shard has."""

import io
import subprocess
import sys
from collections import Counter
from pathlib import Path

import fsspec
import pytest

from tubelet.preprocess.errors import OutOfBounds, VideoError
from tubelet.runtime.archive.names import Shard, names_of

ALL = Shard()


def test_a_list_has_a_name_a_line_each_once(tmp_path: Path) -> None:
    files = tmp_path / "list.txt"
    files.write_bytes(b"\xef\xbb\xbfb.mp4\r\na b.mp4\n\nb.mp4\ns3://bucket/c.mp4\n\xff.mp4")
    assert names_of(str(files), ALL) == ["b.mp4", "a b.mp4", "s3://bucket/c.mp4", "\udcff.mp4"]


def test_a_pattern_has_files_in_order_and_no_folders(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.mp4", "deep/er/c.mp4", "deep/er.mp4/d.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = names_of(str(tmp_path / "**" / "*.mp4"), ALL)
    assert [Path(name).relative_to(tmp_path).as_posix() for name in found] == [
        "a.mp4",
        "b.mp4",
        "deep/er.mp4/d.mp4",
        "deep/er/c.mp4",
    ]


def test_a_list_whose_own_name_is_a_pattern_is_a_list(tmp_path: Path) -> None:
    (tmp_path / "list[1].txt").write_text("a.mp4\n")
    assert names_of(str(tmp_path / "list[1].txt"), ALL) == ["a.mp4"]


def test_lists_and_patterns_may_be_elsewhere() -> None:
    system = fsspec.filesystem("memory")
    for name in ("/names/a.mp4", "/names/deep/b.mp4"):
        system.pipe(name, b"")
    system.pipe("/names/list.txt", b"memory://names/a.mp4\nplain.mp4\n")
    assert names_of("memory://names/**/*.mp4", ALL) == ["memory:///names/a.mp4", "memory:///names/deep/b.mp4"]
    assert names_of("memory://names/list.txt", ALL) == ["memory://names/a.mp4", "plain.mp4"]
    with pytest.raises(VideoError, match=r"memory://names/no.txt does not exist"):
        names_of("memory://names/no.txt", ALL)


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a.mp4\nb.mp4\n")))
    assert names_of("-", ALL) == ["a.mp4", "b.mp4"]
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(VideoError, match="nothing comes in on standard input"):
        names_of("-", ALL)


def test_what_names_no_video_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    with pytest.raises(VideoError, match=r"empty\.txt names no video"):
        names_of(str(tmp_path / "empty.txt"), ALL)
    with pytest.raises(VideoError, match=r"\*\.mkv names no video"):
        names_of(str(tmp_path / "*.mkv"), ALL)
    with pytest.raises(VideoError, match="line 1, is no name of a video: it holds a zero byte"):
        names_of(str(tmp_path / "clip.mp4"), ALL)
    with pytest.raises(VideoError, match="neither a list of names nor a pattern"):
        names_of(str(tmp_path / "absent.txt"), ALL)


def test_every_name_is_in_one_shard_whatever_the_process(tmp_path: Path) -> None:
    files = tmp_path / "list.txt"
    names = [f"s3://archive/{number}.mp4" for number in range(3000)]
    files.write_text("\n".join(names))
    shards = [names_of(str(files), Shard(number, 7)) for number in range(1, 8)]
    assert Counter(name for shard in shards for name in shard) == Counter(names)
    assert all(300 < len(shard) < 560 for shard in shards)  # 429 each, give or take 6 standard deviations
    assert Shard(1, 3).has("\udcff.mp4")
    # Names that other processes, and other versions, must find in the same shard.
    assert [Shard(2, 3).has(name) for name in ("a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4")] == [
        True,
        False,
        False,
        True,
        True,
    ]
    code = "from tubelet.runtime.archive.names import *; print(names_of('list.txt', Shard(3, 7)))"
    child = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert child.stdout.strip() == str(shards[2])


def test_a_list_that_is_longer_leaves_names_in_their_shards(tmp_path: Path) -> None:
    files = tmp_path / "list.txt"
    files.write_text("\n".join(f"{number}.mp4" for number in range(50)))
    before = names_of(str(files), Shard(1, 3))
    files.write_text("\n".join(f"{number}.mp4" for number in reversed(range(100))))
    assert set(before) <= set(names_of(str(files), Shard(1, 3)))


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0", "1", "1/2/3", "-1/3", "a/b", "1.0/2", "", "²/3"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(OutOfBounds, match=r"shard"):
        Shard.parse(text)


def test_shards_are_counted_from_one() -> None:
    assert Shard.parse("2/8") == Shard(2, 8)
    assert str(Shard(2, 8)) == "2/8"
