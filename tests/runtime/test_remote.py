"""Videos of fsspec's file systems: fetched whole or by blocks, tried again, and their errors."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from videos import make_video

from tubelet import MissingExtra, TooManyFiles, VideoError, load
from tubelet.runtime import remote
from tubelet.runtime.remote import Remote, file_system


class Troubled(MemoryFileSystem):
    """Memory that raises what `errors` holds, one for each thing that is asked of it."""

    protocol = "troubled"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    errors: ClassVar[list[Exception]] = []
    asked: ClassVar[list[str]] = []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("troubled://", "memory://")))

    def _ask(self, what: str) -> None:
        Troubled.asked.append(what)
        if Troubled.errors:
            raise Troubled.errors.pop(0)

    def cat_file(self, path: str, *arguments: Any, **options: Any) -> bytes:
        self._ask("whole")
        return super().cat_file(path, *arguments, **options)

    def _open(self, path: str, *arguments: Any, **options: Any) -> Any:
        self._ask("open")
        file = super()._open(path, *arguments, **options)
        read = file.read

        def troubled_read(count: int = -1) -> Any:
            self._ask("read")
            return read(count)

        file.read = troubled_read
        return file


@pytest.fixture
def troubled(video: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    fsspec.register_implementation("troubled", Troubled, clobber=True)
    Troubled.store.clear()
    Troubled.errors = []
    Troubled(skip_instance_cache=True).pipe_file("/clip.mp4", video.read_bytes())
    Troubled.asked = []
    monkeypatch.setattr(remote, "_WAITS", (0.0, 0.0))
    yield "troubled://clip.mp4"
    Troubled.store.clear()


def test_the_answer_is_that_of_the_file(vivit_bundle: Path, video: Path, troubled: str) -> None:
    with load(vivit_bundle) as model:
        expected = model.classify(video)
        (result,) = model.classify_many([Remote(troubled)])
        assert result.predictions == tuple(expected)
        assert result.name == troubled
        assert Troubled.asked == ["whole"]


def test_what_is_large_is_read_by_blocks(
    vivit_bundle: Path, video: Path, troubled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "WHOLE_BYTES", 1000)
    with load(vivit_bundle) as model:
        assert model.classify(Remote(troubled)) == model.classify(video)
    assert Troubled.asked[0] == "open"
    assert set(Troubled.asked[1:]) == {"read"}


@pytest.mark.parametrize("whole_bytes", [1 << 20, 1000])
def test_what_passes_is_tried_again(
    vivit_bundle: Path, video: Path, troubled: str, monkeypatch: pytest.MonkeyPatch, whole_bytes: int
) -> None:
    monkeypatch.setattr(remote, "WHOLE_BYTES", whole_bytes)
    with load(vivit_bundle) as model:
        Troubled.errors = [TimeoutError("slow down"), ConnectionError("reset")]
        assert model.classify(Remote(troubled)) == model.classify(video)
        assert not Troubled.errors


@pytest.mark.parametrize("whole_bytes", [1 << 20, 1000])
def test_what_stays_is_the_error_of_the_video(
    vivit_bundle: Path, troubled: str, monkeypatch: pytest.MonkeyPatch, whole_bytes: int
) -> None:
    monkeypatch.setattr(remote, "WHOLE_BYTES", whole_bytes)
    with load(vivit_bundle) as model:
        Troubled.errors = [ConnectionError("reset\nby peer") for _ in range(3)]
        (result,) = model.classify_many([Remote(troubled)])
        assert result.error is not None
        assert result.error.message == f"{troubled} cannot be read: ConnectionError: reset"
        Troubled.errors = [PermissionError("not yours"), ConnectionError("is not reached")]
        with pytest.raises(VideoError, match="PermissionError: not yours"):
            model.classify(Remote(troubled))
        assert len(Troubled.errors) == 1  # it was not tried again


def test_an_error_in_the_middle_of_a_file(
    vivit_bundle: Path, troubled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg has opened the file by then, and asks for more of it."""
    make_video(tmp_path / "long.mp4", frames=300, size=(192, 128))
    Troubled(skip_instance_cache=True).pipe_file("/clip.mp4", (tmp_path / "long.mp4").read_bytes())
    Troubled.asked = []
    monkeypatch.setattr(remote, "WHOLE_BYTES", 1000)
    with load(vivit_bundle) as model:
        model.classify(Remote(troubled))
        reads = Troubled.asked.count("read")
        assert reads > 2
        for good in range(reads):
            Troubled.asked = []

            def ask(_: Troubled, what: str, good: int = good) -> None:
                Troubled.asked.append(what)
                if Troubled.asked.count("read") > good:
                    raise ConnectionError("reset")

            monkeypatch.setattr(Troubled, "_ask", ask)
            with pytest.raises(VideoError, match=rf"^{troubled} cannot be read: ConnectionError: reset$"):
                model.classify(Remote(troubled))


@pytest.mark.usefixtures("troubled")
def test_what_is_not_there(vivit_bundle: Path) -> None:
    with load(vivit_bundle) as model, pytest.raises(VideoError, match=r"troubled://no\.mp4 does not exist"):
        model.classify(Remote("troubled://no.mp4"))


def test_a_shortage_is_no_fault_of_the_video(vivit_bundle: Path, troubled: str) -> None:
    with load(vivit_bundle) as model:
        Troubled.errors = [OSError(24, "Too many open files")]
        with pytest.raises(TooManyFiles):
            model.classify(Remote(troubled))


def test_protocols_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VideoError, match="Protocol not known: nonsense"):
        file_system("nonsense://a.mp4")
    fsspec.register_implementation("absent", "no_such_package.System", clobber=True, errtxt="Install absentfs")
    with pytest.raises(VideoError, match=r"absent:// cannot be read here: Install absentfs"):
        file_system("absent://a.mp4")
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tubelet\[archive\]'"):
        file_system("s3://a/b.mp4")


def test_files_are_read_beside_each_other(vivit_bundle: Path, video: Path) -> None:
    """Four threads read four file objects: each waits in its first read until all of them do."""
    together = threading.Barrier(4, timeout=20)

    class Slow:
        def __init__(self) -> None:
            self.file = video.open("rb")
            self.waited = False

        def read(self, count: int = -1) -> bytes:
            if not self.waited:
                self.waited = True
                together.wait()
            return self.file.read(count)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    files = [Slow() for _ in range(4)]
    with load(vivit_bundle) as model:
        assert [result.error for result in model.classify_many(files, workers=4)] == [None] * 4
    for slow in files:
        slow.file.close()
