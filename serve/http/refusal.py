"""Refusal: why a request is not answered as it asks, with the status that says so."""

import errno
import logging

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...preprocess.errors import OutOfBounds, OutOfMemory, TooManyFiles, TubeletError, VideoError
from ...preprocess.shortage import shortage_of

LOG = logging.getLogger("tubelet.serve")


class Refusal(Exception):
    """A request that is not answered as it asks.

    Attributes:
        status: of HTTP.
        message: what is wrong, and what was expected.
        retry_after: seconds after which to try again, where that helps.
    """

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after

    def response(self) -> Response:
        """The answer in its place, in the form of the Open Inference Protocol."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return JSONResponse({"error": self.message}, self.status, headers)


def refusal_of(error: Exception) -> Refusal:
    """What a client hears of an error. The words of the server's own go to the log alone: they may name paths."""
    if isinstance(error, Refusal):
        return error
    shortage = shortage_of(error)
    if isinstance(shortage, OutOfMemory | TooManyFiles):
        LOG.error("%s", shortage)
        return Refusal(503, "the server is short of memory or files", retry_after=5)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        LOG.error("no room for what comes in: %s", error)
        return Refusal(503, "the server has no room for what comes in", retry_after=5)
    if isinstance(error, VideoError):
        return Refusal(422, error.message)
    if isinstance(error, OutOfBounds):
        return Refusal(400, error.message)
    LOG.error("%s: %s", type(error).__name__, error, exc_info=None if isinstance(error, TubeletError) else error)
    return Refusal(500, "the server failed; its log says how")


async def answer_refusal(_: Request, error: Exception) -> Response:
    """An exception handler of Starlette, for routes that have no guard."""
    return refusal_of(error).response()


async def answer_http_error(_: Request, error: Exception) -> Response:
    """An exception handler of Starlette, for its own errors: no such page, no such method, a damaged form."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
