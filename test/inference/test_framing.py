"""Messages between the node and the policy process: what is sent is received, and nothing else is believed."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
import tracemalloc

import numpy as np
import pytest

from pi0_ttnn_ros.inference.framing import FramingError, receive, send

IMAGE = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def framed(head: bytes) -> bytes:
    return struct.pack("<I", len(head)) + head


def test_what_is_sent_is_received(ends):
    """Content and arrays arrive as they were, empty ones too, one message after the other."""
    ours, theirs = ends
    content = {"text": "折叠毛巾\0\n", "number": 2**62, "seconds": 0.1, "nested": {"list": [None, True]}}
    arrays = {"image": IMAGE, "state": np.array([np.nan, -1.5], np.float32), "nothing": np.zeros((0, 7), np.float32)}
    sender = threading.Thread(target=lambda: [send(theirs, content, arrays), send(theirs, {}, {})])
    sender.start()
    received, found = receive(ours, 1 << 20)
    assert received == content and list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
    assert receive(ours, 0) == ({}, {})
    sender.join()


@pytest.mark.parametrize(
    ("sent", "culprit"),
    [
        (b"\x80\x04\x95" + bytes(30), "JSON of"),
        (framed(b"\xff\xfe"), "JSON"),
        (framed(b"[1, 2]"), "JSON"),
        (framed(b"[" * 100_000), "JSON"),
        (framed(b'{"content": [], "arrays": {}}'), "content"),
        (framed(b'{"content": {}, "arrays": {"a": ["object", [1]]}}'), "JSON"),
        (framed(b'{"content": {}, "arrays": {"a": ["float32", [-1]]}}'), "shape"),
        (framed(b'{"content": {}, "arrays": {"a": ["float32", ["3"]]}}'), "shape"),
        (framed(b'{"content": {}, "arrays": {"a": ["float32", 3]}}'), "JSON"),
        (framed(b'{"content": {}, "arrays": {"a": ["uint8", [1000000000000]]}}'), "1000000000000 bytes"),
        (framed(b'{"content": {}, "arrays": {"a": ["uint8", [1048577]]}}'), "1048577 bytes"),
    ],
)
def test_what_is_no_message_is_refused(ends, sent, culprit):
    """Garbage is refused, and neither believed nor waited for."""
    ours, theirs = ends
    theirs.sendall(sent)
    tracemalloc.start()
    with pytest.raises(FramingError, match=culprit):
        receive(ours, 1 << 20, time.monotonic() + 60.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 << 20


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes(ends, seed):
    """Random bytes are refused, or the message ends with them."""
    ours, theirs = ends
    random = np.random.default_rng(seed)
    head = bytearray(json.dumps({"content": {"a": 1}, "arrays": {"b": ["uint8", [16]]}}).encode())
    for position in random.integers(0, len(head), 5):
        head[position] = random.integers(0, 256)
    theirs.sendall(framed(bytes(head)) + bytes(16))
    theirs.shutdown(socket.SHUT_WR)
    try:
        content, arrays = receive(ours, 1 << 20)
        assert isinstance(content, dict) and all(isinstance(array, np.ndarray) for array in arrays.values())
    except (FramingError, EOFError):
        pass


def test_half_a_message(ends):
    """A message whose end does not come is waited for until the deadline, or until the other side hangs up."""
    ours, theirs = ends
    head = framed(b'{"content": {}, "arrays": {"a": ["uint8", [100]]}}')
    theirs.sendall(head + bytes(50))
    with pytest.raises(TimeoutError):
        receive(ours, 1 << 20, time.monotonic() + 0.05)
    theirs.sendall(head + bytes(50))
    theirs.close()
    with pytest.raises(EOFError):
        receive(ours, 1 << 20)
