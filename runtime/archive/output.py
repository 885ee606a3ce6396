"""Where the rows of an archive go: FILE.jsonl as they come, FILE.parquet when all are there.

Beside FILE lies `_FILE.run.json`, which says how its rows are made. While a FILE.parquet is not whole,
`_FILE.rows.jsonl` has its rows so far. What reads a folder of Parquet passes over names that begin with `_`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...preprocess.errors import NotWritten
from ..bundle.bundle import Bundle
from ..progress import Progress, silent
from ..reading import Reading
from ..storage.written import naming, written_file
from .journal import mended, read_rows
from .parquet import names_in, pyarrow, schema_of, write_parquet

SUFFIXES = (".jsonl", ".parquet")

Run = dict[str, Any]


@dataclass(frozen=True)
class Output:
    """A file of rows, and what lies beside it.

    Attributes:
        path: FILE.jsonl or FILE.parquet.

    Raises:
        NotWritten: for another name.
        MissingExtra: for Parquet where pyarrow is not installed.
    """

    path: Path

    def __post_init__(self) -> None:
        if self.path.suffix not in SUFFIXES or ":/" in str(self.path) or self.path.is_dir():
            raise NotWritten(
                f"rows are written to FILE{' or FILE'.join(SUFFIXES)} on this machine, got {self.path}",
                fix="choose such a file with -o, and upload it when it is whole",
            )
        if self.is_parquet:
            pyarrow()

    @property
    def is_parquet(self) -> bool:
        return self.path.suffix == ".parquet"

    @property
    def journal(self) -> Path:
        """The rows so far, a line each."""
        return self.path.with_name(f"_{self.path.name}.rows.jsonl") if self.is_parquet else self.path

    @property
    def record(self) -> Path:
        """How the rows are made."""
        return self.path.with_name(f"_{self.path.name}.run.json")

    def done(self, run: Run, *, resume: bool) -> set[str]:
        """Say which videos have a row already.

        Raises:
            NotWritten: where there are rows and `resume` does not say that they stay, or they are of another run.
        """
        rows = [path for path in {self.path, self.journal} if path.exists()]
        if rows and not resume:
            raise NotWritten(
                f"{rows[0]} exists", fix="go on with it by --resume, or choose another file with -o, or remove it"
            )
        if rows:
            self._require_same(run)
        there = names_in(self.path) if self.is_parquet else set()
        return there | mended(self.journal)

    def _require_same(self, run: Run) -> None:
        try:
            before = json.loads(self.record.read_bytes())
            differing = [name for name in run if before.get(name) != run[name]]
        except (OSError, ValueError, AttributeError) as error:
            raise NotWritten(
                f"{self.path} is not gone on with: {self.record.name} beside it, which says how its rows are made, "
                f"cannot be read ({error})",
                fix="put it back, or choose another file with -o",
            ) from error
        if differing:
            name = differing[0]
            raise NotWritten(
                f"{self.path} is not gone on with: its rows were made with {name} {before.get(name)}, now it is "
                f"{run[name]}",
                fix="give what they were made with, or choose another file with -o",
            )

    def write_record(self, run: Run, *, say: Progress = silent) -> None:
        """Write down how the rows are made."""
        with written_file(self.record, say=say) as beside:
            beside.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")

    def finish(self, bundle: Bundle, reading: Reading, *, say: Progress = silent) -> None:
        """Make FILE.parquet of the rows; a FILE.jsonl is whole as it is."""
        if not self.is_parquet:
            return
        if not self.path.exists() or self.journal.stat().st_size:
            schema = schema_of(reading, "value" if bundle.problem_type == "regression" else "score")
            write_parquet(self.path, read_rows(self.journal), schema, say=say)
        with naming(self.journal):
            self.journal.unlink(missing_ok=True)
