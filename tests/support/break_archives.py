"""Archives whose run is killed, again and again, at any moment: no row may be lost, doubled or half there.

A case is KILLS kills at least, of one output after another; each run goes on where the one before was killed. After
every kill there are whole rows in order and perhaps the beginning of one; at the end the rows are those of a run that
nobody disturbed. Kills at every single step of the writing are in killed_archives.py.
"""

import json
import random
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import breaking
import numpy as np
import pyarrow.parquet as pq
from breaking import Case, Kill
from videos import make_video

from tubelet.runtime.archive.rows import Row

NEEDS = ("onnxruntime", "pyarrow.parquet")

KILLS = 4
VIDEOS = 30


def prepare(shared: Path) -> None:
    breaking.write_bundle(shared)
    names = []
    for number in range(VIDEOS):
        path = shared / f"{number}.mp4"
        if number % 7 == 3:  # not there
            pass
        elif number < 3:
            make_video(path, frames=8 + number, size=(64, 48), codec="mpeg4")
        else:
            shutil.copy(shared / f"{number % 3}.mp4", path)
        names.append(str(path))
    (shared / "list.txt").write_text("\n".join(names))


def command(shared: Path, output: str) -> list[str]:
    bundle, files = shared / "bundle", shared / "list.txt"
    return ["classify", str(bundle), "--files", str(files), "--resume", "-o", output, "--batch", "2"]


def make(shared: Path, output: str, _: Path) -> list[str]:
    return command(shared, output)


def rows_of(path: Path) -> list[Row]:
    """The rows of an output, without what is null."""
    if path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
        return [{name: value for name, value in row.items() if value is not None} for row in rows]
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def so_far(path: Path) -> list[Row]:
    """The whole rows that a kill left of an output: as a user reads it, where the last line may be cut off."""
    if path.exists() and path.suffix == ".parquet":
        return rows_of(path)
    journal = path if path.suffix == ".jsonl" else path.with_name(f"_{path.name}.rows.jsonl")
    text = journal.read_bytes() if journal.exists() else b""
    return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]


def alike(rows: list[Row], expected: list[Row]) -> bool:
    """Whether rows are equal, but for the last digits of scores.

    A run that goes on makes other batches, and another size of batch is rounded otherwise.
    """

    def rest(row: Row) -> Row:
        return row | {"predictions": [one["label"] for one in row.get("predictions", [])]}

    def scores(of: list[Row]) -> list[float]:
        return [one["score"] for row in of for one in row.get("predictions", [])]

    same = [rest(row) for row in rows] == [rest(row) for row in expected]
    return same and np.allclose(scores(rows), scores(expected), rtol=0, atol=1e-6)


def wrong(shared: Path, expected: list[Row], seed: int, seconds: float, output: str, folder: Path) -> str | None:
    """What is wrong after the first kill, the others, and a run to the end."""
    chance = random.Random(seed)
    path = folder / output
    runs = kills = 0
    while True:
        rows = so_far(path)
        if not alike(rows, expected[: len(rows)]):
            return f"after {kills} kills there are {rows}"
        if len(rows) == len(expected):  # it was faster than the kill
            shutil.rmtree(folder)
            folder.mkdir()
        else:
            kills += 1
        if kills > KILLS:
            break
        runs += 1
        kill = Kill(signal.SIGKILL, chance.uniform(0, seconds))
        again = breaking.judge(
            Case("again", lambda _: command(shared, str(path)), kill=kill), folder.parent / str(runs)
        )
        if again.verdict != "fine":
            return f"gone on with: {again.verdict}\n{again.said}"
    last = breaking.judge(Case("last", lambda _: command(shared, str(path))), folder.parent / "last")
    if last.verdict != "fine" or not alike(rows_of(path), expected):
        return f"{last.verdict}, and at the end there are {rows_of(path)}\n{last.said}"
    left = sorted({entry.name for entry in folder.iterdir()} - {output, f"_{output}.run.json"})
    return f"left behind: {', '.join(left)}" if left else None


def cases(seed: int, shared: Path) -> Iterator[Case]:
    chance = random.Random(seed)
    undisturbed = breaking.judge(Case("undisturbed", lambda _: command(shared, "rows.jsonl")), shared / "undisturbed")
    assert undisturbed.verdict == "fine", undisturbed.said
    expected = rows_of(shared / "undisturbed/work/rows.jsonl")
    assert len(expected) == VIDEOS
    while True:
        output = chance.choice(["rows.jsonl", "rows.jsonl", "rows.parquet"])
        kill = Kill(signal.SIGKILL, chance.uniform(0, undisturbed.seconds))
        look = partial(wrong, shared, expected, chance.randrange(1 << 30), undisturbed.seconds, output)
        name = f"{output}, SIGKILL after {kill.seconds:.3f} s and {KILLS} times more"
        yield Case(name, partial(make, shared, output), kill=kill, wrong=look)
