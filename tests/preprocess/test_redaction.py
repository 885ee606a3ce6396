"""Passwords and tokens of URLs stand in no message: of an error, of the command line, of FFmpeg."""

import json
import traceback

import av
import pytest
from click.testing import CliRunner

from tubelet.cli.tree import main
from tubelet.preprocess.container import open_video
from tubelet.preprocess.decode import probe
from tubelet.preprocess.errors import VideoError
from tubelet.preprocess.live import LiveSource
from tubelet.preprocess.redaction import redacted, redacted_url
from tubelet.preprocess.sources import Source, name_of

SECRET = "geheim"

URLS = {
    f"rtsp://admin:{SECRET}@camera:554/live": "rtsp://***@camera:554/live",
    f"https://{SECRET}@host/clip.mp4": "https://***@host/clip.mp4",
    f"rtsp://admin:{SECRET}/?@{SECRET}@camera/live": "rtsp://***@camera/live",
    f"rtsp://camera/user=admin&password={SECRET}&channel=1": "rtsp://camera/user=admin&password=***&channel=1",
    f"https://host/clip.mp4?X-Amz-Signature={SECRET}&part=1": "https://host/clip.mp4?X-Amz-Signature=***&part=1",
    f"srt://host:9000?passphrase={SECRET}": "srt://host:9000?passphrase=***",
    f"RTSP://admin:{SECRET}@[::1]:554/live": "RTSP://***@[::1]:554/live",
    f"rtsp:/admin:{SECRET}@camera/live": "rtsp:/***@camera/live",
}


@pytest.mark.parametrize(("url", "shown"), URLS.items())
def test_a_url_is_shown_without_its_secrets(url, shown):
    assert redacted_url(url) == shown
    assert redacted(f"{url} and '{url}' cannot be opened") == f"{shown} and '{shown}' cannot be opened"
    assert redacted_url(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://camera:554/live",
        "https://host/@user/clip.mp4?part=1",
        "C:/videos/a:b@c.mp4",
        "ffmpeg -i IN -vf scale=1280:-2 OUT",
        "mail me@host: it broke",
        "udp://239.0.0.1:1234?pkt_size=1316",
    ],
)
def test_what_holds_no_secret_stays(text):
    assert redacted(text) == redacted_url(text) == text


def test_a_password_with_spaces_and_quotes():
    assert redacted_url(f"rtsp://admin:a {SECRET}'\" b@camera/live") == "rtsp://***@camera/live"


def everything_said(error: BaseException) -> str:
    """An error, and what a traceback shows of it and of what caused it."""
    return str(error) + repr(error) + "".join(traceback.format_exception(error))


@pytest.mark.parametrize("url", [url for url in URLS if "://" in url])
def test_errors_say_no_secret(url):
    url = url.replace("camera", "127.0.0.1").replace("host", "127.0.0.1").replace(":554", ":9").replace(":9000", ":9")
    for make in (lambda: Source.of(url), lambda: open_video(Source.of(url, allow_url=True)).__enter__()):
        with pytest.raises(VideoError) as caught:
            make()
        assert SECRET not in everything_said(caught.value)
    assert SECRET not in repr(Source.of(url, allow_url=True))
    assert SECRET not in repr(LiveSource(redacted_url(url), url))
    assert SECRET not in str(name_of(url))


def test_what_ffmpeg_logs_for_an_error_is_redacted():
    url = f"rtsp://admin:{SECRET}@127.0.0.1:9/live"
    before = av.logging.get_level()
    av.logging.set_level(av.logging.VERBOSE)  # by which errors say more
    try:
        with pytest.raises(VideoError) as caught:
            probe(Source.of(url, allow_url=True))
    finally:
        av.logging.set_level(before)
    assert SECRET not in everything_said(caught.value)
    assert "***@127.0.0.1:9" in everything_said(caught.value)


def test_an_export_says_no_secret():
    pytest.importorskip("torch")
    result = CliRunner().invoke(main, ["export", "--model", f"http://admin:{SECRET}@127.0.0.1:9/clip.mp4"])
    assert result.exit_code != 0
    assert SECRET not in result.output
    assert "127.0.0.1" in result.output


def test_the_command_line_says_no_secret(vivit_bundle, attentive_bundle, tmp_path):
    url = f"http://admin:{SECRET}@127.0.0.1:9/clip.mp4"
    for arguments in (
        ["classify", vivit_bundle, url],
        ["classify", vivit_bundle, url, "--allow-url", "--json"],
        ["classify", vivit_bundle, url, url, "--allow-url", "--json-lines"],
        ["explain", attentive_bundle, url, "-o", tmp_path / "a.png", "--allow-url"],
        ["features", attentive_bundle, url, "--allow-url", "--json"],
        ["features", attentive_bundle, url, url, "--npz", tmp_path, "--allow-url"],
        ["info", url],
        ["info", url, "--allow-url"],
        ["info", url, url],
        ["check", vivit_bundle, "--video", url],
        ["classify", url, "clip.mp4"],
        [url],
        ["classify", vivit_bundle, "clip.mp4", f"--{url}"],
        ["bench", vivit_bundle, "--video", url],
    ):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code != 0
        assert SECRET not in result.output, arguments
        assert "127.0.0.1" in result.output, arguments
        if "--json" in arguments and result.stdout.startswith("{"):
            assert json.loads(result.stdout)["video"] == "http://***@127.0.0.1:9/clip.mp4"
