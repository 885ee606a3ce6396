"""Protobuf by hand, as far as ONNX models need it. So a machine that runs bundles need not have the onnx package."""

from collections.abc import Iterator
from typing import Any

# How a field says where it ends: a number by itself, others by a length before them or by their kind.
_VARINT, _DELIMITED = 0, 2
_FIXED = {1: 8, 5: 4}


def field(number: int, value: int | bytes) -> bytes:
    """Write a field: a number as a varint, bytes with their length before them."""
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    return _varint(number << 3 | _DELIMITED) + _varint(len(value)) + value


def fields(message: bytes) -> Iterator[tuple[int, Any, bytes]]:
    """Read a message.

    Yields:
        Number, content and whole of each field. The content is an int for a varint, bytes for all others.

    Raises:
        ValueError: for bytes that are no message.
    """
    at = 0
    while at < len(message):
        start = at
        key, at = _read_varint(message, at)
        kind = key & 7
        content: int | bytes
        if kind == _VARINT:
            content, at = _read_varint(message, at)
        elif kind in _FIXED or kind == _DELIMITED:
            length, at = (_FIXED[kind], at) if kind in _FIXED else _read_varint(message, at)
            content = message[at : at + length]
            at += length
        else:
            raise ValueError(f"the field at byte {start} is of no kind that ONNX has")
        if at > len(message):
            raise ValueError(f"the field at byte {start} ends after the message")
        yield key >> 3, content, message[start:at]


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first, the top bit set on all but the last."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """The number that starts at a byte, and where it ends."""
    value = shift = 0
    while at < len(message):
        value |= (message[at] & 0x7F) << shift
        shift += 7
        at += 1
        if message[at - 1] < 0x80:
            return value, at
    raise ValueError("a number ends after the message")
