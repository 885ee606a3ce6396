"""How docstrings, comments and messages read: plain words, and no sentence that opens with "Of"."""

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("preprocess", "runtime", "exporter", "bench", "serve", "tubelet", "scripts", "examples")
STILTED = re.compile(r"\b(heeded|(is|are|was|were) told|left away|(what|who|which) is none)\b", re.IGNORECASE)
# A sentence opens at the start of a text, behind a full stop, a colon or semicolon, or on a line behind a blank one.
OPENS_WITH_OF = re.compile(r"(?:\A|[.:;!?]\s+|\n\s*\n\s*)Of\b")


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Each string of a file, docstrings and messages alike, and each run of comments, with its line."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    first, comments = 0, [""]
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                first = first or token.start[0]
                comments.append(token.string.lstrip("#: "))
            elif token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT) and first:
                yield first, "\n".join(comments).strip()
                first, comments = 0, [""]


def faults(text: str) -> list[str]:
    return [found.group().strip() for pattern in (STILTED, OPENS_WITH_OF) for found in pattern.finditer(text)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_words_are_plain(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    found = [
        f"{path.relative_to(ROOT)}:{line}: {fault}"
        for path in files
        for line, text in texts(path)
        for fault in faults(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "Of the CPU, for one batch.",
        "Reads it. Of several tracks the best.",
        "Reads it.\n\n    Of several tracks the best.",
        "threads: Of each subject",
        "The size is heeded.",
        "say: told; it is told what should stay",
        "a default that is left away",
        "VideoError for what is none",
    ],
)
def test_the_check_sees_what_it_is_for(text: str) -> None:
    assert faults(text)


@pytest.mark.parametrize(
    "text", ["One of them. None of it.", "The mean of those left.", "Officially", "A file of frames"]
)
def test_the_check_bears_plain_words(text: str) -> None:
    assert not faults(text)
