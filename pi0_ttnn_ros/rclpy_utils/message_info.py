"""What the middleware says about a message beside its content: when it was sent, above all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.subscription import Subscription

MessageInfo = Mapping[str, int]


def with_info(callback: Callable[[Any, MessageInfo], None]) -> Callable[..., None]:
    """Return a subscription's callback that passes on each message with what is known about it."""
    if hasattr(Subscription, "CallbackType"):
        return callback
    return lambda message: callback(message, {})  # rclpy of Humble passes on the message only


def age_ns(info: MessageInfo) -> int:
    """Return the nanoseconds since a message was sent; 0 if that is not known.

    It may have waited in its queue for as long as the node was kept from running: stopped in a debugger, suspended,
    swapped out. The age is the difference of the clocks of sender and receiver, but not below 0.
    """
    now_ns = time.time_ns()
    return max(0, now_ns - info.get("source_timestamp", now_ns))
