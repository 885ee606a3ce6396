"""Labelled sets in the forms that people have them in."""

from pathlib import Path

import pytest

from tubelet.preprocess.errors import BundleError, VideoError
from tubelet.runtime.evaluation.truth import read_truth

LABELS = ("abseiling", "air drumming", "answering questions, loudly", "42")


def classes(tmp_path: Path, text: str, **others: str) -> dict[str, int]:
    path = tmp_path / "val.csv"
    path.write_bytes(text.encode("utf-8-sig"))
    return read_truth(path, LABELS, **others).classes


@pytest.mark.parametrize(
    "text",
    [
        "a.mp4,abseiling\nb b.mp4,air drumming\n",
        'a.mp4,0\r\n"b b.mp4",1\r\n\r\n',
        "a.mp4 0\nb b.mp4 1\n",  # as VideoMAE's lists are
        "a.mp4\tabseiling\nb b.mp4\tair drumming\n",
        "split,Video,label\nval,a.mp4,abseiling\nval,b b.mp4,air drumming\n",
        "label,path\nabseiling,a.mp4\nair drumming,b b.mp4\n",
    ],
)
def test_forms(tmp_path: Path, text: str) -> None:
    assert classes(tmp_path, text) == {"a.mp4": 0, "b b.mp4": 1}


def test_kinetics_own_file(tmp_path: Path) -> None:
    text = "label,youtube_id,time_start,time_end,split\nabseiling,0347ZoDXyP0,95,105,val\nair drumming,-a,0,10,val\n"
    assert classes(tmp_path, text, root="k400/val") == {
        "k400/val/0347ZoDXyP0_000095_000105.mp4": 0,
        "k400/val/-a_000000_000010.mp4": 1,
    }


def test_where_videos_lie(tmp_path: Path) -> None:
    assert classes(tmp_path, "a.mp4,0", root="s3://bucket/val/") == {"s3://bucket/val/a.mp4": 0}
    assert classes(tmp_path, "/elsewhere/a.mp4,0", root="val") == {"/elsewhere/a.mp4": 0}


def test_a_label_that_is_a_number_is_a_name_first(tmp_path: Path) -> None:
    assert classes(tmp_path, 'a.mp4,42\nb.mp4,3\nc.mp4,"answering questions, loudly"\n') == {
        "a.mp4": 3,
        "b.mp4": 3,
        "c.mp4": 2,
    }


def test_a_video_twice(tmp_path: Path) -> None:
    assert classes(tmp_path, "a.mp4,0\na.mp4,abseiling\n") == {"a.mp4": 0}
    with pytest.raises(VideoError, match=r"line 2: a\.mp4 had another label before, 'abseiling'"):
        classes(tmp_path, "a.mp4,0\na.mp4,1\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.mp4,abseilin\n", r"line 1: 'abseilin' is neither a label.*from 0 to 3\n  fix: .*did you mean 'abseiling'"),
        ("a.mp4,0\nb.mp4,4\n", "line 2: '4' is neither"),
        ("a.mp4,-1\n", "line 1: '-1' is neither"),
        ("a.mp4,²\n", "line 1: '²' is neither"),
        ("a.mp4,0\nb.mp4\n", "line 2, is no video and its label: 'b.mp4'"),
        ("a.mp4,0,1\n", "line 1, is no video and its label"),
        (",0\n", "line 1, is no video and its label"),
        ("a.mp4\n", "line 1, is no video and its label"),
        ("label,video\n0\n", "line 2, is no video and its label"),
        ("label,youtube_id,time_start,time_end\n0,a,one,2\n", "line 2, is no video and its label"),
        ("", "names no video"),
        ("video,label\n", "names no video"),
    ],
)
def test_what_is_no_labelled_set(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(VideoError, match=said):
        classes(tmp_path, text)


def test_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "val.csv").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(VideoError, match=r"val\.csv is no text in UTF-8"):
        read_truth(tmp_path / "val.csv", LABELS)


def test_labels_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="two labels of the bundle are called 'a'"):
        read_truth(tmp_path / "val.csv", ("a", "b", "a"))
