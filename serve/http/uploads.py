"""Uploads: the body of a request becomes a video to read. No name or path in it is ever used."""

import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request

from .refusal import Refusal

IN_MEMORY = 1 << 18  # bytes of one upload, of hundreds; a longer one is in a temporary file without a name


@dataclass(eq=False)
class Upload:
    """A body that has arrived. file: where it is kept; size: its bytes; reading: what a thread does with it."""

    file: BinaryIO
    size: int
    reading: "Future[Any] | None" = None

    @property
    def content(self) -> bytes | BinaryIO:
        """What a reading takes."""
        return self.file if self.size > IN_MEMORY else self.whole()

    def whole(self) -> bytes:
        """All of it, in memory."""
        self.file.seek(0)
        return self.file.read()

    def close(self) -> None:
        """Close the file as soon as no thread reads it."""
        if self.reading is None:
            self.file.close()
        else:
            self.reading.add_done_callback(lambda _: self.file.close())  # at once, where it is done


@asynccontextmanager
async def received_video(request: Request) -> AsyncIterator[Upload]:
    """Receive a video as the body of a request, or as the one file of a form (multipart/form-data).

    Yields:
        The upload, which is closed behind the block.

    Raises:
        Refusal: for an empty body, for a form of anything else, and for a compressed body.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    with closing(await (_receive_form(request) if kind == "multipart/form-data" else _receive(request))) as upload:
        if upload.size == 0:
            raise Refusal(400, "the request has no video: send its bytes as the body, or as the file of a form")
        yield upload


@asynccontextmanager
async def received_body(request: Request) -> AsyncIterator[Upload]:
    """Receive the bytes of a body, whatever they are; see `received_video`."""
    with closing(await _receive(request)) as upload:
        yield upload


async def _receive(request: Request) -> Upload:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise Refusal(415, f"the body must come as it is, got Content-Encoding {encoding[:40]!r}")
    file = cast(BinaryIO, tempfile.SpooledTemporaryFile(IN_MEMORY))  # noqa: SIM115 - it is the upload's
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > IN_MEMORY:
                await run_in_threadpool(file.write, chunk)  # the disk may be slow
            else:
                file.write(chunk)
    except BaseException:
        file.close()
        raise
    return Upload(file, size)


async def _receive_form(request: Request) -> Upload:
    form = await request.form(max_files=1, max_fields=0)
    files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
    if not files:
        raise Refusal(400, "a form must hold one file, the video, got none")
    return Upload(files[0].file, files[0].size or 0)
