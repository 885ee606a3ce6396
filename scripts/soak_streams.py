"""A long stream: watches an hour at full speed, loses it a thousand times, and sees whether anything grows.

    python scripts/soak_streams.py [--seconds 3600] [--losses 1000] [--source SOURCE]

The first part watches a generated stream of 30 frames a second with a tiny model. It takes windows and events
together, by the time of the stream. The second part reads a sender on the loopback address that closes each
connection. So the source is opened again and again. Every tenth of each it prints memory, open files and threads; from
the second tenth on they must be flat. Exit code 1 where they are not. Linux.
"""

import argparse
import sys
import tempfile
from itertools import repeat
from pathlib import Path

from soak import PARTS, Log

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import breaking
from streams import TcpServer, transport_stream

from tubelet import EventRule, load
from tubelet.runtime.stream.events import EventFinder
from tubelet.runtime.stream.source import BackOff, SourceState, open_source

STREAM = "lavfi:testsrc=size=320x240:rate=30"
EVERY = 0.5
RULE = EventRule(on=0.05, off=0.04)  # every label of a tiny model with random weights, now and then
MAX_GROWTH = 5 << 20  # bytes, from the second tenth to the last


def watch(bundle: Path, source: str, seconds: float) -> list[str]:
    """Watch `seconds` of a stream, by its own time, and count what it says."""
    log, due = Log("seconds", MAX_GROWTH), 1
    windows = events = 0
    with load(bundle, threads=1) as model:
        finder = EventFinder(RULE)
        for window in model.watch(source, every=EVERY, live=False, seconds=seconds):
            windows += 1
            events += sum(event.open for event in finder.add(window))
            if window.seconds[1] >= seconds * due / PARTS - EVERY:
                log.note(window.seconds[1])
                due += 1
    print(f"{windows} windows, {events} events")
    expected = seconds / EVERY
    return log.faults() + ([f"{windows} windows of about {expected:.0f}"] if windows < 0.9 * expected - 10 else [])


def lose(losses: int) -> list[str]:
    """Read a stream that is lost `losses` times."""
    log, lost = Log("losses", MAX_GROWTH), 0
    with TcpServer(*repeat(transport_stream(range(20)), losses)) as server:
        for item in open_source(server.url, back_off=BackOff(0.001, 0.001)):
            if isinstance(item, SourceState) and item.state == "lost":
                lost += 1
                if lost % max(losses // PARTS, 1) == 0:
                    log.note(lost)
                if lost == losses:
                    break
    return log.faults()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600, help="of the stream, by its own time")
    parser.add_argument("--losses", type=int, default=1000, help="of the stream that is lost")
    parser.add_argument("--source", default=STREAM, help="what is watched; it must last that long")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        breaking.in_child(lambda: breaking.write_bundle(Path(folder)))
        faults = watch(Path(folder) / "bundle", options.source, options.seconds)
    faults += lose(options.losses)
    print("\n".join(faults) or "flat")
    if faults:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
