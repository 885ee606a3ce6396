"""How docstrings, comments and messages read: plain words, short sentences, and none that opens with "Of"."""

import ast
import inspect
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


# Words of a sentence in a docstring, a shape such as (B, T, C, H, W) being one.
LONGEST = 20
SHAPE = re.compile(r"\([A-Z0-9.][^()]*\)")
# An argument's line of a docstring, such as "threads: of the CPU".
NAMED = re.compile(r"\s*[\w`*][\w`*,. ()/-]*:\s")
ENTRY = re.compile(rf"\n(?={NAMED.pattern})")
DRAWN = re.compile(r"Example:|\x08|[├└│]")


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


def sentences(docstring: str) -> Iterator[str]:
    """The sentences of a docstring. What is indented by itself is an example, a table or a tree."""
    for paragraph in re.split(r"\n[ \t]*\n", inspect.cleandoc(docstring)):
        if paragraph.startswith(" ") or DRAWN.search(paragraph):
            continue
        for entry in ENTRY.split(paragraph):
            named = NAMED.match(entry)  # what has parts, and few sentences
            text = " ".join(entry[named.end() if named else 0 :].split())
            yield from re.split(r"(?<=[.!?;])\s+" if named else r"(?<=[.!?])\s+|(?<=[.!?]\))\s+", text)


def too_long(docstring: str) -> list[str]:
    return [sentence for sentence in sentences(docstring) if len(SHAPE.sub("S", sentence).split()) > LONGEST]


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring is not None:
                yield getattr(node, "lineno", 1), docstring


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


@pytest.mark.parametrize("folder", FOLDERS)
def test_sentences_are_short(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {sentence}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, docstring in docstrings(path)
        for sentence in too_long(docstring)
    ]
    assert not found, "\n".join(found)


WORDS = "word " * LONGEST


@pytest.mark.parametrize(
    "text",
    [f"{WORDS}more.", f"Short. {WORDS}more.", f"Reads it.\n\nArgs:\n    path: {WORDS}more.", f"({WORDS}more.) Short."],
)
def test_a_long_sentence_is_seen(text: str) -> None:
    assert len(too_long(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        f"{WORDS.strip()}. Another.",
        f"Gives (B, T, C, H, W): {'word ' * (LONGEST - 2)}",
        f"Such as\n\n    {WORDS}more\n\nAnother.",
    ],
)
def test_a_short_sentence_is_borne(text: str) -> None:
    assert too_long(text) == []


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
