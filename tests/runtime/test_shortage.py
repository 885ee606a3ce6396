"""Little memory and few files, by real limits on real processes: said in words, by the right class, nothing left."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from checkpoints import write_checkpoint
from videos import make_video

from tubelet.preprocess.errors import (
    BackendError,
    OutOfMemory,
    TooManyFiles,
    TubeletError,
    VideoError,
    VideoOutOfMemory,
)
from tubelet.preprocess.shortage import raise_shortage, shortage_of, shortages_named

pytest.importorskip("resource")

# Runs a command with the address space, or the open files, limited: of what it has already, so many megabytes more.
LIMITED = """
import resource, sys
from pathlib import Path
from tubelet.cli.tree import main
{imports}
kind, most = sys.argv[1], int(sys.argv[2])
if kind == "memory":
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (most << 20),) * 2)
else:
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
main(sys.argv[3:], prog_name="tubelet")
"""
# What a command imports takes memory too, and OpenBLAS ends a process that has none for it, with a word of its own.
COMMAND = "import tubelet.cli.classify"
EXPORTER = (
    "import tubelet.exporter.export, tubelet.exporter.checkpoint.load, onnxruntime, torch\n"
    "import onnxscript.function_libs.torch_lib"  # which takes a source that cannot be read for want of memory as none
)

# Fills all the memory there is, down to the smallest piece, and holds it while the error is on its way.
FULL = """
import resource
from pathlib import Path
from tubelet.preprocess.errors import OutOfMemory
from tubelet.preprocess.shortage import shortages_named

def fill():
    held = None
    for size in (1 << 20, 1 << 14, *range(1 << 10, 0, -8)):
        try:
            while True:
                held = (held, bytes(size))
        except MemoryError as error:
            full = error
    raise full

pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (32 << 20),) * 2)
try:
    with shortages_named():
        fill()
except OutOfMemory as error:
    print(error.message)
"""


def limited(kind: str, most: int, *arguments: object, imports: str = COMMAND) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LIMITED.format(imports=imports), kind, str(most), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # libgomp ends a process that gets no thread, with a word of its own
    )


def outcomes(results: Iterator[subprocess.CompletedProcess[str]], words: str) -> tuple[int, int]:
    """How many succeeded, and how many ended with a message with these words; anything else is an error."""
    fine = refused = 0
    for result in results:
        assert "Traceback" not in result.stderr, result.stderr
        assert "damaged: " not in result.stderr, result.stderr
        if result.returncode == 0:
            fine += 1
        else:
            assert result.returncode == 1, result.stderr
            assert words in result.stderr, result.stderr
            refused += 1
    return fine, refused


@pytest.mark.skipif(sys.platform != "linux", reason="limits are those of Linux")
def test_a_good_video_is_not_damaged_where_memory_is_short(tmp_path: Path, vivit_bundle: Path) -> None:
    video = make_video(tmp_path / "wide.mp4", size=(1280, 720), frames=40)
    steps = (20, 60, 100, 140, 1000)
    results = (limited("memory", most, "classify", vivit_bundle, video) for most in steps)
    fine, refused = outcomes(results, "memory or threads")
    assert fine >= 1
    assert refused >= 2


@pytest.mark.skipif(sys.platform != "linux", reason="limits are those of Linux")
def test_there_is_memory_to_say_that_there_is_none() -> None:
    result = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout) == (0, "out of memory or threads: MemoryError\n"), result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="limits are those of Linux")
def test_an_export_that_runs_out_of_memory_leaves_nothing_for_long(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "tiny", "videomae")
    steps = (20, 40, 4000)
    results = (
        limited("memory", most, "export", "--model", checkpoint, "-o", tmp_path / "bundle", imports=EXPORTER)
        for most in steps
    )
    fine, refused = outcomes(results, "out of memory or threads: ")
    assert fine >= 1
    assert refused >= 1
    # Even to list a folder takes memory. The one that had enough has collected what those before it could not remove.
    assert {path.name for path in tmp_path.iterdir()} == {"tiny", "bundle"}


@pytest.mark.skipif(sys.platform != "linux", reason="limits are those of Linux")
def test_too_many_open_files(tmp_path: Path, vivit_bundle: Path, video: Path) -> None:
    results = (limited("files", most, "classify", vivit_bundle, video) for most in (3, 4, 5, 64))
    fine, refused = outcomes(results, "too many files are open: ")
    assert fine >= 1
    assert refused >= 2

    checkpoint = write_checkpoint(tmp_path / "tiny", "videomae")
    output = tmp_path / "bundle"
    results = (
        limited("files", most, "export", "--model", checkpoint, "-o", output, "--force", imports=EXPORTER)
        for most in (4, 64)
    )
    fine, refused = outcomes(results, "too many files are open: ")
    assert fine >= 1
    assert refused >= 1
    # The one that had enough has collected what those before it had no files left to remove.
    assert {path.name for path in tmp_path.iterdir()} == {"tiny", "bundle"}


LACKS: list[tuple[BaseException, type[TubeletError]]] = [
    (MemoryError(), OutOfMemory),
    (vars(np)["_core"]._exceptions._ArrayMemoryError((1 << 40,), np.dtype("u1")), OutOfMemory),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), OutOfMemory),
    (RuntimeError("can't start new thread"), OutOfMemory),
    (RuntimeError("Exception during initialization: std::bad_alloc"), OutOfMemory),
    (SystemError("<function f> returned NULL without setting an exception"), OutOfMemory),
    (ImportError("libx.so: failed to map segment from shared object"), OutOfMemory),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), OutOfMemory),
    (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), OutOfMemory),
    (OSError(errno.EMFILE, "Too many open files", "x"), TooManyFiles),
    (OSError(errno.ENFILE, "Too many open files in system"), TooManyFiles),
]


@pytest.mark.parametrize(("error", "expected"), LACKS, ids=[repr(error)[:40] for error, _ in LACKS])
def test_what_libraries_raise_is_named(error: BaseException, expected: type[TubeletError]) -> None:
    wrapped = BackendError("the engine failed")
    wrapped.__cause__ = error
    for raised in (error, wrapped):
        with pytest.raises(expected) as named, shortages_named():
            raise raised
        assert isinstance(named.value, MemoryError if expected is OutOfMemory else OSError)
        assert named.value.fix  # type: ignore[unreachable]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        RuntimeError("shapes differ"),
        OSError(errno.ENOENT, "No such file"),
        BackendError("a file called bad_alloc.onnx is damaged"),  # words of tubelet's own may name anything
        KeyboardInterrupt(),
    ],
)
def test_what_is_no_lack_passes(error: BaseException) -> None:
    assert shortage_of(error) is None
    with pytest.raises(type(error)) as passed, shortages_named():
        raise error
    assert passed.value is error


def test_a_lack_that_is_named_stays_what_it_is() -> None:
    error = VideoOutOfMemory("x cannot be read")
    assert isinstance(error, VideoError | MemoryError)
    raise_shortage(error)  # is one already, and passes
    assert shortage_of(error) is error


def test_what_torch_lacks_in_python_is_a_memory_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tubelet.exporter.checkpoint.load import load_checkpoint
    from tubelet.exporter.export import export_bundle

    def fails(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")

    checkpoint = load_checkpoint(str(write_checkpoint(tmp_path / "tiny", "videomae")), report=lambda _: None)
    monkeypatch.setattr("tubelet.exporter.export.record_reference", fails)
    with pytest.raises(MemoryError, match=r"out of memory or threads: .*DefaultCPUAllocator") as error:
        export_bundle(checkpoint, tmp_path / "bundle")
    assert isinstance(error.value, OutOfMemory)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
