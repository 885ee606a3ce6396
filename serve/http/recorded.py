"""The outermost layer: every request is counted, logged and traced, every answer has the headers that keep it safe."""

import logging
import time
from datetime import UTC, datetime

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .metrics import Metrics
from .trace import Trace

LOG = logging.getLogger("tubelet.serve")
_LOGGED = 200  # bytes of a path, which its client chooses

# Scripts, styles and requests from here alone; frames come as data, videos as blobs of the page itself.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SAFE = {
    "Content-Security-Policy": _POLICY,
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Recorded:
    """A layer around the app (ASGI)."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        trace = Trace.of(Headers(scope=scope).get("traceparent"))
        status = 0

        async def give(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(_SAFE)
                headers["traceparent"] = str(trace)
            await send(message)

        try:
            await self._app(scope, receive, give)
        finally:
            seconds = time.monotonic() - began
            route = getattr(scope.get("route"), "path", None) or "none"  # as it is declared, so that there are few
            self._metrics.answered(route, status, seconds)
            LOG.info(
                "%s %s %s %s %.0f ms trace=%s",
                datetime.now(UTC).isoformat(timespec="milliseconds"),
                scope["method"],
                scope["raw_path"][:_LOGGED].decode("ascii", "backslashreplace"),
                status or "gone",
                seconds * 1000,
                trace.trace,
            )
