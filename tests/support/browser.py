"""A real browser without a window: Chromium, as the system has it, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]

# Every text that is seen, with its contrast to what is behind it (WCAG 2: 4.5 is enough for text of any size).
CONTRASTS = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const over = (below, colour) => {
    canvas.fillStyle = `rgb(${below})`; canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => rgb.map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => over(element.parentElement ? behind(element.parentElement) : [255, 255, 255],
    getComputedStyle(element).backgroundColor);
  return [...document.querySelectorAll("body *")]
    .filter((e) => e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .map((e) => {
      const ground = behind(e), [a, b] = [light(over(ground, getComputedStyle(e).color)), light(ground)];
      return [e.textContent.trim(), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
    });
}"""


@dataclass
class Watched:
    """A page, and what went on in it: where requests went, and what the console said was wrong."""

    page: Any
    requests: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def find_browser() -> str:
    """Its path; the test is skipped where there is none."""
    named = os.environ.get("TUBELET_BROWSER")
    found = [path for name in ([named] if named else NAMES) if (path := shutil.which(name))]
    if not found:
        pytest.skip("no Chromium here: apt-get install chromium, or name a browser in TUBELET_BROWSER")
    return found[0]


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium; the test is skipped where Chromium or Playwright is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = find_browser()
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield launched
        finally:
            launched.close()


@contextmanager
def opened(launched: Any, url: str, **context: Any) -> Iterator[Watched]:
    """A page of its own at `url`, watched from its first request on."""
    surroundings = launched.new_context(**context)
    surroundings.set_default_timeout(30_000)
    page = surroundings.new_page()
    watched = Watched(page)
    page.on("request", lambda request: watched.requests.append(request.url))
    page.on("console", lambda said: watched.wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: watched.wrong.append(str(error)))
    page.goto(url)
    page.wait_for_selector("#about:not(:empty)")
    try:
        yield watched
    finally:
        surroundings.close()
