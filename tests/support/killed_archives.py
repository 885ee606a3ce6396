"""Kills what writes the rows of an archive at every step, one after the other, and looks at what is left.

    python tests/support/killed_archives.py BUNDLE FOLDER

BUNDLE is a bundle; FOLDER is an empty folder. A step is what it is in killed.py. The rows are made up, so that the
process has no threads when it is forked. Prints how many kills of each were survived.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
from killed import killed_at

from tubelet.runtime.archive.loading import Loading
from tubelet.runtime.archive.rows import Row
from tubelet.runtime.archive.run import classify_files

NAMES = [f"video {number}.mp4" for number in range(5)]


def rows(names: list[str]) -> Iterator[Row]:
    for name in names:
        number = NAMES.index(name)
        yield {
            "video": name,
            "predictions": [{"label": "grows", "score": number / 8}],
            "frames": [number, number + 1],
            "seconds": [0.5, None],
        }


def read(path: Path) -> list[Row]:
    if path.suffix == ".parquet":
        found: list[Row] = pq.read_table(path).to_pylist()
        return [{name: value for name, value in row.items() if value is not None} for row in found]
    return [json.loads(line) for line in path.read_text().splitlines()]


def main() -> None:
    vars(os)["fsync"] = lambda _: None  # which is for the loss of power, and takes most of the time
    bundle, folder = map(Path, sys.argv[1:])
    for name, known in (("rows.jsonl", 0), ("rows.parquet", 0), ("rows.parquet", 2)):
        path = folder / name

        def write(path: Path, count: int = len(NAMES)) -> None:
            classify_files(Loading(bundle), NAMES[:count], path, resume=True, classify=rows)

        step = 0
        while True:
            step += 1
            shutil.rmtree(folder)
            folder.mkdir()
            if known:  # a whole file that more is added to
                write(path, known)
            if not killed_at(step, write, path):
                break
            write(path)
            if read(path) != list(rows(NAMES)):
                raise SystemExit(f"killed at step {step}, {name} has {read(path)}")
            left = sorted({entry.name for entry in folder.iterdir()} - {name, f"_{name}.run.json"})
            if left:
                raise SystemExit(f"killed at step {step}, it leaves {', '.join(left)}")
        print(name, step - 1, flush=True)


if __name__ == "__main__":
    main()
