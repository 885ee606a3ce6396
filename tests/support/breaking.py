"""What a breaking run is made of: cases that try to break tubelet, and a judge that says what each came to.

A kind of case is a module break_<kind>.py beside this one. It has

    NEEDS: tuple[str, ...]                        modules imported once, before the cases, because they take long
    prepare(shared: Path) -> None                 writes what its cases share: a bundle, a checkpoint, videos
    cases(seed: int, shared: Path) -> Iterator    Case after Case; the same ones for the same seed

`scripts/break.py` runs them. Each case runs in a process of its own, forked from one that has imported everything, so
that it can crash, hang or take memory, and costs little.
"""

import contextlib
import faulthandler
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from tubelet.cli.tree import main

Verdict = Literal["fine", "clear error", "traceback", "hang", "crash", "too much memory", "left behind"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
GOOD: tuple[Verdict, ...] = ("fine", "clear error")

SECONDS = 60.0
MEMORY = 1 << 30
# Address space that a case may take above what it begins with. Reserved and unused space counts, so this is only there
# to protect the machine; what a case really takes is judged by its memory at the peak.
ADDRESS_SPACE = 8 << 30
_TRACEBACK = 70  # exit code


@dataclass(frozen=True)
class Kill:
    """A signal that a case is sent after so many seconds, unless it has ended by then."""

    signal: signal.Signals
    seconds: float


@dataclass(frozen=True)
class Case:
    """One attempt to break tubelet.

    name:    what was done, and to what
    make:    writes the input into an empty folder -> the arguments of `tubelet`, which runs in that folder
    seconds: it may take; longer is a hang
    memory:  bytes it may take at the peak, above what the process had before
    kill:    the signal that it is sent
    wrong:   looks at the folder afterwards -> what is wrong with what is there, None where nothing is
    """

    name: str
    make: Callable[[Path], Sequence[str]]
    seconds: float = SECONDS
    memory: int = MEMORY
    kill: Kill | None = None
    wrong: Callable[[Path], str | None] = lambda folder: hidden_files(folder)


@dataclass(frozen=True)
class Outcome:
    """What a case came to. said: its output, stderr last."""

    verdict: Verdict
    arguments: tuple[str, ...]
    said: str
    seconds: float
    peak_bytes: int

    @property
    def good(self) -> bool:
        return self.verdict in GOOD


def hidden_files(folder: Path) -> str | None:
    """Temporary files that a command left; locks stay."""
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob(".*") if path.suffix != ".lock")
    return f"left behind: {', '.join(left)}" if left else None


def write_bundle(shared: Path) -> None:
    """A tiny VideoMAE, shared/tiny, and the bundle made of it, shared/bundle. For `prepare`.

    Both are copied from the folder that TUBELET_TINY names, where it does: many runs need to make them once alone.
    """
    if made := os.environ.get("TUBELET_TINY"):
        shutil.copytree(Path(made, "videomae"), shared / "tiny")
        shutil.copytree(Path(made, "bundle"), shared / "bundle")
        return
    from checkpoints import write_checkpoint

    from tubelet.exporter.checkpoint.load import load_checkpoint
    from tubelet.exporter.export import export_bundle

    checkpoint = load_checkpoint(str(write_checkpoint(shared / "tiny", "videomae")), report=lambda _: None)
    export_bundle(checkpoint, shared / "bundle")


def in_child(work: Callable[[], None]) -> None:
    """Runs `work` in a process of its own: it may start threads, which must not be forked, or take memory."""
    child = os.fork()
    if child == 0:
        with _exits():
            work()
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError("what the cases need could not be prepared")


def judge(case: Case, folder: Path) -> Outcome:
    """Runs a case in `folder`, which is made, in a process of its own."""
    work, temporary, said = folder / "work", folder / "temporary", folder / "said.txt"
    work.mkdir(parents=True)
    temporary.mkdir()
    said.touch()
    arguments = tuple(case.make(work))
    before = _resident_bytes()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        with _exits():
            _become(work, temporary, said)
            main.main(list(arguments), prog_name="tubelet")
    status, usage, timed_out = _wait(child, case)
    taken = time.monotonic() - started
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it started and did not end
    peak = max(0, usage.ru_maxrss * 1024 - before)
    text = said.read_text(errors="replace")
    verdict = _verdict(case, status, text, timed_out=timed_out, peak=peak)
    if verdict in GOOD:
        wrong = case.wrong(work) or hidden_files(temporary) or _anything(temporary)
        if wrong:
            verdict, text = "left behind", f"{text}{wrong}\n"
    return Outcome(verdict, arguments, text, taken, peak)


def _verdict(case: Case, status: int, said: str, *, timed_out: bool, peak: int) -> Verdict:
    ended = os.waitstatus_to_exitcode(status)
    if timed_out:
        return "hang"
    if case.kill is not None and ended in (-case.kill.signal, 128 + case.kill.signal):
        return "fine"
    if ended < 0:
        return "crash"
    if "Traceback (most recent call last)" in said:
        return "traceback"
    if peak > case.memory:
        return "too much memory"
    if ended == 0:
        return "fine"
    return "clear error" if "Error: " in said or "Aborted!" in said or ended == 3 else "traceback"


def _wait(child: int, case: Case) -> tuple[int, resource.struct_rusage, bool]:
    """Waits for a process, and ends it where it takes too long -> status, usage, whether it was ended."""
    started = time.monotonic()
    killed = case.kill is None
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            return status, usage, False
        taken = time.monotonic() - started
        if case.kill is not None and not killed and taken >= case.kill.seconds:
            os.kill(child, case.kill.signal)
            killed = True
        if taken > case.seconds:
            os.kill(child, signal.SIGABRT)  # faulthandler says where it stood
            time.sleep(0.2)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            _, status, usage = os.wait4(child, 0)
            return status, usage, True
        time.sleep(0.005)


def _become(work: Path, temporary: Path, said: Path) -> None:
    """Makes this process, just forked, one that runs a case: its folder, its output, its limits."""
    os.setsid()
    os.chdir(work)
    os.environ["TMPDIR"] = str(temporary)
    os.environ["HF_HUB_OFFLINE"] = "1"
    output = os.open(said, os.O_WRONLY | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, output), (2, output)):
        os.dup2(source, target)
    faulthandler.enable(2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    space = _pages(0) + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (space, space))


@contextlib.contextmanager
def _exits() -> Iterator[None]:
    """Ends the process after the block, as Python would, but for what the process it was forked from has at exit."""
    code = 0
    try:
        yield
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = _TRACEBACK
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _pages(field: int) -> int:
    """Bytes, from /proc/self/statm: address space (0), in memory (1)."""
    return int(Path("/proc/self/statm").read_text().split()[field]) * resource.getpagesize()


def _resident_bytes() -> int:
    return _pages(1)


def _anything(folder: Path) -> str | None:
    left = sorted(path.name for path in folder.iterdir())
    return f"left behind in TMPDIR: {', '.join(left)}" if left else None


def keep(folder: Path, case: Case, outcome: Outcome, where: Path) -> None:
    """Keeps what a case ran on, what it said and how it was called, to be looked at."""
    if where.exists():
        shutil.rmtree(where)
    where.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, where, symlinks=True)
    (where / "command.txt").write_text(
        f"{case.name}\n{outcome.verdict}, {outcome.seconds:.1f} s, {outcome.peak_bytes / 1e6:.0f} MB\n"
        f"tubelet {outcome.arguments!r}\n",
        errors="backslashreplace",
    )
