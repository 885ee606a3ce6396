"""Picture files, read back with Pillow and with our own decoder."""

import resource
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.GifImagePlugin import GifImageFile
from videos import draw, index_of

from tubelet.preprocess.decode import probe, read_frames
from tubelet.preprocess.errors import TubeletError
from tubelet.runtime.visual import picture_files
from tubelet.runtime.visual.drawing import GAP, contact_sheet, spread
from tubelet.runtime.visual.picture_files import (
    ENCODERS,
    check_picture,
    frame_rate,
    write_panels,
    write_png,
    write_video,
)

SECONDS = np.arange(12) / 10


def panel(shift: int = 0, size: tuple[int, int] = (288, 192)) -> NDArray[np.uint8]:
    """12 pictures that carry their number, from `shift`."""
    return np.stack([draw(shift + number, size) for number in range(12)])


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 33), (1820, 452)])
def test_png_is_lossless(tmp_path: Path, size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    write_png(tmp_path / "noise.png", picture)
    with Image.open(tmp_path / "noise.png") as image:
        assert (image.mode, image.format) == ("RGB", "PNG")
        np.testing.assert_array_equal(np.asarray(image), picture)


def test_a_png_is_a_sheet_of_some_frames(tmp_path: Path) -> None:
    write_panels(tmp_path / "a.png", [panel(), panel(20)], SECONDS, shown=4, force=False)
    chosen = spread(12, 4)
    wanted = contact_sheet([panel()[chosen], panel(20)[chosen]], columns=8)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), wanted)
    assert leftovers(tmp_path) == {"a.png"}


def test_an_mp4_shows_every_frame_of_both_panels_at_the_speed_of_the_video(tmp_path: Path) -> None:
    write_panels(tmp_path / "a.mp4", [panel(), panel(20)], SECONDS, shown=4, force=False)
    frames = read_frames(tmp_path / "a.mp4", lambda timeline: np.arange(len(timeline)))
    assert frames.pixels.shape == (12, 192, 2 * 288 + GAP, 3)
    np.testing.assert_allclose(frames.seconds, SECONDS, atol=1e-3)
    assert [index_of(picture[:, :288]) for picture in frames.pixels] == list(range(12))
    assert [index_of(picture[:, 288 + GAP :]) for picture in frames.pixels] == list(range(20, 32))
    info = probe(tmp_path / "a.mp4").to_json()
    assert info["codec"] == "h264"
    with av.open(tmp_path / "a.mp4") as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


def test_a_gif_shows_every_frame(tmp_path: Path) -> None:
    write_panels(tmp_path / "a.GIF", [panel()], SECONDS, shown=4, force=False)
    with Image.open(tmp_path / "a.GIF") as image:
        assert isinstance(image, GifImageFile)
        assert (image.n_frames, image.size, image.info["duration"]) == (12, (288, 192), 100)
        for number in range(12):
            image.seek(number)
            assert index_of(np.asarray(image.convert("RGB"))) == number


def test_odd_sides_are_made_even(tmp_path: Path) -> None:
    pixels = panel(size=(97, 65))
    write_video(tmp_path / "odd.mp4", pixels, 10)
    frames = read_frames(tmp_path / "odd.mp4", lambda timeline: np.arange(len(timeline)))
    assert frames.pixels.shape == (12, 66, 98, 3)
    assert abs(frames.pixels[:, :65, :97].astype(int) - pixels).mean() < 6


def test_the_same_pixels_give_the_same_video(tmp_path: Path) -> None:
    """Small moving pictures with noise, of which x264's look ahead does not always find the same."""
    random = np.random.default_rng(0)
    pixels = np.concatenate([panel(size=(160, 120))] * 4)
    noisy = np.clip(pixels + random.normal(0, 5, pixels.shape), 0, 255).astype(np.uint8)
    for number in range(5):
        write_video(tmp_path / f"{number}.mp4", noisy, 30)
    assert len({(tmp_path / f"{number}.mp4").read_bytes() for number in range(5)}) == 1


def test_a_small_clip_is_enlarged(tmp_path: Path) -> None:
    small = panel(size=(60, 48))
    write_panels(tmp_path / "a.png", [small], SECONDS, shown=1, force=False)
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (240, 192)
        np.testing.assert_array_equal(np.asarray(image)[::4, ::4], small[6])


@pytest.mark.parametrize(
    ("seconds", "rate"),
    [
        (np.arange(16) * 4 / 30, 8),  # 7.5
        (np.arange(16) / 25, 25),
        (np.arange(16) / 240, 30),
        (np.arange(16) * 60.0, 4),
        (np.array([0, 0.1, 0.2, 0.2, 0.2, 0.2]), 10),  # the last frame is held
        (np.array([0, 0.1, 0.2, 0, 0.1, 0.2]), 10),  # looped
        (np.full(16, np.nan), 8),
        (np.zeros(1), 8),
    ],
)
def test_frame_rate(seconds: NDArray[np.float64], rate: int) -> None:
    assert frame_rate(seconds) == rate


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.mp4.bak"])
def test_other_suffixes_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(TubeletError, match=r"must end in \.png, \.mp4, \.gif\n  fix: name a \.png for"):
        check_picture(tmp_path / name, force=True)


@pytest.mark.parametrize("suffix", ENCODERS)
def test_what_is_there_is_replaced_only_when_asked(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("mine")
    with pytest.raises(TubeletError, match=f"a{suffix} exists\n  fix: choose another file with -o, or replace it with"):
        write_panels(path, [panel()], SECONDS, shown=4, force=False)
    assert path.read_text() == "mine"
    write_panels(path, [panel()], SECONDS, shown=4, force=True)
    assert path.read_bytes()[:4] != b"mine"
    assert leftovers(tmp_path) == {path.name}


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(TubeletError, match=r"the folder .*nowhere does not exist"):
        check_picture(tmp_path / "nowhere" / "a.png", force=False)
    (tmp_path / "a.png").mkdir()
    with pytest.raises(TubeletError, match=r"a\.png is a folder"):
        check_picture(tmp_path / "a.png", force=True)


@pytest.mark.parametrize("suffix", ENCODERS)
def test_a_failure_leaves_what_was_there(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("mine")

    def fail(beside: Path, *_: Any, **__: Any) -> None:
        beside.write_text("half")
        raise OSError(28, "No space left on device", str(beside))

    for name in ("write_png", "write_video", "write_gif"):
        monkeypatch.setattr(picture_files, name, fail)
    with pytest.raises(TubeletError, match=r"cannot be written: .*No space left on device"):
        write_panels(path, [panel()], SECONDS, shown=4, force=True)
    assert path.read_text() == "mine"
    assert leftovers(tmp_path) == {path.name}


@pytest.mark.parametrize("suffix", ENCODERS)
def test_a_file_that_the_system_cuts_off(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, 256, 256, 3), np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(TubeletError, match="cannot be written"):
            write_panels(tmp_path / f"a{suffix}", [noise], SECONDS, shown=12, force=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert leftovers(tmp_path) == set()


def test_an_ffmpeg_without_the_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS, ".mp4", "libx264-that-is-not-there")
    with pytest.raises(TubeletError, match=r"has no libx264-that-is-not-there encoder, which a\.mp4 needs\n  fix: pip"):
        check_picture(tmp_path / "a.mp4", force=False)
    check_picture(tmp_path / "a.png", force=False)
