"""Subscribe to a topic whose publishers may latch their last message, or may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.subscription import Subscription, SubscriptionEventCallbacks


class LatchedOrNot:
    """A subscription to publishers that latch and to those that do not.

    The one to latched messages is added by `update`, once there is a publisher that latches. Not before: beside a
    publisher that does not latch, such as a plain `ros2 topic pub`, it would make both sides warn of incompatible QoS,
    although the other subscription receives its messages. A message of a publisher that latches may come twice.
    """

    def __init__(
        self,
        node: Node,
        message_type: type,
        topic: str,
        callback: Callable[..., None],
        depth: int = 1,
        callback_group: CallbackGroup | None = None,
    ) -> None:
        self._node = node
        self._type, self._topic, self._callback = message_type, node.resolve_topic_name(topic), callback
        self._depth = depth
        self._options: dict[str, Any] = {"callback_group": callback_group}
        self._subscriptions: list[Subscription] = [
            node.create_subscription(message_type, topic, callback, depth, **self._options)
        ]
        self.update()

    def update(self) -> None:
        """Subscribe to latched messages as well, once there is a publisher that latches."""
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        latching = any(info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for info in publishers)
        if latching and len(self._subscriptions) == 1:
            latched = QoSProfile(depth=self._depth, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            silent = SubscriptionEventCallbacks(incompatible_qos=lambda _: None)
            options = self._options | {"event_callbacks": silent}
            self._subscriptions.append(
                self._node.create_subscription(self._type, self._topic, self._callback, latched, **options)
            )

    def close(self) -> None:
        """Destroy the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
