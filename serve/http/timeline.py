"""POST /v1/timeline: what happens in each part of a video, a line of JSON as soon as it is known.

POST /v1/explain: where the model looked in one of those parts.
"""

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from ...preprocess.views import join_views
from ...runtime.predictions import Answer, answer
from ...runtime.reading import Reading
from .options import MODEL, READING, TOP_K, flag, number, parse_query, reading_of
from .pictures import strip
from .refusal import Refusal, refusal_of
from .service import Served, Service, Stages
from .uploads import Upload, received_video
from .windows import MOST_WINDOWS, Windows, read_windows

_WINDOWS = 24
_AT_ONCE = 2  # windows in one request to the model: few, so that their answers come one after another

MOST = number("windows", "Into how many parts the video is cut at most.", 1, MOST_WINDOWS, _WINDOWS)
FRAMES = flag("frames", "Whether each part comes with its frames, in one picture.")
WINDOW = number("window", "Which part, from 0.", 0, MOST_WINDOWS - 1, 0)
TIMELINE = (MODEL, TOP_K, MOST, FRAMES, *READING)
EXPLAIN = (MODEL, MOST, WINDOW, *READING)

# A line of an answer.
Say = Callable[[Mapping[str, Any]], Awaitable[None]]


class Lines(Response):
    """An answer that is written line by line, each a JSON document.

    What goes wrong before the first line has a status of its own. After it, it is a last line with an error.
    """

    media_type = "application/x-ndjson"

    def __init__(self, write: Callable[[Say], Awaitable[None]]) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._write = write

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        started = False

        async def say(document: Mapping[str, Any]) -> None:
            nonlocal started
            if not started:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                started = True
            line = json.dumps(document, ensure_ascii=False).encode() + b"\n"
            await send({"type": "http.response.body", "body": line, "more_body": True})

        try:
            await self._write(say)
        except Exception as error:
            if not started or isinstance(error, ClientDisconnect):
                raise
            await say({"error": refusal_of(error).message})
        await send({"type": "http.response.body", "body": b""})


async def timeline(request: Request) -> Response:
    """Answer with what happens in each part of the video that is the body."""
    service: Service = request.state.service
    given = parse_query(request.query_params, TIMELINE)
    served = service.model(given.get("model"))
    reading = reading_of(given, service.limits)

    async def write(say: Say) -> None:
        stages = Stages()
        async with received_video(request) as upload:
            stages.ended("receive")
            async with service.room.taken(_AT_ONCE):
                await _write_timeline(service, served, upload, reading, given, stages, say)

    return Lines(write)


async def _write_timeline(
    service: Service,
    served: Served,
    upload: Upload,
    reading: Reading,
    given: Mapping[str, Any],
    stages: Stages,
    say: Say,
) -> None:
    top_k = given.get("top_k", 5)
    windows = await _read(service, upload, served, reading, given, stages)
    count = len(windows.bounds)
    await say({"model": served.name, "windows": count, "num_frames": served.model.spec.num_frames})
    logits: list[NDArray[np.float32]] = []
    for first in range(0, count, _AT_ONCE):
        positions = windows.clips.positions[first : first + _AT_ONCE]
        views = await asyncio.to_thread(join_views, [windows.clips.frames.pixels], served.model.spec, positions)
        stages.ended("prepare")
        inferred = await served.batches.infer(views)
        stages.ended("execute")
        for window, row in enumerate(inferred.logits, start=first):
            logits.append(row[np.newaxis])  # (1, K)
            line = {"window": window} | _times(windows, window)
            line["predictions"] = answer_of(served, logits[-1], top_k)
            if given.get("frames"):
                line["frames"] = await asyncio.to_thread(strip, windows.clips.clip(window).pixels)
            await say(line)
    stages.ended("rank")
    service.metrics.stages(served.name, stages.seconds)
    await say({"predictions": answer_of(served, np.concatenate(logits), top_k), "stages_ms": stages.to_json()})


async def explain(request: Request) -> Response:
    """Answer with where the model looked in one part of the video that is the body."""
    service: Service = request.state.service
    given = parse_query(request.query_params, EXPLAIN)
    served = service.model(given.get("model"))
    if not served.model.attentions:
        raise Refusal(400, f"{served.name} was exported without attentions: tubelet export --outputs attentions")
    reading = reading_of(given, service.limits)
    stages = Stages()
    async with received_video(request) as upload, service.room.taken(_AT_ONCE):
        windows = await _read(service, upload, served, reading, given, stages)
        window = given.get("window", 0)
        if window >= len(windows.bounds):
            raise Refusal(400, f"window is {window}, and the video has {len(windows.bounds)}, numbered from 0")
        frames = windows.clips.clip(window)
        # In the thread of the model, because the attentions of all layers are large.
        found = await served.batches.in_thread(lambda: served.model.explain_shown(frames))
    pictures = await asyncio.to_thread(lambda: {"frames": strip(found.frames), "overlay": strip(found.overlay())})
    return JSONResponse({"model": served.name, "window": window} | _times(windows, window) | pictures)


async def _read(
    service: Service, upload: Upload, served: Served, reading: Reading, given: Mapping[str, Any], stages: Stages
) -> Windows:
    """The windows of a video, read in a thread."""
    spec, most = served.model.spec, given.get("windows", _WINDOWS)
    until = time.monotonic() + service.limits.timeout_s

    def read() -> Windows:
        stages.ended("wait")
        windows = read_windows(upload.content, spec, reading, most=most, until=until)
        stages.ended("decode")
        return windows

    return await service.in_reader(read, upload)


def answer_of(served: Served, logits: NDArray[np.float32], top_k: int) -> list[dict[str, Any]]:
    """What is said of the views (views, K), as JSON has it."""
    model = served.model
    said: Answer = answer(logits, model.spec.evaluation.averages, model.problem_type, model.labels, top_k)
    return [prediction._asdict() for prediction in said]


def _times(windows: Windows, window: int) -> dict[str, Any]:
    """When a window begins and ends, and when its frames are shown; None where the file has no times."""
    seconds = windows.clips.seconds[window].tolist()
    begin, end = (_time(at) for at in windows.bounds[window].tolist())
    return {"from": begin, "to": end, "seconds": [_time(at) for at in seconds]}


def _time(seconds: float) -> float | None:
    return None if math.isnan(seconds) else round(seconds, 6)
