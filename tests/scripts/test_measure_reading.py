"""scripts/measure_reading.py: films of each codec, real steps on a tiny model, and its tables."""

from pathlib import Path

import av
import measure_reading
import pytest
from click.testing import CliRunner
from measure_reading import CODECS, SIZES, film, head, main, missing_encoders, row


@pytest.fixture(autouse=True)
def small_films(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "360p", (160, 96))


def run(*arguments: object) -> list[str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_every_step_of_every_film_is_timed(vivit_bundle: Path, tmp_path: Path) -> None:
    codecs = [name for name in CODECS if name not in missing_encoders()]
    lines = run(
        "share", vivit_bundle, "--precision", "fp32", "--size", "360p", "--rounds", 1, "--folder", tmp_path / "films"
    )
    (start,) = (i for i, line in enumerate(lines) if line == head())
    assert [line[:12].strip() for line in lines[start + 1 :]] == [f"360p {codec}" for codec in codecs]
    for codec, line in zip(codecs, lines[start + 1 :], strict=True):
        values = line[12:].split()
        assert len(values) == 9
        assert all(0 <= int(share.rstrip("%")) <= 100 for share in values[-2:])
        with av.open(tmp_path / "films" / f"360p-{codec}.mp4") as container:
            assert container.streams.video[0].codec_context.name in (codec, f"lib{codec}", "libdav1d")


def test_a_film_is_made_once(tmp_path: Path) -> None:
    made = film(tmp_path, "360p", "h264")
    before = made.stat().st_mtime_ns
    assert film(tmp_path, "360p", "h264") == made
    assert made.stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == ["360p-h264.mp4"]
    with av.open(made) as container:
        frames = [frame.key_frame for frame in container.decode(video=0)]
    assert (len(frames), [i for i, key in enumerate(frames) if key]) == (120, [0, 60])


def test_the_share_of_reading(tmp_path: Path) -> None:
    taken = {"decode": [5.0], "frame threads": [4.0], "in RGB": [6.0], "exact": [30.0], "fast": [10.0], "model": [70.0]}
    cells = row("360p h264", film(tmp_path, "360p", "h264"), taken)[20:].split()
    assert cells == ["5", "4", "6", "30", "10", "70", "30%", "12%"]


def test_an_encoder_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CODECS, "av1", measure_reading.Codec("no-such-encoder", {}, 1.0))
    assert "av1" in missing_encoders()


def test_threads(vivit_bundle: Path, tmp_path: Path) -> None:
    options = ["--precision", "fp32", "--size", "360p", "--count", 1, "--files", 2, "--rounds", 1, "--folder", tmp_path]
    lines = run("threads", vivit_bundle, *options)
    alone, beside, _ = lines[-1].removeprefix("1 threads of the model").split()
    assert float(alone) > 0
    assert float(beside) > 0
