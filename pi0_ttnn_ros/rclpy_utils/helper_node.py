"""A node beside another one, for what that one cannot do while it is in a callback."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from rclpy.parameter import Parameter


def helper_node(node: Node, suffix: str, **parameters: Any) -> Node:
    """Return a node named as `node` with a suffix. It has these parameters, and offers no services."""
    given = {"start_type_description_service": False} | parameters
    return Node(
        f"{node.get_name()}_{suffix}",
        context=node.context,
        namespace=node.get_namespace(),
        use_global_arguments=False,
        parameter_overrides=[Parameter(name, value=value) for name, value in given.items()],
        start_parameter_services=False,
        enable_rosout=False,
    )
