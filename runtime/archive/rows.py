"""What is said of a video as a row: a line of JSON, or the same as columns of Parquet."""

from typing import Any

# `Classification.to_json`, its name in text.
Row = dict[str, Any]


def in_text(name: str) -> str:
    """A name as every reader of JSON and Parquet takes it: bytes that are no UTF-8 are written as \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
