"""The annotated copy that `tubelet watch -o` writes."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from videos import make_video

from tubelet.cli.tree import main
from tubelet.preprocess.errors import TubeletError
from tubelet.runtime.stream.answers import Event, Scoring, Window
from tubelet.runtime.stream.frames import SourceFrame
from tubelet.serve.annotated import ACCENT, INK, annotated_video, written_over

ANY = ("--on", "0.01", "--off", "0.005")
SCORING = Scoring(("waves", "nothing"), averages="scores", problem_type="single_label_classification")


def watch(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["watch", *map(str, arguments)], prog_name="tubelet")


def decoded(path: Path) -> tuple[list[float | None], NDArray[np.uint8]]:
    """Times and pictures (N, H, W, 3) of a file."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [frame.time for frame in frames], np.stack([frame.to_ndarray(format="rgb24") for frame in frames])


def window(begin: float, score: float, segment: int = 0) -> Window:
    logits = np.log(np.array([[score, 1 - score]], np.float32))
    times = np.linspace(begin, begin + 0.4, 3)
    return Window("it", 0, segment, times, logits, SCORING, SCORING.answer(logits, 2), times[-1])


def test_every_frame_of_a_file_is_in_the_copy_at_its_time(videomae_bundle: Path, tmp_path: Path) -> None:
    video = make_video(tmp_path / "it.mp4", frames=60, size=(320, 240))
    result = watch(videomae_bundle, video, "-o", tmp_path / "copy.mp4", *ANY)
    assert result.exit_code == 0, result.output
    (times, copied), (expected, originals) = decoded(tmp_path / "copy.mp4"), decoded(video)
    assert times == pytest.approx(expected, abs=1e-3)
    assert copied.shape == originals.shape
    assert np.abs(copied[:, :200].astype(int) - originals[:, :200]).mean() < 6
    assert (copied[:, 220:].max(axis=(1, 2, 3)) > 150).all()  # the text


def test_a_size_that_changes_and_time_that_starts_over_go_on_in_the_copy(tmp_path: Path) -> None:
    path = tmp_path / "copy.mp4"
    with annotated_video(path, rotate=True, force=False) as video:
        for segment, (height, width) in enumerate([(240, 320), (320, 240)]):
            for number in range(30):
                picture = np.full((height, width, 3), 100 * segment + 50, np.uint8)
                video.see(SourceFrame(picture, 5 - 2 * segment + number / 30, 0.0, segment))
            video.hear(window(5 - 2 * segment, 0.9, segment))
    times, copied = decoded(path)
    assert times == pytest.approx([number / 30 for number in range(60)], abs=2e-3)
    assert copied.shape[1:] == (240, 320, 3)
    assert [round(float(picture[100, 160].mean()), -1) for picture in copied[[5, 55]]] == [50, 150]


def test_a_frame_has_the_window_that_is_nearest(tmp_path: Path) -> None:
    shown: list[tuple[float, float | None]] = []

    def note(pixels: Any, seconds: float, found: Window | None, _open: set[str]) -> Any:
        shown.append((seconds, None if found is None else found.middle))
        return pixels

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tubelet.serve.annotated.written_over", note)
        with annotated_video(tmp_path / "copy.mp4", rotate=True, force=False) as video:
            for number in range(30):
                video.see(SourceFrame(np.zeros((240, 320, 3), np.uint8), number / 10, 0.0, 0))
            for begin in (0.0, 0.5, 2.0):
                video.hear(window(begin, 0.9))
    assert [seconds for seconds, _ in shown] == pytest.approx([number / 10 for number in range(30)])
    middles = np.array([0.2, 0.7, 2.2])
    for seconds, middle in shown:
        assert middle is not None
        assert abs(seconds - middle) == pytest.approx(np.abs(middles - seconds).min(), abs=1e-6)


def test_the_label_of_an_open_event_is_in_colour() -> None:
    grey = np.full((240, 320, 3), 128, np.uint8)

    def has(colour: tuple[int, ...], picture: NDArray[np.uint8]) -> bool:
        return bool((np.abs(picture.astype(int) - colour).max(axis=-1) < 8).any())

    closed, opened = (written_over(grey, 1.0, window(0, 0.9), labels) for labels in (set(), {"waves"}))
    assert has(INK, closed)
    assert not has(ACCENT, closed)
    assert has(ACCENT, opened)
    assert not has(INK, opened)
    long = Scoring(("w" * 500, "b"), "scores", "single_label_classification")
    asked = window(0, 0.9)
    wide = Window("it", 0, 0, asked.frame_seconds, asked.logits, long, long.answer(asked.logits, 1), asked.due)
    assert written_over(grey, 1.0, wide, set()).shape == grey.shape


def test_what_is_open_is_known_as_it_was(tmp_path: Path) -> None:
    with annotated_video(tmp_path / "copy.mp4", rotate=True, force=False) as video:
        video.hear(Event("it", 0, 0, "waves", 0.0, 0.0, 0.9, open=True))
        video.hear(Event("it", 0, 0, "waves", 0.0, 1.0, 0.9, open=False))
        video.see(SourceFrame(np.zeros((240, 320, 3), np.uint8), None, 0.0, 0))  # has no time, and is not copied
        video.see(SourceFrame(np.zeros((240, 320, 3), np.uint8), 0.0, 0.0, 0))
    assert len(decoded(tmp_path / "copy.mp4")[0]) == 1


def test_a_camera_is_copied_and_the_copy_is_whole(videomae_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.mp4"
    result = watch(videomae_bundle, "lavfi:testsrc=size=64x48:rate=30,realtime", "--seconds", 1, "-o", path, *ANY)
    assert result.exit_code == 0, result.output
    times, copied = decoded(path)
    # A camera drops what a busy machine is too late for. What came is there, at its own time.
    assert 2 <= len(times) <= 40
    seconds = np.array(times, np.float64)
    assert (np.diff(seconds) > 0).all()
    assert seconds[-1] <= 1.2
    assert copied.shape[1:] == (240, 320, 3)  # enlarged, so that there is room for text


def test_what_cannot_be_written_is_said_before_it_begins(videomae_bundle: Path, tmp_path: Path) -> None:
    video, other = make_video(tmp_path / "it.mp4"), make_video(tmp_path / "other.mp4")
    for arguments, code, said in (
        ((video, "-o", tmp_path / "copy.avi"), 1, "must end in .mp4"),
        ((video, "-o", other), 1, "exists"),
        ((video, "-o", video), 2, "is the video itself"),
        ((video, video, "-o", tmp_path / "copy.mp4"), 2, "copy of one SOURCE"),
        ((video, "-o", tmp_path / "none" / "copy.mp4"), 1, "does not exist"),
    ):
        result = watch(videomae_bundle, *arguments)
        assert result.exit_code == code
        assert said in " ".join(result.output.split())
        assert '"window"' not in result.output
    assert sorted(tmp_path.iterdir()) == [video, other]


def test_nothing_is_left_where_it_fails(videomae_bundle: Path, tmp_path: Path) -> None:
    def fail(error: Exception) -> None:
        with annotated_video(tmp_path / "copy.mp4", rotate=True, force=False) as video:
            video.see(SourceFrame(np.zeros((240, 320, 3), np.uint8), 0.0, 0.0, 0))
            raise error

    for error in (ZeroDivisionError(), TubeletError("the source broke")):
        with pytest.raises(type(error)):
            fail(error)
    assert list(tmp_path.iterdir()) == []
    result = watch(videomae_bundle, tmp_path / "missing.mp4", "-o", tmp_path / "copy.mp4")
    assert result.exit_code == 1
    assert "missing.mp4 does not exist" in result.stderr
    assert f"Error: {tmp_path / 'copy.mp4'} is not written: no frame came" in result.stderr
    assert list(tmp_path.iterdir()) == []
