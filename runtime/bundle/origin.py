"""hub.json: where a bundle was pulled from. It lies beside the bundle's files and is none of them."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..storage.written import written_file
from .typed import read_json_object, typed

ORIGIN = "hub.json"


@dataclass(frozen=True)
class Origin:
    """A bundle on the Hub.

    Attributes:
        repository: owner/name.
        revision: the branch, tag or commit that was asked for; None for the default branch.
        commit: the SHA that it was.
        bundle_sha256: of the manifest here, which has only the graphs that were pulled.
    """

    repository: str
    revision: str | None
    commit: str
    bundle_sha256: str

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read it from the folder of a bundle; None where there is none. Raises BundleError for a damaged one."""
        try:
            return typed(read_json_object(folder / ORIGIN), cls, str(folder / ORIGIN))
        except FileNotFoundError:
            return None

    def write(self, folder: Path) -> None:
        with written_file(folder / ORIGIN) as beside:
            beside.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", encoding="utf-8")

    def __str__(self) -> str:
        return f"{self.repository} @ {self.commit}"
