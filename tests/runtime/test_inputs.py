"""What a video may be given as: paths, bytes, files, frames, standard input, URLs; and what is said of others."""

import functools
import http.server
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from videos import decode_whole, index_of, make_video, take

from tubelet.cli import standard_input
from tubelet.cli.tree import main
from tubelet.preprocess.decode import probe, read_frames
from tubelet.preprocess.errors import VideoError
from tubelet.runtime.load import load
from tubelet.runtime.reading import Reading


def tubelet(*arguments, stdin=None):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin, prog_name="tubelet")


class Named(os.PathLike):
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


class DLPack:
    """A tensor of no library in particular."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


class ArrayLike:
    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self._array, dtype, copy=copy)


FILES: dict[str, Callable[[Path], Any]] = {
    "str": str,
    "Path": lambda path: path,
    "PathLike": Named,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
}
FRAMES = {
    "array": lambda pixels: pixels,
    "list of arrays": list,
    "tuple of arrays": tuple,
    "list of pictures": lambda pixels: [Image.fromarray(picture) for picture in pixels],
    "DLPack": DLPack,
    "__array__": ArrayLike,
    "list of DLPack": lambda pixels: [DLPack(picture) for picture in pixels],
}


@pytest.mark.parametrize("kind", [*FILES, "open file"])
@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.h264"])
def test_a_file_in_every_form(tmp_path, vivit_bundle, kind, name):
    path = make_video(tmp_path / name)
    with path.open("rb") as file, load(vivit_bundle) as model:
        given = file if kind == "open file" else FILES[kind](path)
        assert [index_of(picture) for picture in read_frames(given, take(21, 4)).pixels] == [21, 4]
        assert probe(given).frames == 30
        assert model.classify(given) == model.classify(path)


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_in_every_form(video, vivit_bundle, attentive_bundle, masked_bundle, kind):
    pixels = decode_whole(video)
    given = FRAMES[kind](pixels)
    with load(vivit_bundle) as model:
        assert model.classify(given) == model.classify(pixels)
    with load(attentive_bundle, task="feature-extraction") as model:
        np.testing.assert_array_equal(model.explain(given).heat, model.explain(pixels).heat)
        found, expected = (model.features(one)["last_hidden_state"] for one in (given, pixels))
        np.testing.assert_array_equal(found, expected)
    with load(masked_bundle, task="masked-modeling") as model:
        np.testing.assert_array_equal(model.reconstruct(given).masked, model.reconstruct(pixels).masked)


def test_a_file_object_is_shared_and_left_as_it_was(video, vivit_bundle):
    """Several readings of one object at once, wherever it stands."""
    with video.open("rb") as file, load(vivit_bundle) as model:
        file.seek(100)
        expected = model.classify(video)
        found = list(model.classify_many([file] * 12, workers=4))
        assert [list(one.predictions) for one in found] == [expected] * 12
        assert file.tell() == 100


BAD = {
    "text": (lambda: io.StringIO("video"), "the file object is open as text"),
    "float": (lambda: np.zeros((4, 8, 8, 3)), "video 2: frames must be a uint8 array"),
    "grey pictures": (
        lambda: [Image.new("L", (8, 8))] * 4,
        r"video 2: each frame must be uint8 \(H, W, 3\) in",
    ),
    "two sizes": (
        lambda: [np.zeros((8, 8, 3), np.uint8), np.zeros((9, 8, 3), np.uint8)],
        "video 2: frames must be of one size, got",
    ),
    "no frames": (list, "video 2: a list of frames must hold at least one"),
    "a number": (lambda: 5, "video 2: a video must be a path, bytes, a binary file, an array of frames or a list of"),
    "bytes": (lambda: b"no video at all", "video 2 cannot be opened as a video: Invalid data"),
    "no bytes": (lambda: b"", "video 2 cannot be opened as a video: it is empty"),
    "a file object": (lambda: io.BytesIO(b"no video at all"), "video 2 cannot be opened as a video: Invalid data"),
    "a path of a URL": (
        lambda: pathlib.Path("https://example.invalid/v.mp4"),
        "https:/example.invalid/v.mp4 was a URL before it became a Path, which drops a slash",
    ),
    "a URL": (
        lambda: "rtsp://example.invalid/v",
        "rtsp://example.invalid/v is a URL, and only files are opened unless you allow it\n  fix: --allow-url, or Read",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_video_is_named_by_its_number_or_its_name(video, vivit_bundle, name):
    make, message = BAD[name]
    with load(vivit_bundle) as model:
        first, second = model.classify_many([video, make()])
        assert (first.error, first.name, second.predictions) == (None, str(video), ())
        assert second.error is not None
        with pytest.raises(VideoError, match=f"^{message}"):
            raise second.error
        with pytest.raises(VideoError):
            model.classify(make())


def test_a_stream_that_cannot_go_back(vivit_bundle):
    read, write = os.pipe()
    os.close(write)
    message = r"cannot be read from any place \(it is not seekable\)\n  fix: read it into memory"
    with open(read, "rb") as pipe, load(vivit_bundle) as model, pytest.raises(VideoError, match=message):
        model.classify(pipe)


def test_the_name_that_a_file_object_has(tmp_path):
    path = tmp_path / "none.mp4"
    path.write_bytes(b"no video at all")
    with path.open("rb") as file, pytest.raises(VideoError, match=f"^{path} cannot be opened"):
        probe(file)
    with tempfile.TemporaryFile() as file, pytest.raises(VideoError, match=r"^the video cannot be opened"):
        probe(file)


# --- What never ends ---


def test_a_pipe_and_a_device_are_refused_at_once(tmp_path, vivit_bundle):
    os.mkfifo(tmp_path / "pipe.mp4")
    for command in ("classify", "info"):
        for path, kind in ((tmp_path / "pipe.mp4", "a pipe"), ("/dev/zero", "a device")):
            arguments = [vivit_bundle, path] if command == "classify" else [path]
            result = tubelet(command, *arguments)
            assert result.exit_code == 1
            assert result.stderr == (
                f"Error: {path} is {kind}, not a file\n"
                "  fix: give what comes out of it on standard input, as the video -\n"
            )


# --- Standard input ---


def test_a_video_on_standard_input(video, vivit_bundle, attentive_bundle, masked_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "kept"))
    (tmp_path / "kept").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", None)
    content = video.read_bytes()
    piped = json.loads(tubelet("classify", vivit_bundle, "-", "--json", stdin=content).stdout)
    named = json.loads(tubelet("classify", vivit_bundle, video, "--json").stdout)
    assert piped == named | {"video": "standard input"}
    assert json.loads(tubelet("info", "-", "--json", stdin=content).stdout)["frames"] == 30
    result = tubelet("features", attentive_bundle, "-", "--npz", tmp_path / "f/", stdin=content)
    assert result.exit_code == 0, result.stderr
    assert list((tmp_path / "f").iterdir()) == [tmp_path / "f" / "standard-input.npz"]
    for command, bundle in (("explain", attentive_bundle), ("reconstruct", masked_bundle)):
        assert tubelet(command, bundle, "-", "-o", tmp_path / f"{command}.png", stdin=content).exit_code == 0
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        (b"", "standard input cannot be opened as a video: it is empty"),
        (b"no video at all", "standard input cannot be opened as a video: Invalid data"),
    ],
)
def test_standard_input_that_is_no_video(vivit_bundle, stdin, message):
    result = tubelet("classify", vivit_bundle, "-", stdin=stdin)
    assert (result.exit_code, result.stderr.startswith(f"Error: {message}")) == (1, True), result.stderr


def test_standard_input_without_an_end(vivit_bundle, monkeypatch):
    monkeypatch.setattr(standard_input, "MAX_BYTES", 1 << 20)
    result = tubelet("classify", vivit_bundle, "-", stdin=bytes(3 << 20))
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: standard input is longer than 1 MB")


def test_standard_input_twice(vivit_bundle):
    result = tubelet("classify", vivit_bundle, "-", "-", stdin=b"")
    assert (result.exit_code, "can be read once" in result.stderr) == (2, True)


def open_files(process_id):
    """The paths behind the descriptors of a process; those that come and go are left out."""
    folder = f"/proc/{process_id}/fd"
    found = []
    for number in os.listdir(folder):
        with suppress(FileNotFoundError):
            found.append(os.readlink(os.path.join(folder, number)))
    return found


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_what_is_kept_of_standard_input_is_gone_however_the_process_ends(video, vivit_bundle, tmp_path):
    code = "from tubelet.cli.tree import main; main()"
    command = [sys.executable, "-c", code, "classify", str(vivit_bundle), "-"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.write(video.read_bytes())
        process.stdin.flush()
        # A file without a name; tempfile tries the folder with another one, which it removes by itself.
        while not any(
            path.startswith(str(tmp_path)) and path.endswith(" (deleted)") for path in open_files(process.pid)
        ):
            assert process.poll() is None
        process.kill()
    assert list(tmp_path.iterdir()) == []


# --- URLs ---


class Counting(http.server.SimpleHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self):
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server(video):
    """The address of a server on this machine with the video, and what it was asked for."""
    handler = functools.partial(Counting, directory=str(video.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", Counting.asked
        running.shutdown()


def test_a_url_is_opened_when_asked_and_not_otherwise(server, video, vivit_bundle, attentive_bundle, tmp_path):
    address, asked = server
    url = f"{address}/{video.name}"
    for command, bundle, others in (
        ("classify", [vivit_bundle], []),
        ("features", [attentive_bundle], []),
        ("explain", [attentive_bundle], ["-o", tmp_path / "a.png"]),
        ("info", [], []),
        ("check", [vivit_bundle, "--video"], []),
    ):
        asked.clear()
        result = tubelet(command, *bundle, url, *others)
        assert result.exit_code == 1
        assert f"{url} is a URL" in result.stderr
        assert asked == []
    result = tubelet("classify", vivit_bundle, url, "--allow-url", "--json")
    assert result.exit_code == 0, result.stderr
    assert (
        json.loads(result.stdout)["predictions"]
        == json.loads(tubelet("classify", vivit_bundle, video, "--json").stdout)["predictions"]
    )
    assert asked
    assert f"video      {url}" in tubelet("info", url, "--allow-url").stdout
    with load(vivit_bundle, reading=Reading(allow_url=True)) as model:
        assert len(model.classify(url)) == 5


def test_a_url_that_leads_nowhere(server, vivit_bundle):
    url = f"{server[0]}/none.mp4"
    result = tubelet("classify", vivit_bundle, url, "--allow-url")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {url} cannot be opened as a video: ")


@pytest.mark.parametrize("form", ["path", "bytes"])
def test_a_playlist_in_a_file_opens_no_url(server, video, tmp_path, form):
    address, asked = server
    asked.clear()
    path = tmp_path / "list.m3u8"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}/{video.name}\n#EXT-X-ENDLIST\n")
    with pytest.raises(VideoError):
        probe(path if form == "path" else path.read_bytes())
    assert asked == []
