"""Pages that stand alone: whether a browser would have to mend them, what it would fetch, and what it shows."""

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Checker(HTMLParser):
    """Sees that every tag is closed by its own, and takes down what a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.fetched += [
            f"{tag} {name}"
            for name, value in attrs
            if name in ("src", "href", "xlink:href") and tag != "a" and not str(value).startswith("data:")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()


def shown_by_a_browser(file: Path, profile: Path) -> str:
    """The document as Chromium has it, once its scripts have run."""
    flags = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
    flags += [
        "disable-component-update",
        "disable-sync",
        f"user-data-dir={profile}",
        "virtual-time-budget=5000",
        "dump-dom",
    ]
    command = [str(CHROMIUM), *(f"--{flag}" for flag in flags), file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
