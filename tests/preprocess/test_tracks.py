"""Files with several video tracks: which is read, and how another is chosen."""

import json

import av
import pytest
from av.stream import Disposition
from click.testing import CliRunner
from videos import draw, index_of, make_video, take

from tubelet.cli.tree import main
from tubelet.preprocess.decode import probe, read_frames
from tubelet.preprocess.errors import VideoError
from tubelet.preprocess.sources import Source
from tubelet.runtime.load import load
from tubelet.runtime.reading import Reading


def tubelet(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="tubelet")


def write_tracks(path, tracks):
    """A file with a track for each (size, frames, attached): frames carry their numbers, from 0 on. The track with
    the most frames is marked as the default, as editors do."""
    with av.open(str(path), "w") as container:
        streams = []
        for size, frames, attached in tracks:
            stream = container.add_stream("mjpeg" if attached else "mpeg4", rate=30)
            stream.width, stream.height = size
            stream.pix_fmt = "yuvj420p" if attached else "yuv420p"
            if attached:
                stream.disposition = Disposition.attached_pic
            elif frames == max(frames for _, frames, _ in tracks):
                stream.disposition = Disposition.default
            streams.append(stream)
        for stream, (size, frames, _) in zip(streams, tracks, strict=True):
            for number in range(frames):
                frame = av.VideoFrame.from_ndarray(draw(number, size), format="rgb24")
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def poster(tmp_path_factory):
    """A small picture that is not marked as attached, then the film."""
    tracks = [((48, 32), 1, False), ((96, 64), 30, False)]
    return write_tracks(tmp_path_factory.mktemp("tracks") / "poster.mov", tracks)


def best(path):
    with av.open(str(path)) as container:
        return container.streams.video.index(container.streams.best("video"))


def test_the_best_track_is_read_as_ffmpeg_sees_it(poster):
    assert best(poster) == 1
    frames = read_frames(poster, take(17, 3))
    assert frames.pixels.shape == (2, 64, 96, 3)
    assert [index_of(picture) for picture in frames.pixels] == [17, 3]


@pytest.mark.parametrize("frames", [(30, 10), (10, 30), (2, 2)])
def test_whatever_the_order(tmp_path, frames):
    path = write_tracks(tmp_path / "v.mkv", [((96, 64), frames[0], False), ((64, 48), frames[1], False)])
    assert probe(path).track == best(path)


def test_an_attached_picture_is_never_read(tmp_path):
    path = write_tracks(tmp_path / "cover.mp4", [((192, 128), 1, True), ((96, 64), 12, False)])
    info = probe(path)
    assert (info.width, info.frames, info.tracks, info.track) == (96, 12, 1, 0)


def test_another_track_is_chosen(poster):
    assert probe(Source("poster", poster, track=0)).frames == 1
    assert read_frames(Source("poster", poster, track=0), take(0)).pixels.shape == (1, 32, 48, 3)


@pytest.mark.parametrize(
    ("track", "message"), [(2, "has 2 video tracks, 0 to 1, but track 2 was asked for"), (-1, "has 2 video tracks")]
)
def test_a_track_that_is_not_there(poster, track, message):
    with pytest.raises(VideoError, match=f"^poster {message}"):
        read_frames(Source("poster", poster, track=track), take(0))


def test_the_only_track_there_is(tmp_path):
    path = make_video(tmp_path / "v.mp4")
    with pytest.raises(VideoError, match=r"has 1 video track, 0, but track 1 was asked for$"):
        probe(Source("v", path, track=1))


def test_info_says_how_many_there_are_and_which_is_read(poster, tmp_path):
    assert "track      1 (2 of video, 0 to 1; another is read with --track)" in tubelet("info", poster).stdout
    document = json.loads(tubelet("info", poster, "--json", "--track", 0).stdout)
    assert (document["tracks"], document["track"], document["width"]) == (2, 0, 48)
    assert "track" not in tubelet("info", make_video(tmp_path / "v.mp4")).stdout


def test_a_reading_of_another_track(poster, vivit_bundle):
    result = tubelet("classify", vivit_bundle, poster, "--json")
    assert json.loads(result.stdout)["frames"] == [11, 13, 15, 17]
    result = tubelet("classify", vivit_bundle, poster, "--json", "--track", 0)
    assert json.loads(result.stdout)["frames"] == [0, 0, 0, 0]
    result = tubelet("classify", vivit_bundle, poster, "--track", 5)
    assert (result.exit_code, "but track 5 was asked for" in result.stderr) == (1, True)
    with load(vivit_bundle, reading=Reading(track=0)) as model:
        assert model.read(poster).frames.pixels.shape == (1, 32, 48, 3)
    with pytest.raises(ValueError, match="track must be a whole number from 0"):
        Reading(track=-1)


@pytest.mark.parametrize("command", ["features", "explain", "reconstruct"])
def test_every_command_that_reads_videos(command, poster, attentive_bundle, masked_bundle, tmp_path):
    bundle = masked_bundle if command == "reconstruct" else attentive_bundle
    output = [] if command == "features" else ["-o", tmp_path / "out.png"]
    assert tubelet(command, bundle, poster, *output, "--track", 1).exit_code == 0
    result = tubelet(command, bundle, poster, *output, *([] if command == "features" else ["--force"]), "--track", 2)
    assert (result.exit_code, "but track 2 was asked for" in result.stderr) == (1, True)
