"""Messages between the node and the policy process: JSON, followed by arrays. Reading one never executes anything.

A message is the size of its JSON, the JSON, then the bytes of each array. The JSON has the content and, by name, dtype
and shape of the arrays.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

SIZE = struct.Struct("<I")
MAX_JSON_SIZE = 1 << 20  # bytes
DTYPES = ("float32", "uint8")

# Content, and arrays by name.
Message = tuple[dict[str, Any], dict[str, np.ndarray]]


class FramingError(ValueError):
    """Bytes that are not a message."""


def send(connection: socket.socket, content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Send a message.

    Args:
        connection: where to.
        content: what JSON can hold.
        arrays: contiguous, of `DTYPES`.

    Raises:
        OSError: the other side is gone, or does not read.
    """
    layout = {name: [array.dtype.name, array.shape] for name, array in arrays.items()}
    head = json.dumps({"content": content, "arrays": layout}).encode()
    connection.sendall(SIZE.pack(len(head)) + head)
    for array in arrays.values():
        connection.sendall(array)


def receive(connection: socket.socket, max_size: int, deadline: float = math.inf) -> Message:
    """Return the next message.

    Args:
        connection: where from.
        max_size: largest sum of the arrays' sizes, bytes.
        deadline: until when to wait for the whole message, s on `time.monotonic`.

    Raises:
        EOFError: the other side hung up.
        TimeoutError: the message was not complete by the deadline.
        FramingError: what arrives is not a message, or is larger than `max_size`.
        OSError: the connection broke.
    """
    size = bytearray(SIZE.size)
    _receive_into(connection, memoryview(size), deadline)
    (head_size,) = SIZE.unpack(size)
    if head_size > MAX_JSON_SIZE:
        raise FramingError(f"JSON of {head_size} bytes, at most {MAX_JSON_SIZE} are taken")
    head = bytearray(head_size)
    _receive_into(connection, memoryview(head), deadline)
    content, arrays = _allocate(head, max_size)
    for array in arrays.values():
        _receive_into(connection, memoryview(array.reshape(-1).view(np.uint8)), deadline)
    return content, arrays


def _allocate(head: bytearray, max_size: int) -> Message:
    """Return the content and the arrays that follow, still to be filled."""
    try:
        message = json.loads(head)
        content, layout = message["content"], message["arrays"]
        dtypes = {name: np.dtype(DTYPES[DTYPES.index(dtype)]) for name, (dtype, _) in layout.items()}
        shapes = {name: tuple(shape) for name, (_, shape) in layout.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FramingError(f"the JSON is not that of a message ({error!r})") from error
    if not isinstance(content, dict):
        raise FramingError("the content is not an object")
    if not all(type(side) is int and side >= 0 for shape in shapes.values() for side in shape):
        raise FramingError("a shape is not of whole numbers")
    size = sum(dtypes[name].itemsize * math.prod(shape) for name, shape in shapes.items())
    if size > max_size:
        raise FramingError(f"arrays of {size} bytes, at most {max_size} are taken")
    return content, {name: np.empty(shape, dtypes[name]) for name, shape in shapes.items()}


def _receive_into(connection: socket.socket, buffer: memoryview, deadline: float) -> None:
    while buffer:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        connection.settimeout(None if math.isinf(remaining) else remaining)
        received = connection.recv_into(buffer)
        if received == 0:
            raise EOFError
        buffer = buffer[received:]
