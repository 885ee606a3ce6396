"""Push numbered frames to an RTSP address in real time.

An output that waits for its other side holds up the process that it is in, so it has one of its own.

    python rtsp_push.py URL FRAMES RATE
"""

import sys
import time
from fractions import Fraction

import av
from av.container import OutputContainer
from av.video.stream import VideoStream
from videos import draw

SIZE = (96, 64)
PATIENCE = 60.0  # seconds until somebody listens


def opened(url: str, rate: int) -> tuple[OutputContainer, VideoStream]:
    """A stream to somebody who listens, which shows when its head is sent."""
    begun = time.monotonic()
    while True:
        container = av.open(url, "w", format="rtsp", options={"rtsp_transport": "tcp"})
        stream = container.add_stream("libx264", rate=rate, options={"tune": "zerolatency"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = SIZE
        stream.pix_fmt, stream.gop_size = "yuv420p", 10
        try:
            container.start_encoding()
            return container, stream
        except OSError:
            if time.monotonic() - begun > PATIENCE:
                raise
            time.sleep(0.05)


def main() -> None:
    url, frames, rate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    container, stream = opened(url, rate)
    with container:
        begun = time.monotonic()
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(draw(number, SIZE), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
            time.sleep(max(begun + number / rate - time.monotonic(), 0))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    main()
