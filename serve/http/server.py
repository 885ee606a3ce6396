"""Listening: the application on a socket, until a signal ends it."""

import asyncio
import logging
import math
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from ...preprocess.errors import TubeletError

ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def listening(host: str, port: int) -> socket.socket:
    """Open a socket that listens. port: 0 is any that is free. Raises TubeletError where the system refuses."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        raise TubeletError(
            f"cannot listen on {host} port {port}: {getattr(error, 'strerror', None) or error}",
            fix="take another --port, or a --host that is an address of this machine",
        ) from error


def url_of(opened: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    host, port = opened.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


class Server(uvicorn.Server):
    """uvicorn, which a signal ends in good order, as what was asked for; a second signal ends it at once."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield  # signals are not for it
            return

        def end(_number: int, _frame: Any) -> None:
            self.force_exit = self.should_exit
            self.should_exit = True

        before = {number: signal.signal(number, end) for number in ENDING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def impatient(seconds: float) -> type[asyncio.Protocol]:
    """The protocol of uvicorn, which closes a connection that brings no whole request in `seconds`.

    uvicorn itself waits for ever: for a request's head, and for the rest of a body that was refused.
    """

    class Impatient(H11Protocol):
        _overdue: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch()

        def on_response_complete(self) -> None:
            self._watch()
            super().on_response_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._overdue is not None:
                self._overdue.cancel()
            super().connection_lost(exc)

        def _watch(self) -> None:
            if self._overdue is not None:
                self._overdue.cancel()
            self._overdue = self.loop.call_later(seconds, self._close_where_idle)

        def _close_where_idle(self) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()

    return Impatient


def server_of(app: Starlette, *, timeout_s: float) -> Server:
    """The server of an application, as it has to be. timeout_s: how long a request may take to come in."""
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=impatient(timeout_s),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=math.ceil(2 * timeout_s),
    )
    return Server(config)


def serve_until_signal(app: Starlette, opened: socket.socket, *, timeout_s: float, started: Callable[[], None]) -> None:
    """Serve an application until SIGINT, SIGTERM or SIGHUP; what was taken by then is answered first.

    Args:
        app: what answers.
        opened: a socket that listens; it is closed.
        timeout_s: how long a request may take to come in, and those at the end to be answered.
        started: is called when requests are answered.
    """
    log = logging.getLogger("tubelet.serve")
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(shown)
    log.setLevel(logging.INFO)
    server = server_of(app, timeout_s=timeout_s)

    async def run() -> None:
        serving = asyncio.create_task(server.serve([opened]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if server.started:
            started()
        await serving

    try:
        asyncio.run(run())
    finally:
        log.removeHandler(shown)
