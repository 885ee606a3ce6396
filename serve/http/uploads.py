"""Uploads: the body of a request becomes a video to read. No name or path in it is ever used."""

import tempfile
from dataclasses import dataclass
from typing import BinaryIO, cast

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request

from .refusal import Refusal

IN_MEMORY = 1 << 20  # bytes of one upload; a longer one is in a temporary file without a name


@dataclass(frozen=True, eq=False)
class Upload:
    """A body that has arrived. file: where it is kept; size: its bytes."""

    file: BinaryIO
    size: int

    @property
    def content(self) -> bytes | BinaryIO:
        """What a reading takes."""
        if self.size > IN_MEMORY:
            return self.file
        self.file.seek(0)
        return self.file.read()

    def close(self) -> None:
        self.file.close()


async def receive_video(request: Request) -> Upload:
    """Receive a video as the body of a request, or as the one file of a form (multipart/form-data).

    Raises:
        Refusal: for an empty body, for a form of anything else, and for a compressed body.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    upload = await (_receive_form(request) if kind == "multipart/form-data" else receive_body(request))
    if upload.size == 0:
        upload.close()
        raise Refusal(400, "the request has no video: send its bytes as the body, or as the file of a form")
    return upload


async def receive_body(request: Request) -> Upload:
    """Receive the bytes of a body, whatever they are.

    Raises:
        Refusal: for a compressed body.
    """
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
