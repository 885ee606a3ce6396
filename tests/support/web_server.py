"""A web server on the loopback address that answers with what a function gives for a path."""

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction

import av
from streams import transport_stream
from videos import draw

# A path -> the status, the kind of content, and the content: whole, or part by part without its length.
Answer = Callable[[str], tuple[int, str, bytes | Iterator[bytes]]]


@contextmanager
def web_server(answer: Answer) -> Iterator[str]:
    """The address of the server, until the block ends."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, content = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            if isinstance(content, bytes):
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(ConnectionError):
                for part in [content] if isinstance(content, bytes) else content:
                    self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def still_pictures(count: int, seconds: float) -> Iterator[bytes]:
    """JPEGs in parts, as cameras send them."""
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = 96, 64, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(draw(number, (96, 64)), format="rgb24")
        frame.pts = number
        for packet in encoder.encode(frame):
            head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {packet.size}\r\n\r\n"
            yield head.encode() + bytes(packet) + b"\r\n"
        time.sleep(seconds)


class Playlist:
    """HLS: six pieces of 0.4 seconds, all of which are there."""

    def __init__(self) -> None:
        starts = range(0, 60, 10)
        self.pieces = [b"".join(transport_stream(range(n, n + 10), times=range(n, n + 10))) for n in starts]

    def answer(self, path: str) -> tuple[int, str, bytes]:
        if not path.endswith(".m3u8"):
            return 200, "video/mp2t", self.pieces[int(path[1 : -len(".ts")])]
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", "#EXT-X-MEDIA-SEQUENCE:0", *self.listed()]
        return 200, "application/vnd.apple.mpegurl", "\n".join([*lines, ""]).encode()

    def listed(self) -> list[str]:
        return [*self.first(len(self.pieces)), "#EXT-X-ENDLIST"]

    def first(self, count: int) -> list[str]:
        return [line for number in range(count) for line in ("#EXTINF:0.4,", f"{number}.ts")]


class LivePlaylist(Playlist):
    """The same as they come: three at first, a new one each 0.4 seconds, and complete some time after the last."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: float | None = None

    def listed(self) -> list[str]:
        self.begun = time.monotonic() if self.begun is None else self.begun
        gone = time.monotonic() - self.begun
        count = min(3 + int(gone / 0.4), len(self.pieces))
        return [*self.first(count), *(["#EXT-X-ENDLIST"] if count == len(self.pieces) and gone > 2 else [])]
