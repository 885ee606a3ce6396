"""Files and folders that are whole or not there, the locks of their makers, and what the dead leave."""

import errno
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tubelet.preprocess.errors import NotWritten, TubeletError
from tubelet.runtime.storage import exchange, lock
from tubelet.runtime.storage.exchange import restored, written_folder
from tubelet.runtime.storage.lock import Holder, locked, try_lock, unlock
from tubelet.runtime.storage.scratch import REPLACED, WRITER, collect, scratch
from tubelet.runtime.storage.written import naming, written_file


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def anything() -> None:
    """A check that lets everything be replaced."""


@contextmanager
def another_process(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `code`, from its line "ready" on."""
    imports = (
        "import sys, time\nfrom pathlib import Path\nfrom tubelet.runtime.storage.lock import *\n"
        "from tubelet.runtime.storage.written import *\nfrom tubelet.runtime.storage.exchange import *\n"
        "path = Path(sys.argv[1])\n"
    )
    command = [sys.executable, "-c", imports + code, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            yield child
        finally:
            child.kill()


HOLDING = """
with locked(path):
    print("ready", flush=True)
    time.sleep(float(sys.argv[2]))
"""
WRITING = """
with written_file(path) as beside:
    beside.write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_file_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with written_file(path) as beside:
        assert (beside.name, beside.parent.parent) == ("report.html", tmp_path)
        beside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert entries(tmp_path) == ["report.html"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def write_half(beside: Path) -> None:
        beside.write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), written_file(path) as beside:
        write_half(beside)
    assert path.read_text() == "old"
    assert entries(tmp_path) == ["report.html"]


@pytest.mark.parametrize(
    ("mask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0o002, 0o664, 0o775)]
)
def test_permissions_are_those_of_the_umask(tmp_path: Path, mask: int, file: int, folder: int) -> None:
    before = os.umask(mask)
    try:
        with written_file(tmp_path / "file") as beside:
            beside.touch()
        with written_folder(tmp_path / "folder", check=anything) as fresh:
            (fresh / "file").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == file
    assert (tmp_path / "folder").stat().st_mode & 0o777 == folder
    assert (tmp_path / "folder/file").stat().st_mode & 0o777 == file


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_no_file_takes_the_place_of_a_pipe_or_a_device(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path, follow in ((pipe, False), (link, True)):
        with pytest.raises(NotWritten, match="pipe is no file"), written_file(path, follow_link=follow):
            raise AssertionError("nothing is to be written")
    assert pipe.is_fifo()
    with written_file(link) as beside:  # the link itself
        beside.write_text("whole")
    assert link.read_text() == "whole"
    assert sorted(tmp_path.iterdir()) == [link, pipe]


def test_a_link_is_replaced_or_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "store", tmp_path / "bundle.json"
    target.write_text("old")
    link.symlink_to(target)
    with written_file(link, follow_link=True) as beside:
        beside.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    with written_file(link) as beside:  # as a store of files by content needs it
        beside.write_text("newer")
    assert not link.is_symlink()
    assert (link.read_text(), target.read_text()) == ("newer", "new")


def test_contents_reach_the_disk_before_they_take_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    sync, rename = os.fsync, Path.rename

    def watched_sync(descriptor: int) -> None:
        happened.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        sync(descriptor)

    def watched_rename(source: Path, target: Path) -> Path:
        happened.append("rename")
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    with written_folder(tmp_path / "bundle", check=anything) as fresh:
        (fresh / "inner").mkdir()
        (fresh / "inner/weights").touch()
    before, after = happened[: happened.index("rename")], happened[happened.index("rename") + 1 :]
    assert {"sync weights", "sync inner", "sync bundle"} <= set(before)
    assert after == [f"sync {tmp_path.name}"]


# What the system says -> what the user can do.
REFUSALS = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some of your quota there",
    errno.EFBIG: "raise the limit on the size of files",
    errno.EROFS: "choose a folder on a file system that is not read-only",
    errno.EIO: "choose another folder",
}


@pytest.mark.parametrize("number", REFUSALS)
def test_what_the_system_refuses_names_the_path(tmp_path: Path, number: int) -> None:
    path = tmp_path / "features.npz"
    with pytest.raises(NotWritten) as error, written_file(path):
        raise OSError(number, os.strerror(number))  # of a descriptor, without a name
    assert str(error.value).startswith(f"{path} cannot be written: {os.strerror(number)}\n  fix: {REFUSALS[number]}")
    assert error.value.errno == number
    assert isinstance(error.value, OSError)
    assert isinstance(error.value, TubeletError)
    assert entries(tmp_path) == []


def test_what_is_refused_elsewhere_is_not_about_what_is_written(tmp_path: Path) -> None:
    video = OSError(errno.EACCES, "Permission denied", "/videos/archery.mp4")
    with pytest.raises(OSError, match="archery") as error, naming(tmp_path / "bundle"):
        raise video
    assert error.value is video


@pytest.mark.parametrize(
    ("write", "said"),
    [
        ("np.savez(beside, a=array)", "File too large"),
        ("np.save(beside, array)", "1000000 requested and 12484 written"),  # without the reason: NumPy loses it
        ("np.save(beside, array[::2])", "problem writing element"),
    ],
)
def test_a_limit_on_files_is_met_half_way(tmp_path: Path, write: str, said: str) -> None:
    """A real refusal by the system, in the middle of a file."""
    code = (
        "import resource\nimport numpy as np\nresource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "array = np.ones(10**6)\n"
        f"with written_file(path) as beside:\n    {write}\n"
    )
    imports = "import sys\nfrom pathlib import Path\nfrom tubelet.runtime.storage.written import *\n"
    command = imports + "path = Path(sys.argv[1])\n"
    path = tmp_path / "features.npz"
    child = subprocess.run([sys.executable, "-c", command + code, path], capture_output=True, text=True, check=False)
    assert f"NotWritten: {path} cannot be written: {said}" in child.stderr
    assert entries(tmp_path) == []


def test_a_scratch_folder_of_a_dead_process_is_collected_and_said(tmp_path: Path) -> None:
    path = tmp_path / "report[1].html"  # a name that is a pattern too
    with another_process(WRITING, path) as child:
        (left,) = tmp_path.iterdir()
        said: list[str] = []
        with written_file(path, say=said.append) as beside:  # the other lives
            beside.write_text("mine")
        assert said == []
        assert entries(tmp_path) == [left.name, path.name]
        child.kill()
        child.wait()
        with written_file(path, say=said.append) as beside:
            beside.write_text("again")
    (message,) = said
    assert message.startswith(f"removed {left}, which process {child.pid} on ")
    assert message.endswith(", left behind when it died")
    assert (entries(tmp_path), path.read_text()) == ([path.name], "again")


def test_what_only_looks_like_a_scratch_folder_is_left_alone(tmp_path: Path) -> None:
    for name in (".a.html.0123abcd", ".a.html.backup", ".a.html.0123abcde", ".b.html.0123abcd"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.tex").touch()
    (tmp_path / ".a.html.01234567").touch()
    (tmp_path / ".a.html.89abcdef").symlink_to(tmp_path / ".b.html.0123abcd")
    before = entries(tmp_path)
    with written_file(tmp_path / "a.html", say=pytest.fail) as beside:
        beside.touch()
    assert entries(tmp_path) == sorted([*before, "a.html"])


def test_another_host_may_be_alive(tmp_path: Path) -> None:
    folder = tmp_path / ".a.0123abcd"
    folder.mkdir()
    writer = folder / WRITER
    writer.write_bytes(b'\n{"pid": 1, "host": "elsewhere", "system": "other", "since": "2026-01-01"}')
    said: list[str] = []
    collect(tmp_path, "a", say=said.append)
    assert folder.is_dir()
    os.utime(writer, (time.time() - 25 * 3600,) * 2)
    collect(tmp_path, "a", say=said.append)
    assert said == [f"removed {folder}, which process 1 on elsewhere, since 2026-01-01, left behind when it died"]
    assert entries(tmp_path) == []


def test_who_collects_and_who_begins_do_not_meet(tmp_path: Path) -> None:
    stop = threading.Event()
    said: list[str] = []

    def collect_for_ever() -> None:
        while not stop.is_set():
            collect(tmp_path, "a", say=said.append)

    collector = threading.Thread(target=collect_for_ever)
    collector.start()
    try:
        for _ in range(200):
            with scratch(tmp_path, "a") as folder:
                (folder / "file").touch()
    finally:
        stop.set()
        collector.join()
    collect(tmp_path, "a", say=said.append)
    assert said == []
    assert entries(tmp_path) == []


def test_a_lock_is_waited_for_and_its_holder_named(tmp_path: Path) -> None:
    said: list[str] = []
    with another_process(HOLDING, tmp_path, 0.5) as child:
        assert try_lock(tmp_path / lock.LOCK) is None
        with locked(tmp_path, say=said.append):
            assert entries(tmp_path) == [".lock"]
    (message,) = said
    assert message.startswith(f"waiting for {tmp_path}: it is being written by process {child.pid} on ")
    assert Holder.of_this_process().host in message
    assert entries(tmp_path) == []


def test_a_lock_ends_with_its_holder(tmp_path: Path) -> None:
    with another_process(HOLDING, tmp_path, 60) as child:
        child.kill()
        child.wait()
        assert entries(tmp_path) == [".lock"]
        with locked(tmp_path, say=pytest.fail):
            pass
    assert entries(tmp_path) == []


def test_a_lock_that_went_with_a_replaced_folder_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    held = try_lock(folder / lock.LOCK)
    assert held is not None
    folder.rename(tmp_path / "old")
    folder.mkdir()
    with locked(folder, say=pytest.fail):  # of the folder that is there now
        unlock(held, folder / lock.LOCK)
        assert entries(folder) == [".lock"]


def test_threads_wait_for_each_other(tmp_path: Path) -> None:
    inside = 0

    def add(times: int) -> None:
        nonlocal inside
        for _ in range(times):
            with locked(tmp_path):
                inside += 1
                assert inside == 1
                time.sleep(0.001)
                inside -= 1

    threads = [threading.Thread(target=add, args=(10,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert entries(tmp_path) == []


def test_where_there_are_no_locks_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.lock_descriptor", refuse)
    open_files = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    said: list[str] = []
    with locked(tmp_path, say=said.append):
        pass
    assert said == [f"the file system of {tmp_path} has no locks: nothing keeps two writers of it apart"]
    with written_file(tmp_path / "file") as beside:
        beside.touch()
    assert (tmp_path / "file").exists()
    if sys.platform == "linux":
        assert len(os.listdir("/proc/self/fd")) == open_files


def write_old(path: Path) -> None:
    path.mkdir()
    (path / "bundle.json").write_text("old")


def refused(number: int) -> Callable[[Path, Path], bool]:
    def refuse(first: Path, second: Path) -> bool:
        raise OSError(number, os.strerror(number), os.fspath(first), None, os.fspath(second))

    return refuse


@pytest.mark.parametrize("at_once", [True, False])
def test_a_folder_takes_the_place_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    if not at_once:
        monkeypatch.setattr(exchange, "_exchange_at_once", lambda *_: False)
    path = tmp_path / "bundle"
    write_old(path)
    with written_folder(path, check=anything) as fresh:
        (fresh / "bundle.json").write_text("new")
    assert (path / "bundle.json").read_text() == "new"
    assert entries(tmp_path) == ["bundle"]
    assert entries(path) == ["bundle.json"]


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux's")
def test_a_reader_never_finds_the_path_empty(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    write_old(path)
    (tmp_path / "a").mkdir()
    if not exchange._exchange_at_once(path, tmp_path / "a"):
        pytest.skip("this file system does not exchange")
    stop, missed = threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            if not os.path.lexists(path):
                missed.append(time.monotonic())

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(30):
        with written_folder(path, check=anything) as fresh:
            (fresh / "bundle.json").touch()
    stop.set()
    reader.join()
    assert missed == []


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EBUSY, errno.EACCES])
def test_what_cannot_be_exchanged_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(exchange, "_exchange_at_once", refused(number))
    path = tmp_path / "bundle"
    write_old(path)
    with (
        pytest.raises(NotWritten, match=rf"bundle cannot be written: {os.strerror(number)}"),
        written_folder(path, check=anything) as fresh,
    ):
        (fresh / "bundle.json").write_text("new")
    assert (path / "bundle.json").read_text() == "old"
    assert entries(tmp_path) == ["bundle"]


def test_where_the_second_rename_fails_the_first_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_exchange_at_once", lambda *_: False)
    path, rename = tmp_path / "bundle", Path.rename
    write_old(path)

    def fail_once_aside(source: Path, target: Path) -> Path:
        if target == path and source.name != REPLACED:
            raise OSError(errno.EIO, "Input/output error", str(source))
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", fail_once_aside)
    with pytest.raises(NotWritten), written_folder(path, check=anything):
        pass
    assert (path / "bundle.json").read_text() == "old"
    assert entries(tmp_path) == ["bundle"]


BETWEEN_RENAMES = """
import tubelet.runtime.storage.exchange as exchange

def stop(source, target):
    rename(source, target)
    print("ready", flush=True)
    time.sleep(60)

exchange._exchange_at_once = lambda *_: False
rename = Path.rename
with written_folder(path, check=lambda: None) as fresh:
    (fresh / "bundle.json").write_text("new")
    Path.rename = stop
"""


def test_what_was_moved_aside_by_a_process_that_died_is_put_back(tmp_path: Path) -> None:
    path, said = tmp_path / "bundle", list[str]()
    write_old(path)
    with another_process(BETWEEN_RENAMES, path) as child:
        restored(path, say=said.append)  # waits for one that lives, and no longer than two renames take
        assert not path.exists()
        child.kill()
        child.wait()
        restored(path, say=said.append)
    assert said[0] == f"put {path} back, which a process that died had moved aside"
    assert said[1].startswith("removed ")
    assert (path / "bundle.json").read_text() == "old"
    assert entries(tmp_path) == ["bundle"]


def test_what_lies_aside_is_kept_while_another_thing_is_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    write_old(path)
    with another_process(BETWEEN_RENAMES, path) as child:
        child.kill()
    path.mkdir()
    (path / "thesis.tex").touch()
    collect(tmp_path, "bundle")
    (left,) = (folder for folder in tmp_path.iterdir() if folder != path)
    assert (left / REPLACED / "bundle.json").read_text() == "old"


def test_two_that_write_the_same_fresh_folder(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    with written_folder(path, check=anything) as first:
        (first / "bundle.json").write_text("first")
        with written_folder(path, check=anything) as second:
            (second / "bundle.json").write_text("second")
    assert (path / "bundle.json").read_text() == "first"  # the last to come
    assert entries(tmp_path) == ["bundle"]


def is_interrupted(step: int, run: Callable[[], None]) -> bool:
    """Whether `run` has so many steps, and was interrupted at that one. Python looks for signals where a function
    begins, and where one in C has ended."""
    left = step

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal left
        left -= event in ("call", "c_return")
        if left == 0:
            raise KeyboardInterrupt

    try:
        sys.setprofile(count)
        run()
        sys.setprofile(None)
    except KeyboardInterrupt:
        return True
    return False


def write_file(path: Path) -> None:
    with written_file(path) as beside:
        beside.write_text("new")


def write_folder(path: Path) -> None:
    with written_folder(path, check=anything) as fresh:
        (fresh / "bundle.json").write_text("new")


@pytest.mark.filterwarnings("ignore:Exception ignored:pytest.PytestUnraisableExceptionWarning")  # files left open
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("write", [write_file, write_folder])
@pytest.mark.parametrize("old", [True, False])
def test_an_interrupt_leaves_the_old_or_the_new_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None], old: bool, at_once: bool
) -> None:
    if not at_once:
        monkeypatch.setattr(exchange, "_exchange_at_once", lambda *_: False)
    write(tmp_path / "first")  # imports what it needs
    locks_left = 0
    for step in itertools.count(1):
        path = tmp_path / str(step) / "bundle"
        path.parent.mkdir()
        if old and write is write_file:
            path.write_text("old")
        elif old:
            write_old(path)
        interrupted = is_interrupted(step, partial(write, path))
        assert entries(path.parent) in ([["bundle"]] if old or not interrupted else [["bundle"], []]), step
        if path.is_dir():
            locks_left += ".lock" in entries(path)  # where open() has made it, and has not said so yet
            assert [name for name in entries(path) if name != ".lock"] == ["bundle.json"], step
        if path.exists():
            text = (path / "bundle.json" if path.is_dir() else path).read_text()
            assert text in (("old", "new") if interrupted else ("new",)), step
        if not interrupted:
            break
    assert locks_left <= 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("ignored", [False, True])
def test_signals_end_a_command_as_an_interrupt_does(tmp_path: Path, number: signal.Signals, ignored: bool) -> None:
    code = (
        "import signal\nfrom tubelet.cli.signals import ended_by_signals\n"
        f"signal.signal({int(number)}, signal.SIG_IGN if {ignored} else signal.SIG_DFL)\n"  # nohup may run the tests
        "with ended_by_signals(), written_file(path) as beside:\n"
        "    beside.write_text('half')\n    print('ready', flush=True)\n    time.sleep(0.5)\n"
    )
    with another_process(code, tmp_path / "file") as child:
        child.send_signal(number)
        child.wait()
    assert child.returncode == (0 if ignored else 128 + number)
    assert entries(tmp_path) == (["file"] if ignored else [])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_library_that_makes_an_error_of_a_signal(tmp_path: Path, number: signal.Signals, code: int) -> None:
    script = """
import click
from tubelet.cli.tree import TubeletGroup

@click.group(cls=TubeletGroup)
def main():
    pass

@main.command()
def wait():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except BaseException:
        raise AttributeError("half imported")

main(["wait"])
"""
    with another_process(script, tmp_path) as child:
        child.send_signal(number)
        child.wait()
    assert child.returncode == code


def test_signals_are_left_as_they_were() -> None:
    from tubelet.cli.signals import ended_by_signals

    before = signal.getsignal(signal.SIGTERM)
    with ended_by_signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_as_another_user_what_may_not_be_written_is_said(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o555)
    with pytest.raises(NotWritten, match=r"cannot be written: Permission denied"), written_file(tmp_path / "file"):
        pass
