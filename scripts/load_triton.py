"""Throughput of a bundle on Triton beside the bundle called directly, in turns, on this machine.

    python scripts/load_triton.py BUNDLE VIDEO... [--precision P] [--instances N] [--batch N] [--delay-ms N]
                                  [--concurrency 1,4,16] [--seconds S] [--rounds N]

Writes a model repository, and starts the tritonserver that scripts/install_triton.py installed. Sends it videos as raw
bodies over HTTP, one connection a client. Directly, one client calls `classify` on the bytes. More than one are
`classify_many` with as many workers as there are cores, and with Triton's batch. The share is that of Triton. CPU is a
video's cost in time of the processor, the server's processes against the one that calls directly. Other work on the
machine changes it little.
"""

import argparse
import http.client
import itertools
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from triton_server import Triton, triton

import tubelet
from tubelet.runtime.system import cores_allowed
from tubelet.serve.triton.planned import TritonOptions
from tubelet.serve.triton.repository import write_models


def cpu_of(process: int) -> float:
    """Seconds of the processor that a process and those below it have taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    below = " ".join(path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children")).split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + sum(cpu_of(int(one)) for one in below)


def through_triton(
    server: Triton, model: str, videos: list[bytes], clients: int, seconds: float
) -> tuple[float, float, float]:
    """Videos a second, the median latency in ms, and milliseconds of the processor for each."""
    before = cpu_of(server.process.pid)
    end = time.perf_counter() + seconds

    def ask(number: int) -> list[float]:
        connection = http.client.HTTPConnection("127.0.0.1", server.http)
        took: list[float] = []
        for video in itertools.islice(itertools.cycle(videos), number, None):
            start = time.perf_counter()
            if start > end:
                return took
            headers = {"Inference-Header-Content-Length": "0"}
            connection.request("POST", f"/v2/models/{model}/infer", video, headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise SystemExit(f"{answer.status}: {body[:200]!r}")
            took.append(time.perf_counter() - start)
        return took

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        took = [one for each in pool.map(ask, range(clients)) for one in each]
    rate = len(took) / (time.perf_counter() - began)
    return rate, 1000 * statistics.median(took), 1000 * (cpu_of(server.process.pid) - before) / len(took)


def directly(
    model: tubelet.VideoClassifier, videos: list[bytes], clients: int, batch: int, seconds: float
) -> tuple[float, float]:
    """Videos a second, and milliseconds of the processor for each."""
    before = time.process_time()
    began = time.perf_counter()
    end, done = began + seconds, 0
    endless = itertools.takewhile(lambda _: time.perf_counter() < end, itertools.cycle(videos))
    if clients == 1:
        for video in endless:
            model.classify(video)
            done += 1
    else:
        for result in model.classify_many(endless, batch=min(batch, clients), workers=len(cores_allowed())):
            if result.error is not None:
                raise SystemExit(str(result.error))
            done += 1
    return done / (time.perf_counter() - began), 1000 * (time.process_time() - before) / done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--instances", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--delay-ms", type=float, default=2.0)
    parser.add_argument("--concurrency", default="1,4,16")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    videos = [path.read_bytes() for path in given.videos]
    options = TritonOptions(
        precision=given.precision, instances=given.instances, batch=given.batch, delay_ms=given.delay_ms
    )
    with tempfile.TemporaryDirectory() as folder:
        (name,) = write_models([given.bundle], Path(folder, "models"), options)
        with (
            triton(Path(folder, "models"), Path(folder, "log")) as server,
            tubelet.load(given.bundle, precision=given.precision) as model,
        ):
            through_triton(server, name, videos, 2, 1.0)
            directly(model, videos, 1, given.batch, 1.0)
            print("clients   directly    Triton      share   CPU directly   CPU on Triton   latency on Triton")
            for clients in map(int, given.concurrency.split(",")):
                rows = []
                for _ in range(given.rounds):
                    direct, cost = directly(model, videos, clients, given.batch, given.seconds)
                    served, latency, cost_served = through_triton(server, name, videos, clients, given.seconds)
                    rows.append((direct, served, served / direct, cost, cost_served, latency))
                direct, served, share, cost, cost_served, latency = (
                    statistics.median(column) for column in zip(*rows, strict=True)
                )
                print(
                    f"{clients:<9} {direct:5.1f} /s   {served:5.1f} /s   {share:5.2f}   {cost:9.0f} ms   "
                    f"{cost_served:10.0f} ms   {latency:14.0f} ms",
                    flush=True,
                )


if __name__ == "__main__":
    main()
