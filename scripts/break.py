"""Tries to break tubelet, and counts what came of it: mutated videos, misuse of the command line, and so on.

    python scripts/break.py [KIND...] [--seed 0] [--minutes 5 | --count 100] [--keep build/break]

Every case is a run of `tubelet` that may succeed or end with a message. A traceback, a hang, a crash, too much memory
or a temporary file left behind is wrong. The exit code is then 1, and the input is kept with the command that it was
for. The kinds are tests/support/break_*.py; what a case is stands in tests/support/breaking.py. Runs on Linux.
"""

import argparse
import importlib
import shutil
import sys
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import breaking

KINDS = sorted(path.stem.removeprefix("break_") for path in Path(breaking.__file__).parent.glob("break_*.py"))


def run(kind: ModuleType, seed: int, count: int | None, seconds: float, kept: Path) -> Counter[breaking.Verdict]:
    """Run cases until there are `count`, or until so many seconds have passed. Return how many came to what."""
    found: Counter[breaking.Verdict] = Counter()
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        shared = Path(folder) / "shared"
        shared.mkdir()
        breaking.in_child(lambda: kind.prepare(shared))
        for number, case in enumerate(islice(kind.cases(seed, shared), count)):
            if count is None and time.monotonic() > deadline:
                break
            place = Path(folder) / "case"
            outcome = breaking.judge(case, place)
            found[outcome.verdict] += 1
            if not outcome.good:
                where = kept / f"{kind.__name__.removeprefix('break_')}-{seed}-{number}"
                breaking.keep(place, case, outcome, where)
                print(f"{outcome.verdict}: {case.name}\n  kept in {where}\n{_end(outcome.said)}", flush=True)
            shutil.rmtree(place)
    return found


def _end(said: str) -> str:
    return "\n".join(f"    {line}" for line in said.splitlines()[-6:])


def table(found: dict[str, Counter[breaking.Verdict]]) -> str:
    columns = ("tried", *breaking.VERDICTS)
    lines = ["  ".join(["kind".ljust(12), *columns])]
    for kind, counts in found.items():
        numbers = [sum(counts.values()), *(counts[verdict] for verdict in breaking.VERDICTS)]
        cells = [str(number).rjust(len(column)) for number, column in zip(numbers, columns, strict=True)]
        lines.append("  ".join([kind.ljust(12), *cells]))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; all where none is named")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=5, help="for each kind")
    parser.add_argument("--count", type=int, help="of cases of each kind, however long they take")
    parser.add_argument("--keep", type=Path, default=Path("build/break"), help="where inputs are kept that did harm")
    options = parser.parse_args()
    unknown = set(options.kinds) - set(KINDS)
    if unknown:
        parser.error(f"there is no kind {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    found = {}
    for name in options.kinds or KINDS:
        kind = importlib.import_module(f"break_{name}")
        for module in kind.NEEDS:
            importlib.import_module(module)
        found[name] = run(kind, options.seed, options.count, options.minutes * 60, options.keep.absolute())
    print(table(found))
    if any(
        counts[verdict] for counts in found.values() for verdict in breaking.VERDICTS if verdict not in breaking.GOOD
    ):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
