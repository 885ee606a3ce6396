"""A crowd: many clients at once, good and bad, against one `tubelet serve`. Does it answer each as it should?

    python scripts/crowd.py [BUNDLE] [--clients 200] [--minutes 5] [--seed 0]

Each client asks again and again over a connection of its own. Most send a whole video and must hear what the library
says of it. Others send a broken or a huge file, send slowly, never finish, or hang up while they send or wait. A
client that hears 503 comes back after as long as that says. Nothing may be lost (a whole request without an answer) or
wrong (an answer of another video, another status). The memory of the server must be flat over the second half. Exit
code 1 where it is not so. Linux; everything stays on the loopback address.
"""

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import numpy as np
from videos import damage, make_video

from tubelet import load

PARTS = 10
MAX_GROWTH = 32 << 20  # bytes, over the second half
TOLERANCE = 1e-4  # of a score: a batch computes in another order than one clip
QUEUE, TIMEOUT_S, MAX_MB = 150, 10, 4
MOST_SHOWN = 10  # faults that are printed one by one


@dataclass(frozen=True, eq=False)
class Video:
    """A file that is sent, and what is expected: a status, and for 200 the score of each label."""

    body: bytes
    status: int
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(eq=False)
class Tally:
    """What the clients saw."""

    answers: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Server:
    """A `tubelet serve` of its own."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process = process
        self.port = port

    @property
    def resident(self) -> int:
        """Bytes in memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    @property
    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@contextmanager
def serving(bundle: Path, log: Path) -> Iterator[Server]:
    """Start a server, and end it as a user would."""
    command = [sys.executable, "-m", "tubelet", "serve", str(bundle), "--port", "0", "--queue", str(QUEUE)]
    command += ["--timeout-s", str(TIMEOUT_S), "--max-mb", str(MAX_MB)]
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r":(\d+)$", process.stdout.readline())
        if found is None:
            raise SystemExit(f"the server did not start:\n{log.read_text()}")
        yield Server(process, int(found[1]))
        process.terminate()
        if process.wait(60) != 0:
            raise SystemExit(f"the server ended with {process.returncode}:\n{log.read_text()[-2000:]}")
    finally:
        process.kill()


def write_videos(folder: Path, bundle: Path) -> tuple[list[Video], list[Video]]:
    """Good videos, which the library has classified, and bad ones."""
    paths = [make_video(folder / f"{frames}.mp4", frames=frames) for frames in (8, 20, 30, 45, 64, 90)]
    paths.append(make_video(folder / "large.mkv", frames=40, size=(480, 360), codec="ffv1"))  # goes through a file
    with load(bundle) as model:
        good = [Video(path.read_bytes(), 200, dict(model.classify(path, top_k=len(model.labels)))) for path in paths]
    damaged = damage(make_video(folder / "damaged.mp4"), range(30)).read_bytes()
    bad = [damaged, paths[0].read_bytes()[:900], b"no video", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"]
    return good, [*(Video(body, 422) for body in bad), Video(b"", 400), Video(bytes((MAX_MB << 20) + 1), 413)]


@dataclass(frozen=True, eq=False)
class Client:
    """One of the crowd."""

    port: int
    rng: random.Random
    good: list[Video]
    bad: list[Video]
    tally: Tally

    async def ask(self, video: Video, kind: str, *, pieces: int = 1, pause: float = 0.0) -> None:
        """Send a video whole, perhaps in pieces, and hold the answer against what is expected."""
        while True:
            began = time.monotonic()
            try:
                status, headers, body = await asyncio.wait_for(self._exchange(video.body, pieces, pause), 120)
            except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
                self.tally.faults.append(f"{kind}: no answer: {type(error).__name__} {error}")
                return
            self.tally.answers[f"{kind}: {status}"] += 1
            if status != 503:
                break
            await asyncio.sleep(int(headers["retry-after"]) * self.rng.uniform(0.2, 1))
        self.tally.seconds.append(time.monotonic() - began)
        if status != video.status:
            self.tally.faults.append(f"{kind}: {video.status} was expected, got {status} {body[:200]!r}")
        elif status == 200:
            scores = {one["label"]: one["score"] for one in json.loads(body)["predictions"]}
            if scores.keys() != video.scores.keys() or any(
                abs(scores[label] - video.scores[label]) > TOLERANCE for label in scores
            ):
                self.tally.faults.append(f"{kind}: an answer of another video: {scores}")

    async def _exchange(self, body: bytes, pieces: int, pause: float) -> tuple[int, dict[str, str], bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(self._head(len(body)))
            step = max(1, -(-len(body) // pieces))
            for start in range(0, len(body), step):
                writer.write(body[start : start + step])
                await writer.drain()
                await asyncio.sleep(pause)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            fields = [line.partition(":") for line in head[1:] if line]
            headers = {name.lower(): value.strip() for name, _, value in fields}
            return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def cut(self, video: Video, share: float, pause: float) -> None:
        """Send a part of a video, or all of it, and hang up."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        with suppress(OSError):
            writer.write(self._head(len(video.body)) + video.body[: round(share * len(video.body))])
            await asyncio.wait_for(writer.drain(), 30)
            await asyncio.sleep(pause)
        if self.rng.random() < 0.5:
            writer.transport.abort()
        else:
            writer.close()
        self.tally.answers["cut"] += 1

    async def never_finish(self, video: Video) -> None:
        """Send all but the end of a video, and see that the server does not wait for it for ever."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        with suppress(OSError):
            writer.write(self._head(len(video.body)) + video.body[:-1])
            said = await asyncio.wait_for(reader.read(), 6 * TIMEOUT_S)
            status = said.split(b" ", 2)[1].decode() if said else "nothing"
            self.tally.answers[f"unfinished: {status}"] += 1
            if status not in ("408", "503"):
                self.tally.faults.append(f"unfinished: 408 was expected, got {said[:200]!r}")
        writer.close()

    def _head(self, length: int) -> bytes:
        path = "/v1/classify?top_k=1000"
        return f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n\r\n".encode()

    async def live(self, until: float) -> None:
        """Ask until it is time to go."""
        kinds: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (70, lambda: self.ask(self.rng.choice(self.good), "whole")),
            (10, lambda: self.ask(self.rng.choice(self.bad), "bad")),
            (8, lambda: self.ask(self.rng.choice(self.good), "slow", pieces=5, pause=self.rng.uniform(0.05, 0.4))),
            (10, lambda: self.cut(self.rng.choice(self.good), self.rng.choice([0, 0.5, 1]), self.rng.uniform(0, 0.3))),
            (2, lambda: self.never_finish(self.rng.choice(self.good))),
        ]
        while time.monotonic() < until:
            await self.rng.choices([act for _, act in kinds], [weight for weight, _ in kinds])[0]()


async def besiege(
    server: Server, good: list[Video], bad: list[Video], *, clients: int, minutes: float, seed: int
) -> Tally:
    """Let the crowd loose; print how the server fares, and note where its memory grows."""
    tally = Tally()
    began = time.monotonic()
    until = began + 60 * minutes
    crowd = [
        asyncio.create_task(Client(server.port, random.Random(f"{seed} {number}"), good, bad, tally).live(until))
        for number in range(clients)
    ]
    resident: list[int] = []
    for part in range(1, PARTS + 1):
        samples = [server.resident]
        while time.monotonic() < began + 60 * minutes * part / PARTS:
            await asyncio.sleep(0.2)
            samples.append(server.resident)
        resident.append(int(np.median(samples)))
        answered = sum(tally.answers.values())
        print(f"{part:2} of {PARTS}: {answered} answered, {resident[-1] >> 20} MB, {server.files} files", flush=True)
    await asyncio.gather(*crowd)
    half = resident[PARTS // 2 :]
    if max(half) - half[0] > MAX_GROWTH:
        tally.faults.append(f"memory grew from {half[0] >> 20} MB to {max(half) >> 20} MB")
    return tally


async def calmed(server: Server) -> list[str]:
    """What is still held when everyone has gone: nothing may be."""
    for _ in range(10 * TIMEOUT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        held = re.search(r"^tubelet_requests_held (\S+)$", text, re.MULTILINE)
        if held is not None and float(held[1]) == 0:
            return []
        await asyncio.sleep(0.2)
    return ["places are still held"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("artifacts/demo-videomae"))
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        good, bad = write_videos(Path(folder), given.bundle)
        with serving(given.bundle, log) as server:
            tally = asyncio.run(
                besiege(server, good, bad, clients=given.clients, minutes=given.minutes, seed=given.seed)
            )
            tally.faults += asyncio.run(calmed(server))
        if "Traceback" in log.read_text():
            tally.faults.append(f"the log of the server has a traceback:\n{log.read_text()[-3000:]}")
    for kind, count in sorted(tally.answers.items()):
        print(f"{count:8}  {kind}")
    if tally.seconds:
        middle, late, latest = np.percentile(tally.seconds, [50, 95, 99])
        rate = len(tally.seconds) / (60 * given.minutes)
        print(f"{rate:.1f} whole requests a second; p50 {middle:.2f} s, p95 {late:.2f} s, p99 {latest:.2f} s")
    for fault in tally.faults[:MOST_SHOWN]:
        print(f"FAULT {fault}")
    print(f"{len(tally.faults)} faults")
    sys.exit(1 if tally.faults else 0)


if __name__ == "__main__":
    main()
