"""Arrays out of an .npz file that anyone may have written. Nothing is unpacked before its size is known and allowed.

A few kilobytes of a zip can stand for gigabytes of zeros, and numpy unpacks what it finds. Here the headers are read
first: what each array is, and how many bytes that takes. The caller refuses what it does not expect. Only then are the
arrays read, each to its stated size and no further.
"""

import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import error as struct_error
from typing import IO, Any, Self
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import BundleError

MOST_BYTES = 2**30  # of all arrays together, and of the file
MOST_ARRAYS = 1000  # the outputs of a ViViT with every hidden state and attention are 26

# What stands before the values: magic and version, the length of the header, the header, such as
# {'descr': '<f4', 'fortran_order': False, 'shape': (4, 400), }
_MAGIC = b"\x93NUMPY\x01\x00"
_PREAMBLE_BYTES = len(_MAGIC) + 2
_HEADER = re.compile(
    rb"\{'descr': '([|]u1|<f4|<i8|<U[1-9]\d{0,2})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,12}, )*(?:\d{1,12},?)?)\), \} *\n"
)
_MOST_HEADER_BYTES = 256
_CHUNK_BYTES = 2**20

_ENCRYPTED = 0x1  # of a zip entry's flags
_END, _END_64 = b"PK\x05\x06", b"PK\x06\x07"  # of a zip's directory; the second of one with huge numbers
_END_BYTES, _END_64_BYTES = 22, 20
_MOST_ENTRY_BYTES = 256  # that the directory says of one array; for those of a bundle it takes about 70

# What zipfile, zlib and numpy raise for bytes that are not theirs. RuntimeError: of a password that is missing.
_DAMAGE = (BadZipFile, zlib.error, struct_error, ValueError, EOFError, RuntimeError, OverflowError, OSError)


@dataclass(frozen=True)
class ArrayHeader:
    """What the file says of one array."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran_order: bool

    @property
    def nbytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


class ArrayFile:
    """An open .npz file. headers: of every array by name; `read` unpacks one of them."""

    def __init__(self, path: Path, archive: ZipFile) -> None:
        self.path = path
        self._archive = archive
        self._entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if len(self._entries) != len(archive.infolist()):
            raise ValueError("it holds two arrays of one name")
        self.headers = {name: self._header(info) for name, info in self._entries.items()}
        total = sum(header.nbytes for header in self.headers.values())
        if total > MOST_BYTES:
            raise ValueError(f"its arrays take {total} bytes, more than {MOST_BYTES}")

    def _header(self, info: ZipInfo) -> ArrayHeader:
        """Raise ValueError for an entry that is no array, or one of another size than the directory states."""
        if info.flag_bits & _ENCRYPTED or info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise ValueError(f"{info.filename} is encrypted, or packed in a way that numpy does not write")
        with self._archive.open(info) as entry:
            header, taken = _read_header(entry, info.filename)
        if taken + header.nbytes != info.file_size:
            raise ValueError(
                f"{info.filename} is {header}, which takes {taken + header.nbytes} bytes with its header; the file "
                f"states {info.file_size}"
            )
        return header

    def read(self, name: str) -> NDArray[Any]:
        """The array of that name. Raises BundleError where its bytes are not those that the header states."""
        header = self.headers[name]
        with _as_bundle_error(self.path), self._archive.open(self._entries[name]) as entry:
            _read_header(entry, name)
            array = np.empty(header.shape, header.dtype, "F" if header.fortran_order else "C")
            content = array.ravel(order="K").view(np.uint8)  # the same memory, byte by byte
            filled = 0
            while filled < len(content):
                chunk = np.frombuffer(entry.read(min(_CHUNK_BYTES, len(content) - filled)), np.uint8)
                if not len(chunk):
                    raise ValueError(f"{name} ends after {filled} of {len(content)} bytes")
                content[filled : filled + len(chunk)] = chunk
                filled += len(chunk)
            entry.read(1)  # to the end, where zipfile compares the checksum
        return array

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """Read the headers of the .npz file at `path`. Raises BundleError for a file that is not one, or too large."""
        with path.open("rb") as file:
            with _as_bundle_error(path):
                _check_directory(file)
                archive = ZipFile(file)
                arrays = cls(path, archive)
            with archive:
                yield arrays


@contextmanager
def _as_bundle_error(path: Path) -> Iterator[None]:
    try:
        yield
    except BundleError:
        raise
    except _DAMAGE as error:
        raise BundleError(f"{path} is not a file of arrays: {error}", fix="export the bundle again") from error


def _check_directory(file: IO[bytes]) -> None:
    """Raise ValueError for a zip with more entries than MOST_ARRAYS: zipfile makes an object of each."""
    size = file.seek(0, 2)
    if size > MOST_BYTES:
        raise ValueError(f"it has {size} bytes, more than {MOST_BYTES}")
    file.seek(max(size - _END_BYTES - _END_64_BYTES, 0))
    tail = file.read()
    end, before = tail[-_END_BYTES:], tail[:-_END_BYTES]
    if len(end) < _END_BYTES or not end.startswith(_END) or before.startswith(_END_64):
        raise ValueError("it does not end as a zip that numpy wrote")
    entries, directory_bytes = int.from_bytes(end[10:12], "little"), int.from_bytes(end[12:16], "little")
    if entries > MOST_ARRAYS or directory_bytes > MOST_ARRAYS * _MOST_ENTRY_BYTES:
        raise ValueError(f"it lists {entries} arrays in {directory_bytes} bytes, more than {MOST_ARRAYS}")


def _read_header(entry: IO[bytes], name: str) -> tuple[ArrayHeader, int]:
    """What numpy wrote before the values, and how many bytes of it there were.

    Read here, for the one form that numpy gives to plain arrays. numpy's own reader evaluates a literal of Python, and
    objects and structures are nothing that a bundle holds.
    """
    preamble = entry.read(_PREAMBLE_BYTES)
    if not preamble.startswith(_MAGIC) or len(preamble) != _PREAMBLE_BYTES:
        raise ValueError(f"{name} does not begin as an array of numpy's format 1.0 does")
    length = int.from_bytes(preamble[len(_MAGIC) :], "little")
    found = _HEADER.fullmatch(entry.read(length)) if length <= _MOST_HEADER_BYTES else None
    if found is None:
        raise ValueError(f"{name} is no plain array of numbers or text")
    dtype, order, sides = (group.decode("ascii") for group in found.groups())
    shape = tuple(int(side) for side in sides.split(",") if side.strip())
    return ArrayHeader(np.dtype(dtype), shape, order == "True"), _PREAMBLE_BYTES + length
