"""The guard of every request that means work: it takes a place, and holds the client to a body's limits."""

import asyncio

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .limits import Limits
from .places import Places
from .refusal import Refusal, refusal_of


class Guard:
    """A layer around a route (ASGI): a place for a request, bytes and seconds for its body, seconds to answer.

    A request is given up as soon as its client has gone.
    """

    def __init__(self, app: ASGIApp, *, places: Places, limits: Limits) -> None:
        self._app = app
        self._places = places
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = _Visit(self._limits, self._places, receive, send)
        try:
            visit.check_stated(scope)
            with self._places.taken():
                await visit.answer(self._app, scope)
        except ClientDisconnect:
            return
        except Exception as error:
            if visit.started:
                raise
            await refusal_of(error).response()(scope, receive, send)


class _Visit:
    """One request on its way through the app."""

    def __init__(self, limits: Limits, places: Places, receive: Receive, send: Send) -> None:
        self._limits = limits
        self._places = places
        self._receive, self._send = receive, send
        self._until = asyncio.get_running_loop().time() + limits.timeout_s  # for the body
        self._bytes = 0
        self._arrived, self._gone = asyncio.Event(), asyncio.Event()
        self.started = self._late = False

    def check_stated(self, scope: Scope) -> None:
        """Raise Refusal where the body is going to be too large by its own account."""
        stated = Headers(scope=scope).get("content-length", "0")
        if stated.isdigit() and int(stated[:20]) > self._limits.max_bytes:
            raise self._too_large()

    async def answer(self, app: ASGIApp, scope: Scope) -> None:
        """Let the app answer. Raises Refusal for a body that is too large or slow, and an answer that is late."""
        work = asyncio.ensure_future(app(scope, self._take, self._give))
        listening = asyncio.create_task(self._listen(work))
        try:
            await work
        except asyncio.CancelledError:
            if self._late:
                raise Refusal(
                    503,
                    f"the video could not be answered for within {self._limits.timeout_s:g} seconds",
                    retry_after=self._places.retry_after,
                ) from None
            if not self._gone.is_set():
                raise
        finally:
            listening.cancel()

    async def _take(self) -> Message:
        """What the app receives: the body in pieces, then that the client has gone."""
        if self._arrived.is_set():
            await self._gone.wait()
            return {"type": "http.disconnect"}
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise Refusal(408, f"the body did not arrive within {self._limits.timeout_s:g} seconds") from None
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._limits.max_bytes:
            raise self._too_large()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._arrived.set()
        return message

    async def _listen(self, work: "asyncio.Future[None]") -> None:
        """End the work where the client goes, or where the answer does not begin in time."""
        await self._arrived.wait()
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                await self._hang_up()
            self._gone.set()
        except TimeoutError:
            self._late = not self.started
            if self.started:  # a long answer may take as long as its client listens
                await self._hang_up()
                self._gone.set()
        work.cancel()

    async def _hang_up(self) -> None:
        """Wait until the client has gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _give(self, message: Message) -> None:
        """Send a part of the answer to a client that takes it in time."""
        self.started = True
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                await self._send(message)
        except TimeoutError:
            self._gone.set()
            raise ClientDisconnect from None

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the body is larger than the {self._limits.max_mb} MB that this server takes")
