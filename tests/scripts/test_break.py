"""A short breaking run of every kind, and whether the judge sees what it is there to see (see breaking.py)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = sorted(path.stem.removeprefix("break_") for path in ROOT.glob("tests/support/break_*.py"))
COUNT = {
    "archives": 1,
    "checkpoints": 6,
    "kills": 2,
}  # of a kind whose cases take long; scripts/break.py has minutes
USUAL_COUNT = 20
MORE = {"checkpoints": 40, "kills": 12}

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is looked up in /proc")


def python(*arguments: object, tiny: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=600,
        check=False,
        cwd=ROOT / "tests" / "support",
        env=os.environ | ({} if tiny is None else {"TUBELET_TINY": str(tiny)}),
    )


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        *((kind, COUNT.get(kind, USUAL_COUNT)) for kind in KINDS),
        *(pytest.param(kind, MORE.get(kind, 100), marks=pytest.mark.slow) for kind in KINDS if kind != "archives"),
    ],
)
def test_nothing_of_this_kind_breaks_tubelet(tmp_path: Path, plain_bundle: Path, kind: str, count: int) -> None:
    script = ROOT / "scripts/break.py"
    child = python(script, kind, "--count", count, "--keep", tmp_path, tiny=plain_bundle.parent)
    assert child.returncode == 0, child.stdout[-5000:] + child.stderr[-2000:]
    assert child.stdout.splitlines()[-1].split()[:2] == [kind, str(count)]


@pytest.mark.slow
def test_an_archive_survives_a_hundred_kills(tmp_path: Path) -> None:
    """25 cases of break_archives.py, each of them KILLS kills that came in time, and one more."""
    child = python(ROOT / "scripts/break.py", "archives", "--seed", 1, "--count", 25, "--keep", tmp_path)
    assert child.returncode == 0, child.stdout[-5000:] + child.stderr[-2000:]


# What stands in for a run of tubelet -> what the judge must say of it.
ENDS = {
    "print('said')": "fine",
    "click.echo('Error: no', err=True); sys.exit(1)": "clear error",
    "sys.exit(1)": "traceback",  # without a word
    "1 / 0": "traceback",
    "t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()": "traceback",
    "time.sleep(60)": "hang",
    "os.kill(os.getpid(), signal.SIGSEGV)": "crash",
    "ctypes.string_at(0)": "crash",
    "x = b'x' * (200 << 20)": "too much memory",
    "open('.left', 'w')": "left behind",
    "tempfile.mkdtemp()": "left behind",
}

JUDGE = """
import ctypes, os, signal, sys, tempfile, threading, time
from pathlib import Path
import click
import breaking

class Stand:
    def main(self, arguments, prog_name):
        exec(arguments[0], globals())

breaking.main = Stand()
for number, ends in enumerate(sys.argv[2:]):
    case = breaking.Case("stand-in", lambda folder: [ends], seconds=2, memory=100 << 20)
    print(breaking.judge(case, Path(sys.argv[1]) / str(number)).verdict)
"""


def test_what_the_judge_sees(tmp_path: Path) -> None:
    child = python("-c", JUDGE, tmp_path, *ENDS)
    assert dict(zip(ENDS, child.stdout.splitlines(), strict=True)) == ENDS, child.stderr


def test_what_does_harm_is_kept_and_the_run_fails(tmp_path: Path) -> None:
    """A kind whose second case hangs, beside a copy of the script."""
    (tmp_path / "tests/support").mkdir(parents=True)
    (tmp_path / "scripts").mkdir()
    for name in ("tests/support/breaking.py", "scripts/break.py"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "tests/support/break_stand.py").write_text(
        "from breaking import Case\n"
        "NEEDS = ()\n"
        "def prepare(shared): (shared / 'made').write_text('once')\n"
        "def make(folder):\n"
        "    (folder / 'input').write_text('harmful')\n"
        "    return ['doctor']\n"
        "def cases(seed, shared):\n"
        "    assert (shared / 'made').read_text() == 'once'\n"
        "    yield Case('nothing', lambda folder: ['-h'])\n"
        "    yield Case('everything', make, seconds=0)\n"
    )
    child = python(tmp_path / "scripts/break.py", "stand", "--seed", 7, "--keep", tmp_path / "kept")
    assert child.returncode == 1, child.stderr
    assert child.stdout.startswith("hang: everything\n")
    assert child.stdout.splitlines()[-1].split() == ["stand", "2", "1", "0", "0", "1", "0", "0", "0"]
    kept = tmp_path / "kept" / "stand-7-1"
    assert (kept / "work/input").read_text() == "harmful"
    assert "tubelet ('doctor',)" in (kept / "command.txt").read_text()
