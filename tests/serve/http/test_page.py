"""The page in a real browser: videos of every kind, by mouse, keyboard and camera, in both themes."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CONTRASTS, Watched, browser, opened
from served import Client, served
from videos import make_video

from tubelet.runtime.load import load
from tubelet.serve.http.limits import Limits

PART = "#parts button:not(.waits)"


@pytest.fixture(scope="module")
def client(explained_bundle: Path, vivit_bundle: Path) -> Iterator[Client]:
    models = {"explained": load(explained_bundle), "vivit": load(vivit_bundle)}
    with served(models, Limits(max_mb=8, timeout_s=30)) as client:
        yield client


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as launched:
        yield launched


@pytest.fixture
def watched(chromium: Any, client: Client) -> Iterator[Watched]:
    """A page on which nothing may go wrong, and from which nothing may go elsewhere."""
    with opened(chromium, client.url) as watched:
        yield watched
        assert watched.wrong == []
        for url in watched.requests:
            assert url.startswith((f"{client.url}/", f"blob:{client.url}/", "data:")), url


@pytest.fixture(scope="module")
def playable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("page") / "numbers & <b>more.mp4", frames=100)


def take(page: Any, video: Path) -> None:
    """Choose a video, and wait until all is known of it."""
    page.set_input_files("#file", str(video))
    page.wait_for_selector("#times dd")


def test_a_video_and_its_line_of_labels(watched: Watched, client: Client, playable: Path) -> None:
    page = watched.page
    take(page, playable)
    found = client.post("/v1/timeline?model=explained", playable.read_bytes()).body.decode().splitlines()
    assert page.locator(PART).count() == len(found) - 2 > 1
    assert page.locator("#parts .waits").count() == 0
    assert page.inner_text("#status").startswith("numbers & <b>more.mp4: activity ")  # text, not markup
    assert page.evaluate("document.getElementById('video').duration") == pytest.approx(100 / 30, abs=0.05)
    assert page.evaluate("document.getElementById('seen').naturalWidth") > 0
    assert page.locator("#labels li").count() == 5
    assert not page.locator("#unplayable").is_visible()

    page.locator(PART).nth(1).click()
    begins = page.evaluate("document.getElementById('video').currentTime")
    assert begins > 0.3
    assert page.locator(PART).nth(1).get_attribute("aria-current") == "true"
    page.wait_for_selector("#head", state="visible")
    box, part = page.locator("#head").bounding_box(), page.locator(PART).nth(1).bounding_box()
    assert part["x"] - 6 <= box["x"] <= part["x"] + part["width"]


def test_where_the_model_looked_is_shown_where_it_is_known(watched: Watched, playable: Path) -> None:
    page = watched.page
    take(page, playable)
    before = page.get_attribute("#seen", "src")
    page.click("#look")
    page.wait_for_selector("#look[aria-pressed=true]")
    assert page.get_attribute("#seen", "src") != before
    assert "where the model looked" in page.get_attribute("#seen", "alt")
    page.click("#look")
    assert page.get_attribute("#seen", "src") == before
    page.select_option("#model", "vivit")  # which was exported without
    page.wait_for_selector("#times dd")
    assert not page.locator("#look").is_visible()


def test_by_keyboard_alone(watched: Watched, playable: Path) -> None:
    page = watched.page
    page.on("filechooser", lambda _: None)  # from now on it is caught, and not first when one is waited for
    page.keyboard.press("Tab")  # the model
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(str(playable))
    page.wait_for_selector("#times dd")
    while page.evaluate("document.activeElement.closest('#parts')") is None:
        page.keyboard.press("Tab")
    label = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(label).startswith("0:00.0 to ")
    first = page.evaluate(label)
    page.keyboard.press("ArrowRight")
    assert page.evaluate(label) != first
    assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "true"
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.closest('li').nextElementSibling") is None
    page.keyboard.press("Home")
    assert page.evaluate(label) == first
    page.keyboard.press("Tab")  # one stop for the whole line
    assert page.evaluate("document.activeElement.closest('#parts')") is None


def test_what_a_screen_reader_finds(watched: Watched, playable: Path) -> None:
    page = watched.page
    take(page, playable)
    tree = page.locator("body").aria_snapshot()
    for expected in (
        'heading "tubelet" [level=1]',
        'combobox "Model"',
        'button "Choose a video"',
        'region "What happens"',
        'list "Labels over time"',
        'img "The frames that the model saw of part 1"',
        'region "Time taken"',
        'button "Show where it looked"',
    ):
        assert expected in tree, tree
    unnamed = "[...document.querySelectorAll('button, input, select, img')].filter((e) => e.checkVisibility() && "
    unnamed += "!(e.textContent.trim() || e.alt || e.labels?.length)).map((e) => e.outerHTML)"
    assert page.evaluate(unnamed) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1100])
def test_every_theme_and_width_can_be_read(
    scheme: str, width: int, chromium: Any, client: Client, playable: Path
) -> None:
    with opened(chromium, client.url, color_scheme=scheme, viewport={"width": width, "height": 800}) as watched:
        page = watched.page
        take(page, playable)
        page.click("#look")
        page.wait_for_selector("#look[aria-pressed=true]")
        found = page.evaluate(CONTRASTS)
        assert len(found) > 20
        assert [text for text, contrast in found if contrast < 4.5] == []
        page.set_input_files("#file", {"name": "broken.mp4", "mimeType": "video/mp4", "buffer": b"no video"})
        page.wait_for_selector("#error", state="visible")
        assert [text for text, contrast in page.evaluate(CONTRASTS) if contrast < 4.5] == []
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width  # nothing is cut off or must be pushed


def test_a_broken_video(chromium: Any, client: Client, playable: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(playable.read_bytes()[:2000])
    with opened(chromium, client.url) as watched:
        page = watched.page
        page.set_input_files("#file", str(broken))
        page.wait_for_selector("#error", state="visible")
        assert "the video" in page.inner_text("#error")
        assert page.inner_text("#status") == ""
        assert not page.locator("#details").is_visible()
        assert all("422" in said for said in watched.wrong)  # which the browser itself notes
        take(page, playable)  # and the next one is well
        assert not page.locator("#error").is_visible()


def test_a_video_that_is_too_large(watched: Watched, chromium: Any, client: Client, tmp_path: Path) -> None:
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(9 << 20))
    page = watched.page
    page.set_input_files("#file", str(large))
    page.wait_for_selector("#error", state="visible")
    assert page.inner_text("#error") == "large.mp4 has 9 MB, and this server takes 8 MB."
    assert not any("/v1/timeline" in url for url in watched.requests)
    with opened(chromium, client.url) as other:  # a page that does not know the limit
        other.page.route(
            "**/v1/models", lambda route: route.fulfill(json=client.get("/v1/models").json | {"max_mb": 99})
        )
        other.page.reload()
        other.page.wait_for_selector("#limits:has-text('99 MB')")
        other.page.set_input_files("#file", str(large))
        other.page.wait_for_selector("#error", state="visible")
        said = other.page.inner_text("#error")
        assert "the body is larger than the 8 MB that this server takes" in said or "refused the video" in said


def test_a_large_video_that_the_browser_cannot_play(watched: Watched, tmp_path: Path) -> None:
    large = make_video(tmp_path / "large.mkv", frames=250, size=(640, 480), codec="ffv1")
    assert 4 << 20 < large.stat().st_size < 8 << 20
    take(watched.page, large)
    watched.page.wait_for_selector("#unplayable", state="visible")
    assert watched.page.locator(PART).count() > 5
    assert watched.page.evaluate("document.getElementById('seen').naturalWidth") > 0


def test_a_video_that_is_dropped(watched: Watched, playable: Path) -> None:
    page = watched.page
    content = base64.b64encode(playable.read_bytes()).decode()
    transfer = page.evaluate_handle(
        """(content) => {
          const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], "dropped.mp4", { type: "video/mp4" }));
          return transfer;
        }""",
        content,
    )
    page.dispatch_event("body", "dragover", {"dataTransfer": transfer})
    assert page.evaluate("document.getElementById('drop').classList.contains('over')")
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    page.wait_for_selector("#times dd")
    assert page.inner_text("#status").startswith("dropped.mp4: ")


def test_the_camera(watched: Watched) -> None:
    """The fake camera of Chromium, which turns a disc."""
    page = watched.page
    page.click("#camera")
    page.wait_for_selector(PART)
    assert page.inner_text("#camera") == "Stop the camera"
    assert page.evaluate("document.getElementById('seen').naturalWidth") > 0
    page.click("#camera")
    page.wait_for_selector("#status:has-text('The camera is off.')")
    assert page.evaluate("document.getElementById('video').srcObject") is None
    assert page.inner_text("#camera") == "Use the camera"


def test_a_server_that_has_gone(chromium: Any, vivit_bundle: Path, playable: Path) -> None:
    with served({"vivit": load(vivit_bundle)}) as gone:
        context = opened(chromium, gone.url)
        watched = context.__enter__()
        assert not watched.page.locator("#choose-model").is_visible()  # there is one alone
    watched.page.set_input_files("#file", str(playable))
    watched.page.wait_for_selector("#error", state="visible")
    assert watched.page.inner_text("#error").startswith("The server cannot be reached")
    context.__exit__(None, None, None)
