"""The Dockerfiles of docs/container.md, and their steps run without a container."""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "container.md"


@dataclass(frozen=True)
class Recipe:
    """A Dockerfile: its instructions in order, each with what it says."""

    steps: tuple[tuple[str, str], ...]

    def all(self, instruction: str) -> list[str]:
        return [said for name, said in self.steps if name == instruction]

    def one(self, instruction: str) -> str:
        (said,) = self.all(instruction)
        return said

    @property
    def environment(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for said in self.all("ENV") for pair in shlex.split(said))

    @property
    def health_check(self) -> list[str]:
        words: list[str] = json.loads(self.one("HEALTHCHECK").partition(" CMD ")[2])
        return words

    @property
    def command(self) -> list[str]:
        """What runs: the entry point and what follows it."""
        words: list[str] = [*json.loads(self.one("ENTRYPOINT")), *json.loads(self.one("CMD"))]
        return words


def recipes() -> dict[str, Recipe]:
    """Every recipe of the page by its name."""
    found = re.findall(r"<!-- recipe: (\w+) -->\n```dockerfile\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return {name: _parsed(text) for name, text in found}


def _parsed(text: str) -> Recipe:
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return Recipe(tuple((name, said.strip()) for name, _, said in (line.partition(" ") for line in lines)))
