"""`tubelet watch` of each kind of source there is: what it prints, and how it ends."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rtsp_server import rtsp_server
from streams import Part, TcpServer, UdpSender, transport_stream
from web_server import LivePlaylist, Playlist, still_pictures, web_server

from tubelet.cli.tree import main


def watch(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["watch", *map(str, arguments)], prog_name="tubelet")


def watched(bundle: Path, source: str, *options: object, code: int = 0) -> list[dict[str, Any]]:
    """The lines of the command, which are whole and in order."""
    result = watch(bundle, source, "--json-lines", "--stall-seconds", 30, *options)
    assert result.exit_code == code, result.output
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert (found[0]["type"], found[0]["state"]) == ("source", "connected")
    assert (found[-1]["type"], found[-1]["state"]) == ("source", "ended")
    windows = windows_of(found)
    assert windows
    for window in windows:
        assert {"lag_seconds", "skipped_windows", "dropped_frames", "left_out_frames"} <= set(window)
        assert (window["lag_seconds"] is None) == (not found[0]["live"])
        # Four frames, 4 / 30 seconds apart; those of a stream may be half a second apart.
        assert 0.2 < window["seconds"][1] - window["seconds"][0] < 0.9
    return found


def windows_of(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in found if line["type"] == "window"]


def paced(pieces: list[bytes], seconds: float) -> Iterator[Part]:
    for piece in pieces:
        yield piece
        yield seconds


def joined_late() -> list[bytes]:
    """MPEG-4 from the middle of a group of pictures: six frames before the first key frame."""
    pieces = transport_stream(range(60), codec="mpeg4", keyframe_every=10)
    return [pieces[0][: 3 * 188], *pieces[4:]]  # the tables, which say what follows


def test_tcp(videomae_bundle: Path) -> None:
    with TcpServer(paced(joined_late(), 0.01)) as server:
        found = watched(videomae_bundle, server.url, "--retries", 0, code=1)
    assert [line["state"] for line in found if line["type"] == "source"] == ["connected", "lost", "ended"]
    assert found[-1]["reason"] == "it ended"
    assert [line["left_out_frames"] for line in windows_of(found)][:2] == [6, 0]


def test_what_was_passed_over_is_said_to_people_as_well(videomae_bundle: Path) -> None:
    with TcpServer(paced(joined_late(), 0.01)) as server:
        result = watch(videomae_bundle, server.url, "--retries", 0)
    assert "6 frames left out, beside " in result.stderr


def test_udp(videomae_bundle: Path) -> None:
    pieces = transport_stream(range(60))

    def sent() -> Iterator[Part]:
        while True:
            yield from paced(pieces, 0.02)

    with UdpSender(sent) as sender:
        found = watched(videomae_bundle, sender.url, "--seconds", 1)
    assert all(line["live"] for line in found if line["type"] == "source")


def test_a_playlist_that_is_whole_is_a_file(videomae_bundle: Path) -> None:
    with web_server(Playlist().answer) as address:
        found = watched(videomae_bundle, f"{address}/film.m3u8")
    assert not found[0]["live"]
    assert len(windows_of(found)) == 4  # 60 frames, 25 a second


@pytest.mark.slow
def test_a_playlist_that_is_live(videomae_bundle: Path) -> None:
    with web_server(LivePlaylist().answer) as address:
        found = watched(videomae_bundle, f"{address}/live.m3u8")
    assert [line["state"] for line in found if line["type"] == "source"] == ["connected", "lost", "ended"]
    assert found[0]["live"]
    assert found[-1]["reason"] is None
    assert {line["segment"] for line in windows_of(found)} == {0}


def test_a_camera_of_still_pictures(videomae_bundle: Path) -> None:
    kind = "multipart/x-mixed-replace;boundary=part"
    with web_server(lambda _: (200, kind, still_pictures(20, 0.05))) as address:
        found = watched(videomae_bundle, f"{address}/camera", "--retries", 0, code=1)
    assert found[0]["live"]


def test_rtsp(videomae_bundle: Path) -> None:
    with rtsp_server(0, "admin", "geheim") as (host, _):
        found = watched(videomae_bundle, f"rtsp://admin:geheim@{host}/live", "--seconds", 1)
        refused = watch(videomae_bundle, f"rtsp://admin:geheimer@{host}/live")
    assert {line["source"] for line in found} == {f"rtsp://***@{host}/live"}
    assert windows_of(found)[0]["left_out_frames"] == 1  # the first frame of RTSP, which has no time
    assert refused.exit_code == 1
    assert "401 Unauthorized" in refused.stderr
    assert "geheim" not in refused.output
