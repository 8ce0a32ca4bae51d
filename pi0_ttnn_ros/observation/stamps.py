"""Stamps of messages, also of serialized ones that are not decoded."""

from __future__ import annotations

import struct
from typing import Any


def serialized_stamp(message: bytes | memoryview) -> int:
    """Return the stamp of a serialized message that begins with a `std_msgs/Header`, nanoseconds.

    In CDR (OMG, DDS-XTypes 1.3, 7.6.3.1.2) four bytes come first; the lowest bit of the second is the byte order.

    Raises:
        struct.error, IndexError: the message is too short.
    """
    seconds, nanosec = struct.unpack_from("<iI" if message[1] & 1 else ">iI", message, 4)
    return seconds * 10**9 + nanosec


def nanoseconds(stamp: Any) -> int:
    """Return a `builtin_interfaces` Time or Duration in nanoseconds."""
    return stamp.sec * 10**9 + stamp.nanosec
