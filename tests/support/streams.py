"""Streams on the loopback address: numbered frames as MPEG-TS, and servers that send, stall, lose and restart.

Only the sockets are made up: what is sent is what FFmpeg's encoder and muxer made, and threads of Python send it, so
that a test says when.
"""

import io
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from videos import draw, index_of

from tubelet.preprocess.convert import Converter
from tubelet.runtime.stream.frames import SourceFrame, SourceState

SIZE = (96, 64)
DATAGRAM = 7 * 188  # bytes: packets of MPEG-TS in one of UDP

Part = bytes | threading.Event | float  # what is sent, what is waited for, and seconds that pass


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that nobody uses now."""
    with socket.socket(socket.AF_INET, kind) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def transport_stream(
    numbers: Iterable[int],
    *,
    size: tuple[int, int] = SIZE,
    rate: int = 25,
    times: Sequence[int] | None = None,
    codec: str = "libx264",
    keyframe_every: int = 10,
    crf: int = 23,
    video: bool = True,
    sound: bool = False,
) -> list[bytes]:
    """MPEG-TS of frames that `index_of` can read, in pieces: what the muxer writes for each frame.

    numbers: of the frames, which they carry
    times:   of each in units of 1 / rate seconds; number by number from 0 where not given
    sound:   with silence beside it, or alone without `video`
    """
    written = io.BytesIO()
    pieces = []
    options = {"tune": "zerolatency", "crf": str(crf), "sc_threshold": "0"} if codec == "libx264" else {}
    with av.open(written, "w", format="mpegts", options={"flush_packets": "1"}) as container:
        stream = container.add_stream(codec, rate=rate, options=options) if video else None
        if stream is not None:
            assert isinstance(stream, VideoStream)
            stream.width, stream.height = size
            stream.pix_fmt, stream.gop_size = "yuv420p", keyframe_every
        silence = _silence(container) if sound else None
        for place, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(draw(number, size), format="rgb24")
            frame.pts, frame.time_base = place if times is None else times[place], Fraction(1, rate)
            if stream is not None:
                container.mux(stream.encode(frame))
            if silence is not None:
                silence((place + 1) / rate)
            pieces.append(_drained(written))
        if stream is not None:
            container.mux(stream.encode(None))
    return [*pieces, _drained(written)]


def sound_alone(stream: list[bytes]) -> list[bytes]:
    """A transport stream with sound, from which the packets of the video are taken out."""
    packets = b"".join(stream)
    kept = (packets[at : at + 188] for at in range(0, len(packets), 188))
    return [packet for packet in kept if int.from_bytes(packet[1:3], "big") & 0x1FFF != 0x100]  # its first PID is video


def _silence(container: av.container.OutputContainer) -> Callable[[float], None]:
    """A function that adds silence up to a time."""
    stream = container.add_stream("mp2", rate=16000)
    assert isinstance(stream, AudioStream)
    stream.layout = "mono"
    done = 0

    def until(seconds: float) -> None:
        nonlocal done
        while done < seconds * 16000:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), "s16", "mono")
            frame.rate, frame.pts = 16000, done
            container.mux(stream.encode(frame))
            done += 1152

    return until


def _drained(written: io.BytesIO) -> bytes:
    found = written.getvalue()
    written.seek(0)
    written.truncate()
    return found


class _Server:
    """Sends on a thread of its own until the block ends."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def serve(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def _run(self) -> None:
        with suppress(OSError):  # the other side, or this test, has gone
            self.serve()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self.close()
        self._thread.join()

    def wait(self, part: threading.Event | float) -> None:
        if isinstance(part, float):
            self.ended.wait(part)
            return
        while not self.ended.is_set() and not part.wait(0.02):
            pass


class TcpServer(_Server):
    """Sends each who connects, one after the other, the parts for that connection, and closes it.

    With `holds`, the last one is left open and silent.
    """

    def __init__(self, *connections: Iterable[Part], holds: bool = False) -> None:
        super().__init__()
        self._connections, self._holds = connections, holds
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def serve(self) -> None:
        for number, parts in enumerate(self._connections):
            connected, _ = self._listening.accept()
            with connected, suppress(ConnectionError):
                for part in parts:
                    if self.ended.is_set():
                        return
                    if isinstance(part, bytes):
                        connected.sendall(part)
                    else:
                        self.wait(part)
                if self._holds and number == len(self._connections) - 1:
                    self.wait(threading.Event())
        self._listening.close()  # or the system would go on accepting

    def close(self) -> None:
        with suppress(OSError):  # who waits for somebody to connect wakes up
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._listening.close()


class UdpSender(_Server):
    """Sends parts to a port of UDP, in datagrams of 7 packets, over and over until the block ends."""

    def __init__(self, parts: Callable[[], Iterator[Part]]) -> None:
        super().__init__()
        self._parts = parts
        self.port = free_port(socket.SOCK_DGRAM)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    @property
    def url(self) -> str:
        return f"udp://127.0.0.1:{self.port}"

    def serve(self) -> None:
        for part in self._parts():
            if self.ended.is_set():
                return
            if not isinstance(part, bytes):
                self.wait(part)
                continue
            for start in range(0, len(part), DATAGRAM):
                with suppress(ConnectionError):  # nobody listens yet
                    self._socket.sendto(part[start : start + DATAGRAM], ("127.0.0.1", self.port))

    def close(self) -> None:
        self._socket.close()


def states_of(items: Iterable[SourceFrame | SourceState]) -> list[SourceState]:
    return [item for item in items if isinstance(item, SourceState)]


def frames_of(items: Iterable[SourceFrame | SourceState]) -> list[SourceFrame]:
    return [item for item in items if isinstance(item, SourceFrame)]


def times_of(items: Iterable[SourceFrame | SourceState]) -> list[float]:
    """The times of frames, which all have one."""
    times = [frame.seconds for frame in frames_of(items)]
    assert None not in times
    return [seconds for seconds in times if seconds is not None]


def numbers(items: Iterable[SourceFrame | SourceState]) -> list[int]:
    """What decoded frames say that they are."""
    converter = Converter("a stream", rotate=True, scaling=None)
    decoded = [frame.frame for frame in frames_of(items)]
    return [index_of(converter.pixels(frame)) for frame in decoded if isinstance(frame, av.VideoFrame)]


@contextmanager
def silent_peer() -> Iterator[int]:
    """A port at which connections are accepted by the system and nobody says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])
