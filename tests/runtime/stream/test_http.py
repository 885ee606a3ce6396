"""Sources at web addresses: a file is a file, a camera a camera, and a playlist what it says of itself."""

import numpy as np
import pytest
from streams import frames_of, numbers, states_of, times_of
from web_server import LivePlaylist, still_pictures, web_server

from tubelet.preprocess.decode import probe
from tubelet.preprocess.errors import VideoError
from tubelet.preprocess.sources import Source
from tubelet.runtime.stream.source import BackOff, SourceState, open_source

AT_ONCE = BackOff(first=0.02, longest=0.02)


def test_a_file_is_a_file(video):
    with web_server(lambda _: (200, "video/mp4", video.read_bytes())) as address:
        found = list(open_source(f"{address}/clip.mp4"))
        asked_live = list(open_source(f"{address}/clip.mp4", live=True, retries=0))
    assert [(state.state, state.live) for state in states_of(found)] == [("connected", False), ("ended", False)]
    assert numbers(found) == list(range(30))
    assert [frame.seconds for frame in frames_of(found)] == [number / 30 for number in range(30)]
    assert [(state.state, state.live) for state in states_of(asked_live)] == [
        ("connected", True),
        ("lost", True),
        ("ended", True),
    ]


def test_what_waiting_does_not_heal_is_an_error_and_the_rest_is_lost():
    with web_server(lambda path: (int(path[1:4]), "text/plain", b"no")) as address:
        address = address.replace("//", "//admin:geheim@")
        for reason in ("401 Unauthorized", "403 Forbidden", "404 Not Found"):
            with pytest.raises(VideoError, match=reason) as caught:
                list(open_source(f"{address}/{reason[:3]}.mp4?token=geheim"))
            assert "geheim" not in str(caught.value)
        found = list(open_source(f"{address}/503.mp4?token=geheim", retries=1, back_off=AT_ONCE))
    assert [state.state for state in found if isinstance(state, SourceState)] == ["lost", "lost", "ended"]


def test_a_camera_of_still_pictures_is_timed_by_their_arrival():
    """They carry no times, and FFmpeg's are made up: 25 a second, however many come."""
    kind = "multipart/x-mixed-replace;boundary=part"
    with web_server(lambda _: (200, kind, still_pictures(12, 0.15))) as address:
        found = list(open_source(f"{address}/camera", retries=0))
    assert states_of(found)[0].live
    frames = frames_of(found)
    assert numbers(found)[-8:] == list(range(12))[-8:]
    assert np.diff(times_of(found)) == pytest.approx(np.diff([frame.arrived for frame in frames]))


def test_a_live_playlist_is_let_out_at_its_own_speed_and_ends_where_it_says():
    with web_server(LivePlaylist().answer) as address:
        found = list(open_source(f"{address}/live.m3u8", back_off=AT_ONCE))
    states = states_of(found)
    assert [state.state for state in states] == ["connected", "lost", "ended"]
    assert all(state.live for state in states)
    assert states[-1].reason is None
    assert numbers(found) == list(range(60))
    frames = frames_of(found)
    assert {frame.segment for frame in frames} == {0}
    # It comes in pieces of ten frames; none of them is let out before its time.
    for frame, seconds in zip(frames, times_of(found), strict=True):
        assert frame.arrived - frames[0].arrived > seconds - times_of(found)[0] - 0.02


def test_a_live_playlist_is_no_file():
    with (
        web_server(LivePlaylist().answer) as address,
        pytest.raises(VideoError, match="is live: it has no end"),
    ):
        probe(Source.of(f"{address}/live.m3u8", allow_url=True))
