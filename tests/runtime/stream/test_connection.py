"""Streams over the network, here the loopback address: what comes, what is lost, and what comes back."""

import socket
import threading
import time
from itertools import chain, pairwise, repeat
from typing import Any, cast

import av
import numpy as np
import pytest
from streams import (
    DATAGRAM,
    TcpServer,
    UdpSender,
    frames_of,
    free_port,
    numbers,
    silent_peer,
    sound_alone,
    states_of,
    times_of,
    transport_stream,
)

from tubelet.preprocess.convert import Converter
from tubelet.preprocess.errors import VideoError
from tubelet.runtime.stream import connection
from tubelet.runtime.stream.source import BackOff, SourceFrame, SourceState, open_source

AT_ONCE = BackOff(first=0.02, longest=0.02)
PATIENT = 30.0  # seconds: what a loaded machine may take to send the next frame
BRISK = 1.0  # where nothing is sent at all


def watched(source, *, until="ended", **given):
    """All that comes, up to the first state that is `until`."""
    options: Any = {"stall_seconds": PATIENT, "retries": 0, "back_off": AT_ONCE} | given
    found = []
    for item in open_source(source, **options):
        found.append(item)
        if isinstance(item, SourceState) and item.state == until:
            break
    return found


@pytest.fixture(scope="module")
def stream():
    return transport_stream(range(20))


def test_every_frame_comes_and_the_next_connection_is_another_segment(stream):
    again = transport_stream(range(100, 110))
    with TcpServer(stream, again) as server:
        found = watched(server.url, retries=1)
    assert [(state.state, state.attempt, state.segment) for state in states_of(found)] == [
        ("connected", 0, 0),
        ("lost", 0, 0),
        ("connected", 1, 1),
        ("lost", 1, 1),
        ("ended", 1, 1),
    ]
    assert states_of(found)[1].reason == "it ended"
    assert numbers(found) == [*range(20), *range(100, 110)]
    frames = frames_of(found)
    assert [frame.segment for frame in frames] == [0] * 20 + [1] * 10
    np.testing.assert_allclose(np.diff([frame.seconds for frame in frames[:20]]), 0.04, atol=1e-4)
    assert np.all(np.diff([frame.arrived for frame in frames]) >= 0)


def test_a_stall_is_lost_and_the_sender_is_called_again(stream):
    begun = threading.Event()
    with TcpServer([*stream, begun], stream[:11]) as server:  # it waits, with the connection open
        items = iter(open_source(server.url, stall_seconds=BRISK, retries=1, back_off=AT_ONCE))
        found = []
        for item in items:
            found.append(item)
            if isinstance(item, SourceState) and item.state == "lost":
                begun.set()
    assert [state.state for state in states_of(found)] == ["connected", "lost", "connected", "lost", "ended"]
    assert states_of(found)[1].reason == "it sent nothing for 1 seconds"
    assert numbers(found)[-11:] == list(range(11))
    assert {frame.segment for frame in frames_of(found)} == {0, 1}


def test_sound_without_pictures_is_a_stall_as_well():
    both = transport_stream(range(10), sound=True)
    more = sound_alone(transport_stream(range(150), sound=True))  # six seconds of it, which never stop

    def parts():
        yield from both
        for part in chain.from_iterable(repeat(more)):
            yield part
            yield 0.001

    with TcpServer(parts()) as server:
        found = watched(server.url, stall_seconds=BRISK)
    assert len(frames_of(found)) >= 5
    assert states_of(found)[1].reason == "it showed nothing for 1 seconds, and sent something"


def test_one_that_comes_back_after_a_refusal(stream):
    port = free_port()
    url = f"tcp://127.0.0.1:{port}"
    items = open_source(url, stall_seconds=PATIENT, back_off=AT_ONCE)
    lost = states_of(next(items) for _ in range(3))
    assert [(state.state, state.attempt, state.reason) for state in lost] == [
        ("lost", attempt, "Connection refused") for attempt in range(3)
    ]
    with socket.create_server(("127.0.0.1", port)) as listening:

        def serve():
            connected, _ = listening.accept()
            with connected:
                connected.sendall(b"".join(stream))

        sender = threading.Thread(target=serve)
        sender.start()
        found = list(zip(items, range(12), strict=False))
        sender.join()
    states = states_of(item for item, _ in found)
    assert states[-1].state == "connected"
    assert states[-1].attempt >= 3
    assert {frame.segment for frame in frames_of(item for item, _ in found)} == {0}


@pytest.mark.parametrize("scheme", ["rtsp", "tcp", "http"])
def test_a_refusal_and_a_silent_peer_are_lost_and_given_up(scheme):
    for attempts, retries in ((1, 0), (2, 1)):
        found = watched(f"{scheme}://admin:geheim@127.0.0.1:{free_port()}/live", retries=retries)
        assert [state.state for state in found] == ["lost"] * attempts + ["ended"]
        assert {state.reason for state in found} == {"Connection refused"}
    begun = time.monotonic()
    with silent_peer() as port:
        found = watched(f"{scheme}://admin:geheim@127.0.0.1:{port}/live", stall_seconds=0.5)
    assert [state.state for state in found] == ["lost", "ended"]
    assert "geheim" not in str(found)
    assert time.monotonic() - begun > 0.4


def test_what_is_no_video_is_an_error_at_first_and_lost_later(stream):
    with TcpServer([b"no video at all" * 100]) as server:
        assert [state.state for state in watched(server.url)] == ["lost", "ended"]
    silence = transport_stream(range(20), video=False, sound=True)
    with TcpServer(silence) as server, pytest.raises(VideoError, match="holds no video, only audio"):
        watched(server.url)
    with TcpServer(stream, silence) as server:
        assert [state.state for state in states_of(watched(server.url, retries=1))][-2:] == ["lost", "ended"]


def test_a_stream_begins_at_its_first_key_frame():
    # FFmpeg's decoder of MPEG-4 draws what it does not have in grey.
    pieces = transport_stream(range(30), codec="mpeg4", keyframe_every=10)
    with TcpServer([pieces[0][: 3 * 188], *pieces[4:]]) as server:  # the tables, which say what follows
        found = watched(server.url)
    assert numbers(found) == list(range(10, 30))
    assert frames_of(found)[0].left_out == 6
    assert {frame.left_out for frame in frames_of(found)[1:]} == {0}


def test_a_stream_that_never_has_a_key_frame_is_shown_all_the_same(monkeypatch):
    monkeypatch.setattr(connection, "KEY_SECONDS", 0.2)
    pieces = transport_stream(range(60), size=(320, 240), crf=8, keyframe_every=1000)
    pieces[14] = pieces[14][DATAGRAM:]

    with TcpServer(part for piece in pieces for part in (piece, 0.02)) as server:
        found = watched(server.url)
    left_out = [frame.left_out for frame in frames_of(found)]
    assert len(left_out) > 20
    assert max(left_out) > 4
    assert sum(left_out) + len(left_out) >= 57


def in_datagrams(pieces, *, seconds=0.01):
    """Pieces, with time for the reader to keep up; sent over and over, for it may begin late."""
    while True:
        for piece in pieces:
            yield piece
            yield seconds


def test_a_sender_that_starts_anew_begins_a_segment(stream):
    """Media time steps back in a connection that stays: of UDP there is none to lose."""
    with UdpSender(lambda: in_datagrams(stream)) as sender:
        items = open_source(sender.url, stall_seconds=PATIENT)
        found = [item for item, _ in zip(items, range(75), strict=False)]
    assert len(states_of(found)) == 1
    frames = frames_of(found)
    assert {frame.segment for frame in frames} >= {0, 1, 2}
    for (before, earlier), (frame, seconds) in pairwise(zip(frames, times_of(found), strict=True)):
        assert (frame.segment == before.segment) == (seconds > earlier)
    for segment in (1, 2):
        assert next(n for n, frame in zip(numbers(found), frames, strict=True) if frame.segment == segment) == 0


def test_what_was_lost_on_the_way_is_left_out_up_to_the_next_key_frame():
    pieces = transport_stream(range(40), size=(320, 240), crf=8, keyframe_every=10)
    assert len(pieces[14]) > DATAGRAM  # so that a part of a frame can be lost
    pieces[14] = pieces[14][DATAGRAM:]
    with UdpSender(lambda: in_datagrams(pieces)) as sender:
        items = open_source(sender.url, stall_seconds=PATIENT)
        found = [item for item, _ in zip(items, range(100), strict=False)]
    # What comes shows what it says, and frames that were lost are not made up.
    by_segment: dict[int, list[int]] = {}
    for number, frame in zip(numbers(found), frames_of(found), strict=True):
        by_segment.setdefault(frame.segment, []).append(number)
    whole = by_segment[1]
    assert set(whole) <= {*range(14), *range(20, 40)}
    assert set(whole) >= {*range(11), *range(20, 36)}
    at = whole.index(20)
    assert [frame for frame in frames_of(found) if frame.segment == 1][at].left_out >= 5


def test_a_silent_port_of_udp_is_lost():
    found = watched(f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}", stall_seconds=0.5)
    assert [state.state for state in found] == ["lost", "ended"]
    assert found[0].reason == "it sent nothing for 0.5 seconds"


def test_a_change_of_size_begins_a_segment(stream):
    larger = transport_stream(range(20, 40), size=(160, 96), times=range(20, 40))
    with TcpServer([*stream, *larger]) as server:
        found = watched(server.url)
    assert [state.state for state in states_of(found)] == ["connected", "lost", "ended"]
    frames = frames_of(found)
    converter = Converter("a stream", rotate=True, scaling=None)
    sizes = [(frame.segment, *converter.pixels(cast("av.VideoFrame", frame.frame)).shape[:2]) for frame in frames]
    assert set(sizes) == {(0, 64, 96), (1, 96, 160)}
    assert sizes == sorted(sizes)
    assert set(numbers(found)) >= {*range(15), *range(20, 35)}


def test_times_are_those_of_the_stream_at_a_rate_that_varies():
    times = [*range(0, 40, 4), *range(40, 60), *range(60, 120, 6)]  # three rates
    with TcpServer(transport_stream(range(len(times)), rate=100, times=times)) as server:
        frames = frames_of(watched(server.url))
    found = np.array([frame.seconds for frame in frames])
    np.testing.assert_allclose(found - found[0], np.array(times) / 100, atol=2e-4)
    assert {frame.segment for frame in frames} == {0}


def test_a_minute_of_frames_makes_a_stream_well_again(stream, monkeypatch):
    monkeypatch.setattr(connection, "WELL_SECONDS", 0.3)
    slow = [part for piece in stream for part in (piece, 0.05)]
    with TcpServer(slow, slow, slow) as server:
        states = states_of(watched(server.url, retries=1, until="ended"))
    # Each had been well before it was lost: the attempts are counted from 0 again.
    assert [(state.state, state.attempt) for state in states[:6]] == [
        ("connected", 0),
        ("lost", 0),
        ("connected", 1),
        ("lost", 0),
        ("connected", 1),
        ("lost", 0),
    ]


def test_stop_ends_it_between_frames(stream):
    stop = threading.Event()
    with TcpServer([*stream, threading.Event()]) as server:
        items = open_source(server.url, stop=stop, stall_seconds=PATIENT)
        for item in items:
            if isinstance(item, SourceFrame):
                stop.set()
                break
        assert list(items) == []
