"""Several writers of one bundle, writers that are killed, and bundles where writing is hard."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import killed
import pytest
from click.testing import CliRunner
from killed import join, litter, lowered, put_in_place, whole
from mounts import run_with_mounts

from tubelet.cli.tree import main
from tubelet.exporter.lower.join_graph import graph_folder, join_graph
from tubelet.exporter.lower.search import add_graph
from tubelet.preprocess.errors import BundleError, NotWritten
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.target import check_target
from tubelet.runtime.load import load
from tubelet.runtime.storage.exchange import is_mount_point
from tubelet.runtime.storage.lock import locked
from tubelet.runtime.storage.scratch import scratch

SUPPORT = Path(killed.__file__).parent


@pytest.fixture
def copy(vivit_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(vivit_bundle, tmp_path / "bundle")


def precisions(path: Path) -> list[str]:
    return [graph.precision for graph in whole(path).graphs]


def while_it_works(do: Callable[[], object]) -> Callable[[str], None]:
    """A Progress that does something once, when the graph is being made."""
    todo = [do]

    def progress(message: str) -> None:
        if todo and "trying" in message:
            todo.pop()()

    return progress


def test_two_that_make_graphs_of_one_bundle_both_keep_theirs(copy: Path) -> None:
    opened = Bundle.open(copy)
    progress = while_it_works(lambda: add_graph(opened, "fp16"))
    bundle, _ = add_graph(opened, "int8", progress=progress)
    assert [graph.precision for graph in bundle.graphs] == ["fp32", "fp16", "int8"]
    assert precisions(copy) == ["fp32", "fp16", "int8"]
    assert litter(copy) == []


def test_two_that_make_the_same_graph(copy: Path) -> None:
    opened = Bundle.open(copy)
    with pytest.raises(BundleError, match=r"has an int8 graph already\n  fix: replace it with --force"):
        add_graph(opened, "int8", progress=while_it_works(lambda: join(force=False)(copy)))
    assert precisions(copy) == ["fp32", "int8"]
    assert litter(copy) == []


def test_a_bundle_that_was_replaced_while_its_graph_was_made(copy: Path, videomae_bundle: Path) -> None:
    message = (
        r"bundle was replaced while its int8 graph was being made, so it was not added\n  fix: run the command again"
    )
    progress = while_it_works(lambda: put_in_place(videomae_bundle)(copy))
    with pytest.raises(BundleError, match=message):
        add_graph(Bundle.open(copy), "int8", progress=progress)
    assert whole(copy).architecture == "VideoMAEForVideoClassification"
    assert litter(copy) == []


def test_a_bundle_that_was_replaced_before_the_graph_joins(copy: Path, videomae_bundle: Path, tmp_path: Path) -> None:
    opened = Bundle.open(copy)
    with scratch(tmp_path, "made") as folder:
        graph = lowered(opened, folder)
        put_in_place(videomae_bundle)(copy)
        with pytest.raises(BundleError, match="was replaced while its int8 graph"):
            join_graph(opened, graph, folder, force=True)
    assert precisions(copy) == ["fp32"]
    assert litter(copy) == []


def test_who_joins_waits_and_says_for_whom(copy: Path) -> None:
    said: list[str] = []
    held = threading.Event()

    def hold() -> None:
        with locked(copy):
            held.set()
            time.sleep(0.3)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    opened = Bundle.open(copy)
    with graph_folder(opened, "int8") as folder:
        join_graph(opened, lowered(opened, folder), folder, force=False, say=said.append)
    holder.join()
    (message,) = said
    assert message.startswith(f"waiting for {copy}: it is being written by process {os.getpid()} on ")
    assert precisions(copy) == ["fp32", "int8"]


def test_many_processes_join_and_replace_and_the_bundle_is_whole(copy: Path, tmp_path: Path) -> None:
    source = shutil.copytree(copy, tmp_path / "source")
    code = (
        "import sys\nfrom pathlib import Path\nfrom killed import join, put_in_place, whole\n"
        "from tubelet.preprocess.errors import BundleError\n"
        "path, source, which = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])\n"
        "for _ in range(10):\n"
        "    try:\n        (join(force=True) if which else put_in_place(source))(path)\n"
        "    except BundleError as error:\n        assert 'was replaced' in str(error), error\n"
    )
    command = [sys.executable, "-c", code, str(copy), str(source)]
    children = [
        subprocess.Popen([*command, str(which)], cwd=SUPPORT, stderr=subprocess.PIPE, text=True) for which in (0, 1, 1)
    ]
    for child in children:
        _, stderr = child.communicate(timeout=300)
        assert child.returncode == 0, stderr
    assert precisions(copy)[0] == "fp32"
    shutil.rmtree(source)
    assert litter(copy) == []


def test_killed_at_any_step_there_is_a_whole_bundle_and_no_litter(vivit_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    command = [sys.executable, "killed.py", str(vivit_bundle), str(tmp_path / "place")]
    child = subprocess.run(command, cwd=SUPPORT, capture_output=True, text=True, timeout=600, check=False)
    assert child.returncode == 0, child.stdout + child.stderr
    steps = {name: int(count) for name, count in (line.rsplit(" ", 1) for line in child.stdout.splitlines())}
    assert list(steps) == ["exchange", "manifest", "file", "join", "join again", "two renames"]
    assert min(steps.values()) > 5  # the steps are seen
    assert steps["two renames"] > steps["exchange"]


def test_terminated_a_command_cleans_up_and_says_so_in_its_exit_code(copy: Path) -> None:
    code = "from tubelet.cli.tree import main; main()"
    command = [sys.executable, "-c", code, "quantize", str(copy), "--precision", "int8,int8-static,fp16"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        while child.poll() is None and not list(copy.glob(".quantize.*/model.*")):
            time.sleep(0.01)
        child.send_signal(signal.SIGTERM)
        stdout, stderr = child.communicate(timeout=120)
    assert (child.returncode, stdout, stderr) == (143, "", "")
    whole(copy)
    assert litter(copy) == []


# In a mount namespace of its own: quantize and export --force on a bundle that is a mount, then on a full one.
MOUNTED = """
import os, shutil, subprocess, sys
from pathlib import Path
from click.testing import CliRunner
from tubelet.cli.tree import main

def tubelet(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    print(result.exit_code, result.stderr.replace(chr(10), "|"), result.exception)

source, place = Path(sys.argv[1]), Path(sys.argv[2])
place.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", place], check=True)
print("mounted")
shutil.copytree(source, place, dirs_exist_ok=True)
tubelet("quantize", place, "--precision", "int8")
tubelet("export", "--model", source, "-o", place, "--force")
with (place / "ballast").open("wb", buffering=0) as file:
    try:
        while True:
            file.write(b"x" * 4096)
    except OSError:
        pass
    tubelet("quantize", place, "--precision", "fp16")
    file.truncate(file.tell() - 16 * 4096)  # enough to begin with
    tubelet("quantize", place, "--precision", "fp16")
print(sorted(path.name for path in place.iterdir()))
"""


def test_a_bundle_that_is_a_mount_of_its_own_and_a_full_disk(vivit_bundle: Path, tmp_path: Path) -> None:
    place = tmp_path / "mount"
    quantized, exported, *full, entries = run_with_mounts(MOUNTED, vivit_bundle, place)
    assert quantized == "0  None"
    assert exported.startswith(f"1 Error: {place} is a mount point, and a bundle is replaced by another folder")
    assert len(full) == 2
    for shown in full:
        assert shown.startswith(f"1 Error: {place} cannot be written: No space left on device|  fix: free some space")
    assert entries == "['ballast', 'bundle.json', 'model.int8.onnx', 'model.onnx', 'reference.npz']"


def test_what_is_no_mount_point(tmp_path: Path) -> None:
    assert not is_mount_point(tmp_path)
    assert is_mount_point(Path("/"))


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of a user who may not write everywhere, who runs the test."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    user = os.geteuid()
    if user == 0:
        os.chown(folder, 65534, -1)
        os.seteuid(65534)
    yield folder
    if user == 0:
        os.seteuid(0)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_bundle_is_written_where_the_folder_around_it_is_not(vivit_bundle: Path, unprivileged: Path) -> None:
    path = unprivileged / "parent/bundle"
    path.mkdir(parents=True)
    os.seteuid(os.getuid())  # to read the bundle
    contents = {entry.name: entry.read_bytes() for entry in vivit_bundle.iterdir()}
    os.seteuid(unprivileged.stat().st_uid)
    for name, content in contents.items():
        (path / name).write_bytes(content)
    path.parent.chmod(0o555)
    join(force=True)(path)
    assert precisions(path) == ["fp32", "int8"]
    with pytest.raises(NotWritten, match=rf"^{path} cannot be written: Permission denied\n  fix: choose another"):
        put_in_place(vivit_bundle)(path)
    path.chmod(0o555)
    with pytest.raises(NotWritten, match=rf"^{path} cannot be written: Permission denied .*\n  fix: choose another"):
        join(force=True)(path)
    assert precisions(path) == ["fp32", "int8"]


def test_force_and_links(copy: Path) -> None:
    link = copy.with_name("current")
    link.symlink_to("bundle")
    with pytest.raises(BundleError, match=r"current exists\n  fix: .*--force"):
        check_target(link, force=False)
    check_target(link, force=True)
    link.unlink()
    link.symlink_to("gone")
    with pytest.raises(BundleError, match=r"current is a link to gone, which does not exist\n  fix: remove the link"):
        check_target(link, force=True)


def test_a_command_puts_back_what_was_moved_aside_and_says_so(copy: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom tubelet.runtime.storage import exchange\n"
        "exchange._exchange_at_once = lambda *_: False\nrename = Path.rename\n"
        "def die(source, target):\n    rename(source, target)\n    os.kill(os.getpid(), 9)\n"
        "with exchange.written_folder(Path(sys.argv[1]), check=lambda: None):\n    Path.rename = die\n"
    )
    subprocess.run([sys.executable, "-c", code, str(copy)], check=False)
    assert not copy.exists()
    shown = CliRunner().invoke(main, ["info", str(copy)])
    assert shown.exit_code == 0
    assert shown.stdout.startswith("model      vivit ")
    assert shown.stderr.startswith(f"note: put {copy} back, which a process that died had moved aside\nnote: removed ")
    assert litter(copy) == []


def test_readers_see_a_whole_bundle_at_every_moment(copy: Path, videomae_bundle: Path, tmp_path: Path) -> None:
    first = shutil.copytree(copy, tmp_path / "first")
    stop, found, wrong = threading.Event(), set(), list[BaseException]()

    def read() -> None:
        while not stop.is_set():
            try:
                with load(copy) as model:
                    found.add(model.bundle.architecture)
            except BaseException as error:
                wrong.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    while not stop.is_set():
        for source in (videomae_bundle, first):
            put_in_place(source)(copy)
            join(force=True)(copy)
            join(force=True)(copy)
        if wrong or len(found) == 2:
            stop.set()
    reader.join()
    assert wrong == []


def test_a_bundle_that_is_replaced_between_opening_and_use(copy: Path, videomae_bundle: Path) -> None:
    opened = Bundle.open(copy)
    put_in_place(videomae_bundle)(copy)
    with pytest.raises(BundleError, match="bundle was replaced while it was being read\n  fix: try again"):
        opened.verified(opened.reference)
