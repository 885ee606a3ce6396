"""Timelines: what is recorded of a video, and what pages, pictures, subtitles and tables show of it."""

import base64
import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_checker import CHROMIUM, Checker, shown_by_a_browser
from PIL import Image
from videos import decode_whole, index_of, make_video
from windows import scoring_of, window

from tubelet.preprocess.errors import MissingExtra, OutOfBounds, TubeletError
from tubelet.preprocess.sources import Source
from tubelet.runtime.load import load
from tubelet.runtime.stream.answers import Event, Scoring, Window
from tubelet.runtime.stream.events import EventRule, find_events
from tubelet.runtime.stream.grid import Grid
from tubelet.serve.timeline import picture as picture_module
from tubelet.serve.timeline import record as record_module
from tubelet.serve.timeline.page import page, row_spans
from tubelet.serve.timeline.picture import SERIES, check_pillow, picture
from tubelet.serve.timeline.record import Answers, Steps, Timeline, _Recorder, record
from tubelet.serve.timeline.tables import to_csv, to_json, to_vtt
from tubelet.serve.timeline.thumbnails import boxed, frames_at, jpeg
from tubelet.serve.timeline.times import clock, spoken, ticks
from tubelet.serve.timeline.write import best_events, check_target, link_to, write_timeline

EVERY = 0.5
NASTY = 'a "b" <i>&\' --> </script>\n$rows'  # as a label: what HTML, WebVTT, CSV and templates take for their own
LABELS = ("waves", NASTY, "nothing", *(f"label {number}" for number in range(9)))
RULE = EventRule(on=0.01, off=0.005)  # labels of a model with random weights are about as likely as one another


def event(label: str, begin: float, end: float, score: float = 0.9) -> Event:
    return Event("door", 0, 0, label, begin, end, score, open=False)


def timeline_of(seconds: float, events: Sequence[Event], *, windows_in_step: int = 1) -> Timeline:
    """A timeline whose labels score 0.9 during their events and 0.1 outside."""
    middles = np.arange(1.0, max(seconds - 1, 1.1), max(EVERY, seconds / 4000))
    scores = np.full((len(middles), len(LABELS)), 0.1, np.float32)
    for one in events:
        scores[(middles >= one.begin) & (middles <= one.end), LABELS.index(one.label)] = one.score
    order = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    return Timeline(
        name="some/folder/door & yard.mp4",
        model="owner/<model>",
        seconds=seconds,
        grid=Grid(16, 0.13, EVERY),
        rule=EventRule(),
        labels=LABELS,
        steps=Steps(middles, scores, np.ones(len(middles), np.bool_), windows_in_step),
        answers=Answers(
            np.stack([middles - 1, middles + 1], axis=1),
            order.astype(np.int32),
            np.take_along_axis(scores, order, axis=1),
        ),
        events=tuple(events),
    )


EVENTS = [event("waves", 2, 6.5), event(NASTY, 5, 9.25, 0.8), event("waves", 12, 12)]
PICTURE = np.full((60, 80, 3), 128, np.uint8)


# --- What is recorded ---


def test_a_video_is_recorded_as_it_is_watched(videomae_bundle: Path, tmp_path: Path) -> None:
    video = make_video(tmp_path / "long.mp4", frames=90)
    said: list[str] = []
    with load(videomae_bundle) as model:
        found = record(model, Source.of(video), every=0.2, rule=RULE, say=said.append)
        windows = list(model.watch(video, every=0.2))
        events = [one for one in find_events(windows, RULE) if not one.open]
    assert found.events == tuple(sorted(events, key=lambda one: (one.begin, one.end)))
    assert found.events
    assert len(windows) > 3
    np.testing.assert_array_equal(found.answers.seconds, [one.seconds for one in windows])
    np.testing.assert_array_equal(found.steps.scores, [one.scores for one in windows])
    np.testing.assert_array_equal(found.steps.seconds, [one.middle for one in windows])
    best = [[found.labels[number] for number in numbers] for numbers in found.answers.labels]
    assert best == [[prediction.label for prediction in one.predictions] for one in windows]
    assert found.seconds == pytest.approx(3)
    assert re.fullmatch(r"\d+%, 0:0\d of 0:03, \d.* left, \d+x speed", said[0])
    assert said[-1].startswith(("97%", "98%", "99%", "100%"))


def test_a_time_that_jumps_back_stands_behind_what_came_before(videomae_bundle: Path, tmp_path: Path) -> None:
    once = make_video(tmp_path / "once.ts", frames=60)
    twice = tmp_path / "twice.ts"
    twice.write_bytes(once.read_bytes() * 2)
    with load(videomae_bundle) as model:
        found = record(model, Source.of(twice), every=0.2, rule=RULE)
        alone = record(model, Source.of(once), every=0.2, rule=RULE)
    half = len(alone.steps.seconds)
    assert len(found.steps.seconds) == 2 * half
    assert np.all(np.diff(found.steps.seconds) > 0)
    np.testing.assert_array_equal(found.steps.scores[:half], found.steps.scores[half:])
    assert found.seconds > 1.7 * alone.seconds
    # Nobody can say which frame is meant by a time that comes twice: there are no pictures.
    assert frames_at(Source.of(twice), [0.5], rotate=True, on_error="raise") is None
    write_timeline(found, Source.of(twice), tmp_path / "a.html", rotate=True, on_error="raise", force=False)
    assert "<img" not in (tmp_path / "a.html").read_text()


def test_a_window_is_due_where_it_stands() -> None:
    """Behind what came before the times of a file jumped back, by which the length of events is counted."""
    recorder = _Recorder(1)
    scoring = Scoring(("a", "b"), "scores", "single_label_classification")
    due = []
    for segment in (0, 1):
        for number in range(3):
            seconds = np.array([number, number + 1.0])
            logits = np.zeros((1, 2), np.float32)
            window = Window("it", 0, segment, seconds, logits, scoring, scoring.answer(logits, 1), float(number + 1))
            due.append(recorder.placed(window).due)
    assert due == sorted(set(due))


def test_a_regression_and_a_label_that_is_none_are_refused(videomae_bundle: Path, video: Path) -> None:
    with load(videomae_bundle) as model, pytest.raises(OutOfBounds, match="no label 'juggling'"):
        record(model, Source.of(video), rule=EventRule(labels=("juggling",)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30)), min_size=1, max_size=200))
def test_steps_keep_the_highest_and_lie_over_no_gap(drawn: list[tuple[float, int]]) -> None:
    """However many windows there are, in few steps: nothing that was high is lost, and gaps stay gaps."""
    scoring = scoring_of(["waves", "runs"])
    before = record_module.MOST_STEPS
    record_module.MOST_STEPS = 16
    try:
        recorder = record_module._Recorder(2)
        middle, windows = 0.0, []
        for place, (score, gap) in enumerate(drawn):
            follows = place > 0 and gap < 29
            middle += 0.5 if follows else 40.0
            windows.append(window(middle, [score, 1 - score], scoring, follows=follows))
            recorder.add(recorder.placed(windows[-1]))
    finally:
        record_module.MOST_STEPS = before
    steps = recorder.steps(2)
    gaps = sum(not one.follows for one in windows)
    assert len(steps.seconds) <= max(16, 2 * gaps + 16)
    assert np.all(np.diff(steps.seconds) > 0)
    np.testing.assert_array_equal(steps.scores.max(axis=0), np.max([one.scores for one in windows], axis=0))
    assert (~steps.follows).sum() == gaps
    starts = steps.seconds[~steps.follows]
    first_middles = np.array([one.middle for one in windows if not one.follows])
    assert np.all((starts >= first_middles - 1e-6) & (starts < first_middles + 0.5 * steps.windows))
    answers = recorder.answers(2)
    assert len(answers.seconds) == len(windows)


# --- The page ---


def test_the_page_is_well_formed_and_fetches_nothing() -> None:
    text = page(timeline_of(15, EVENTS), [jpeg(PICTURE), None, jpeg(PICTURE)], link="door%20yard.mp4")
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    assert checker.fetched == []
    assert not {"link", "iframe", "video", "object"} & set(checker.seen)
    assert "url(" not in text
    assert "http" not in text
    assert "nan" not in text.replace("nanmean", "")
    assert "prefers-color-scheme: dark" in text
    assert "owner/&lt;model&gt;" in text
    assert checker.seen.count("script") == 2  # labels end none of them
    assert "<i>&" not in text
    assert text.count("<li id=") == 3
    assert 'href="door%20yard.mp4#t=2.0"' in text
    assert 'href="#event-3"' in text


def test_what_the_page_says_of_each_event() -> None:
    text = page(timeline_of(15, EVENTS), [None] * 3)
    assert 'aria-label="waves, 0:02.0 to 0:06.5, 90%"' in text
    assert 'title="waves, 0:12.0 to 0:12.0, 90%"' in text
    assert "15 seconds, 3 events of 2 labels" in text
    bars = re.findall(r'style="left:([\d.]+)%;width:([\d.]+)%;background:var\(--series-(\d)\)', text)
    found = np.array([(left, width) for left, width, _ in bars], np.float64)
    np.testing.assert_allclose(found, [(200 / 15, 450 / 15), (80, 0), (500 / 15, 425 / 15)], atol=1e-3)
    assert [series for _, _, series in bars] == ["1", "1", "2"]


@pytest.mark.parametrize("seconds", [0.5, 15, 500, 3600, 100_000])
def test_any_length_fits_on_a_page(seconds: float) -> None:
    spans = row_spans(seconds)
    assert 1 <= len(spans) <= 8
    assert spans[0][0] == 0
    assert spans[-1][1] >= seconds
    assert all(last - first == pytest.approx(spans[0][1]) for first, last in spans)
    whole = timeline_of(seconds, [event("waves", 0, seconds)])
    text = page(whole, [None])
    assert text.count('<section class="row"') == len(spans)
    assert text.count('href="#event-1"') == len(spans)  # it goes on in each
    places = [float(number) for number in re.findall(r"left:([\d.]+)%", text)]
    assert max(places) <= 100


def test_no_events_are_said() -> None:
    text = page(timeline_of(15, []), [])
    assert "None: one begins at a score of 60% and lasts 1 s or more. The highest score is 10%." in text
    assert "0 events" in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_shows_the_page_and_arrow_keys_read_it(tmp_path: Path) -> None:
    text = page(timeline_of(15, EVENTS), [jpeg(PICTURE), None, jpeg(PICTURE)])
    keys = """<script>{
const plot = document.querySelector(".plot");
const press = (key) => plot.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const said = [];
for (const key of ["Home", "ArrowRight", "ArrowRight", "End", "PageDown", "a"]) {
  press(key);
  said.push(plot.getAttribute("aria-valuetext"));
}
document.body.dataset.said = encodeURIComponent(JSON.stringify(said));
document.body.dataset.width = document.querySelector("img").naturalWidth;
document.body.dataset.wide = document.documentElement.scrollWidth > innerWidth;
}</script>"""
    (tmp_path / "a.html").write_text(text.replace("</body>", f"{keys}</body>"), encoding="utf-8")
    dom = shown_by_a_browser((tmp_path / "a.html"), tmp_path / "profile")
    assert 'role="slider"' in dom
    assert 'tabindex="0"' in dom
    body = re.search(r"<body [^>]*>", dom)
    assert body is not None
    assert 'data-width="80"' in body[0]
    assert 'data-wide="false"' in body[0]
    said = json.loads(unquote(re.findall(r'data-said="([^"]*)"', body[0])[0]))
    times = [one.split(": ")[0] for one in said]
    assert times == ["0:01.0", "0:01.5", "0:02.0", "0:13.5", "0:08.5", "0:08.5"]
    assert said[2].startswith("0:02.0: waves 90%")
    assert NASTY in said[4]


# --- The picture ---


def test_the_picture_shows_bars_where_events_are() -> None:
    png = Image.open(io.BytesIO(picture(timeline_of(15, EVENTS), {0: PICTURE, 2: PICTURE})))
    pixels = np.asarray(png.convert("RGB"))
    assert pixels.shape[1] == 1200
    width = 1200 - 2 * picture_module.MARGIN
    in_first = (pixels == SERIES[0]).all(axis=-1)
    # The bars of the first label, below its lines: that of the first event is the wider one.
    lane = in_first[picture_module.MARGIN + 96 + picture_module.PLOT + 4]
    bar = np.flatnonzero(lane)
    bar = bar[bar < picture_module.MARGIN + width * 0.7]
    assert bar[0] == pytest.approx(picture_module.MARGIN + width * 2 / 15, abs=4)
    assert bar[-1] == pytest.approx(picture_module.MARGIN + width * 6.5 / 15, abs=4)
    assert (pixels == 128).all(axis=-1).sum() > 2 * 100 * 100  # the two pictures
    Image.open(io.BytesIO(picture(timeline_of(3600, []), {}))).load()


def test_a_video_of_one_frame_is_drawn_within_its_plot() -> None:
    one = timeline_of(3, [])
    only = Steps(np.zeros(1), one.steps.scores[:1], np.ones(1, np.bool_), 1)
    drawn = Image.open(io.BytesIO(picture(replace(one, seconds=0.0, steps=only), {})))
    pixels = np.asarray(drawn.convert("RGB")).astype(int)
    coloured = (pixels.max(axis=-1) - pixels.min(axis=-1) > 60).any(axis=0)
    assert coloured.any()
    assert np.flatnonzero(coloured)[0] >= picture_module.MARGIN - 2  # half of the line's width


def test_a_picture_needs_pillow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtra, match=r"tubelet\[picture\]"):
        check_pillow()
    with pytest.raises(MissingExtra):
        check_target(tmp_path / "a.png", force=False)


def test_thumbnails_show_the_frame_of_their_time(tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mp4", frames=60)
    found = frames_at(Source.of(video), [1.5, 0.0, 0.51, 99.0], rotate=True, on_error="raise")
    assert found is not None
    assert [index_of(frame) for frame in found] == [45, 0, 15, 59]
    assert found.shape[1:] == (144, 216, 3)
    with av.open(io.BytesIO(jpeg(found[0])), "r") as container:
        decoded = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(decoded.astype(int) - found[0]).mean() < 6


def test_thumbnails_of_another_shape_are_boxed(tmp_path: Path) -> None:
    tall = boxed(np.ones((2, 8, 4, 3), np.uint8), 6, 6)
    assert tall.shape == (2, 6, 6, 3)
    np.testing.assert_array_equal(tall[0, :, :, 0], np.repeat([[0, 1, 1, 1, 1, 0]], 6, axis=0))
    upright = make_video(tmp_path / "upright.mp4", rotation=90)
    found = frames_at(Source.of(upright), [0.5], rotate=True, on_error="raise")
    assert found is not None
    assert found.shape[1:] == (144, 216, 3)
    assert decode_whole(upright).shape[1:] == (64, 96, 3)


# --- Text ---


def test_subtitles_as_a_player_reads_them(tmp_path: Path) -> None:
    (tmp_path / "a.vtt").write_text(
        to_vtt(timeline_of(4000, [*EVENTS, event("waves", 3700, 3710.5)])), encoding="utf-8"
    )
    with av.open(str(tmp_path / "a.vtt"), "r") as container:
        (stream,) = container.streams.subtitles
        cues = [
            ((packet.pts or 0) / 1000, (packet.duration or 0) / 1000, bytes(packet).decode())
            for packet in container.demux(stream)
            if packet.size
        ]
    assert [(begin, duration) for begin, duration, _ in cues] == [(2, 4.5), (5, 4.25), (12, 0.5), (3700, 10.5)]
    assert [text for _, _, text in cues] == [
        "waves 90%",
        'a "b" &lt;i&gt;&amp;\' -&gt; &lt;/script&gt; $rows 80%',
        "waves 90%",
        "waves 90%",
    ]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_subtitles_in_a_browser(tmp_path: Path) -> None:
    data = base64.b64encode(to_vtt(timeline_of(15, EVENTS)).encode()).decode()
    (tmp_path / "a.html").write_text(
        f"""<video><track kind="subtitles" default src="data:text/vtt;base64,{data}"></video><script>
const track = document.querySelector("track");
track.track.mode = "showing";
track.addEventListener("load", () => {{
  const cues = [...track.track.cues];
  document.body.dataset.cues = encodeURIComponent(JSON.stringify(
    cues.map((cue) => [cue.startTime, cue.endTime, cue.getCueAsHTML().textContent])));
}});
</script>""",
        encoding="utf-8",
    )
    dom = shown_by_a_browser(tmp_path / "a.html", tmp_path / "profile")
    found = re.search(r'data-cues="([^"]*)"', dom)
    assert found is not None, dom
    cues = json.loads(unquote(found[1]))
    assert cues == [
        [2, 6.5, "waves 90%"],
        [5, 9.25, 'a "b" <i>&\' -> </script> $rows 80%'],
        [12, 12.5, "waves 90%"],
    ]


def test_rows_of_events() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(timeline_of(15, EVENTS)))))
    assert [(float(row["begin"]), float(row["end"]), row["label"], float(row["score"])) for row in rows] == [
        (one.begin, one.end, one.label, one.score) for one in EVENTS
    ]


def test_json_has_all_of_it() -> None:
    found = json.loads(to_json(timeline_of(15, EVENTS)))
    assert [one["label"] for one in found["events"]] == [one.label for one in EVENTS]
    assert len(found["windows"]) == 26
    assert found["windows"][4]["seconds"] == [2.0, 4.0]
    assert found["windows"][4]["predictions"][0] == {"label": "waves", "score": 0.9}
    assert (found["video"], found["seconds"], found["every"]) == ("some/folder/door & yard.mp4", 15, 0.5)


def test_times_as_people_write_them() -> None:
    assert [clock(at) for at in (0, 59.6, 3599.4, 3600)] == ["0:00", "1:00", "59:59", "1:00:00"]
    assert [clock(at, tenths=True) for at in (-1, 59.96, 62.44)] == ["0:00.0", "1:00.0", "1:02.4"]
    assert [spoken(at) for at in (3.52, 61, 3600, 7384)] == [
        "3.5 seconds",
        "1 minute 1 second",
        "1 hour",
        "2 hours 3 minutes",
    ]
    assert ticks(0, 120, 10) == list(range(0, 121, 15))
    assert ticks(3, 5.2, 10) == [3, 3.5, 4, 4.5, 5]
    assert all(len(ticks(0, seconds, 10)) <= 11 for seconds in (0.1, 1, 7, 100, 3600, 86_400))


# --- Files ---


def test_pictures_go_to_the_best_of_each_label_first() -> None:
    events = [event("waves", at, at + 1, 0.9 + at / 1000) for at in range(5)]
    events += [event("nothing", 10 + at, 11 + at, 0.7) for at in range(2)]
    found = timeline_of(20, events)
    assert best_events(found, 3) == [3, 4, 5]
    assert best_events(found, 99) == list(range(7))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.mp4", "must end in .html, .png"),
        ("there.html", "exists"),
        ("none/a.html", "does not exist"),
        ("f.csv", "folder"),
    ],
)
def test_files_that_cannot_be_written(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "there.html").touch()
    (tmp_path / "f.csv").mkdir()
    with pytest.raises(TubeletError, match=message):
        check_target(tmp_path / name, force=False)
    if name == "there.html":
        check_target(tmp_path / name, force=True)


def test_the_link_to_the_video(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    video = make_video(tmp_path / "clips" / "a b#1.mp4", frames=2)
    assert link_to(Source.of(video), tmp_path / "a.html") == "clips/a%20b%231.mp4"
    assert link_to(Source.of(video.read_bytes()), tmp_path / "a.html") is None
